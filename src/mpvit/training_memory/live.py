"""Memory of a training step of any network, measured by hooks of autograd.

The step runs on torch's fake tensors, which have the same kernels as the CPU (such as fused attention) without data. It runs
on the CPU itself if the network cannot run on fake tensors, under autocast (fake tensors give the statistics of norms the
wrong dtype, bfloat16), and for functions with another kernel on the CPU (``_CPU_KERNELS``).
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from mpvit.errors import MpvitError
from mpvit.measurement.machine import shortage
from mpvit.trace.arguments import results_in
from mpvit.trace.user_model import trace_user_model
from mpvit.training_memory import (
    ActivationBytes,
    MemoryOptions,
    ParameterBytes,
    TrainingMemory,
    transient_bytes,
    with_largest_batch,
)
from mpvit.user_model import UserModel
from mpvit.user_model.making import on_cpu, running, without_parameters


def saved_bytes(model: nn.Module, inputs: Sequence[Tensor], *, autocast: bool = False) -> int:
    """Return the bytes of the storages that autograd saves of ``model(*inputs)``, each once, without parameters.

    A view keeps its whole storage. ``autocast`` runs in bfloat16 by the rules of the CPU; the meta device has no such rules.
    Errors of the forward pass are raised unchanged.
    """
    return _saved_bytes(lambda: model(*inputs), list(model.parameters()), autocast=autocast)[0]


def _saved_bytes(call: Callable[[], Any], parameters: Sequence[Tensor], *, autocast: bool) -> tuple[int, Any]:
    """Return the bytes that autograd saves of ``call``, and its result."""
    known = {_identity(parameter) for parameter in parameters}
    saved: dict[int, torch.UntypedStorage] = {}

    def save(tensor: Tensor) -> Tensor:
        if _identity(tensor) not in known:
            saved[_identity(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), saved_tensors_hooks(save, lambda tensor: tensor):
        out = call()
    return sum(storage.nbytes() for storage in saved.values()), out


def _identity(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # noqa: SLF001 - a meta tensor has no address


def training_memory(model: UserModel, options: MemoryOptions) -> TrainingMemory:
    """Return the memory of a training step of a user's network; the first length of each input is the batch.

    Raises ``MpvitError`` if the step fails.
    """

    def measure(batch: int) -> ActivationBytes:
        inputs = tuple(each._replace(shape=(batch, *each.shape[1:])) for each in model.inputs)
        return _step(model._replace(inputs=inputs), options)[1]

    parameters, activations = _step(model, options)
    shapes = tuple(each.shape for each in model.inputs)
    memory = TrainingMemory(
        model=model.name, input_shapes=shapes, options=options, parameters=parameters, activations=activations
    )
    return with_largest_batch(memory, measure)


def _step(model: UserModel, options: MemoryOptions) -> tuple[ParameterBytes, ActivationBytes]:
    """Run one training step and return its memory."""
    transient = transient_bytes(trace_user_model(model).trace.calls, options.dtype)
    if not options.autocast:
        with contextlib.suppress(MpvitError):
            parameters, saved = _on_fake_tensors(model, options)
            return parameters, ActivationBytes(saved, transient)
        model.note(f"{model.name}: its training step runs on the CPU, not on torch's fake tensors")
    parameters, saved = _on_cpu(model, options)
    return parameters, ActivationBytes(saved, transient)


def _on_fake_tensors(model: UserModel, options: MemoryOptions) -> tuple[ParameterBytes, int]:
    network = without_parameters(model).train()
    with running(model, " in training"), FakeTensorMode(allow_non_fake_inputs=True) as mode, _RefusesCpuKernels():
        fakes = {name: _fake(mode, tensor) for name, tensor in _registered(network).items()}
        return _forward_and_backward(model, network, fakes, options)


def _on_cpu(model: UserModel, options: MemoryOptions) -> tuple[ParameterBytes, int]:
    """Run the step with data; raise ``MpvitError`` if there is no memory for the parameters and their gradients."""
    shapes = without_parameters(model)
    if short := shortage(2 * _nbytes(list(shapes.parameters()))):
        raise MpvitError(f"{model.name} must run a training step on the CPU: {short}")
    network = on_cpu(model).train()
    with running(model, " in training"):
        return _forward_and_backward(model, network, _registered(network), options)


_CPU_KERNELS = frozenset({"lstm", "embedding_bag"})
"""Functions whose CPU kernel saves more than the kernel for fake tensors."""


class _RefusesCpuKernels(TorchFunctionMode):
    """Raises if a function of ``_CPU_KERNELS`` is called."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if getattr(func, "__name__", "") in _CPU_KERNELS:
            raise NotImplementedError(f"{func.__name__} has another kernel on the CPU")
        return func(*args, **(kwargs or {}))


def _fake(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """Return the fake CPU tensor for a tensor on the CPU or on the meta device."""
    if not tensor.is_meta:
        return mode.from_tensor(tensor)
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu", requires_grad=tensor.requires_grad
    )


def _registered(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers by name, each once."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _forward_and_backward(
    model: UserModel, network: nn.Module, tensors: Mapping[str, Tensor], options: MemoryOptions
) -> tuple[ParameterBytes, int]:
    """Run ``network`` with ``tensors`` as its parameters and buffers."""
    inputs = tuple(model.tensors("cpu"))
    parameters = [tensors[name] for name, _ in network.named_parameters()]
    saved, out = _saved_bytes(lambda: functional_call(network, dict(tensors), inputs), parameters, autocast=options.autocast)
    results = [tensor for tensor in results_in(out) if tensor.requires_grad]
    if not results:
        raise MpvitError(f"{model.name} failed in training: no output depends on a parameter that requires a gradient")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    ones = [torch.ones_like(tensor) for tensor in results]
    gradients = [each for each in torch.autograd.grad(results, trained, ones, allow_unused=True) if each is not None]
    count = sum(each.numel() for each in parameters)
    return ParameterBytes(count, _nbytes(parameters), _nbytes(gradients), len(gradients)), saved


def _nbytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
