"""ptflops, with its two backends: ``pytorch`` (hooks and patched functions) and ``aten`` (dispatched operators).

It takes one tensor, or several by the names that the forward pass has for them.
"""

import contextlib
import inspect
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mpvit.counting.by_module import annotated, charged
from mpvit.counting.isolation import isolated, throwaway
from mpvit.counting.results import Counted


def run_pytorch(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module by the backend ``pytorch``, on the CPU."""
    return _run(model, inputs, "pytorch")


def run_aten(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module by the backend ``aten``, on the CPU."""
    return _run(model, inputs, "aten")


def _run(model: nn.Module, inputs: Sequence[Tensor], backend: str) -> Counted:
    with isolated(f"ptflops-{backend}"), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()) as printed:
        from ptflops import get_model_complexity_info

        network, tensors = throwaway(model, inputs, "cpu")
        hooked = annotated(network, "__flops__")
        others = charged(network, _dispatched if backend == "aten" else _patched)
        given = tensors[0] if len(tensors) == 1 else _named(network, tensors)
        macs, params = get_model_complexity_info(
            network,
            tuple(tensors[0].shape[1:]) or (1,),
            print_per_layer_stat=False,
            as_strings=False,
            input_constructor=lambda _: given,
            backend=backend,
        )
        if macs is None:
            reason = printed.getvalue().partition("exception: \n")[2].partition("\n")[0]
            raise RuntimeError(reason or "it could not run the network")
        return Counted(macs, params, hooked + others)


def _named(network: nn.Module, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return ``tensors`` by the names that they have for ``network``; what it takes as ``*args`` gets names here."""
    own = network.forward
    parameters = inspect.signature(own).parameters
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters.values()):
        network.forward = lambda **named: own(*named.values())
        return {f"argument_{index}": tensor for index, tensor in enumerate(tensors)}
    return dict(zip(parameters, tensors, strict=False))


def _patched() -> int:
    """Return what it has counted by now of the functions that it has put its own in the place of: it keeps two lists."""
    return int(sum(torch.nn.functional.relu.collector) + sum(torch.add.collector))  # type: ignore[attr-defined]


def _dispatched() -> int:
    """Return what its counter of operators has counted by now."""
    counter: Any = _get_current_dispatch_mode()
    return sum(counter.flop_counts["Global"].values())
