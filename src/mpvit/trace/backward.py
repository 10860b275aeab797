"""The multiply-adds of a network's backward pass: it runs, and each product that it dispatches is counted.

A product belongs to the call whose gradient it computes. autograd numbers its nodes in the order of their creation, so a
node belongs to the first call that ended after the node was made. What runs again, as in checkpointing, belongs to itself.
"""

import contextlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mpvit.trace import ELEMENTWISE_PRODUCT
from mpvit.trace.call_log import CallLog, CallSite, autograd_nodes
from mpvit.trace.dispatched_operators import FUSED, operator_macs
from mpvit.trace.functions import SUMLESS_PRODUCTS, opened, operator_of


def backward_macs(model: nn.Module, results: Sequence[Tensor], log: CallLog) -> dict[CallSite, int]:
    """Return the multiply-adds of the backward pass of ``results`` by call site; gradients are as before afterwards.

    ``log`` has the calls of the forward pass. There are none if no result depends on a parameter that takes a gradient.
    """
    results = [tensor for tensor in results if tensor.requires_grad]
    if not results:
        return {}
    gradients = _GradientMode(log)
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with gradients, _RerunMode(gradients):
            torch.autograd.backward(results, [torch.ones_like(tensor) for tensor in results])
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
    return dict(gradients.macs)


class _GradientMode(TorchDispatchMode):
    """Adds up the multiply-adds of the dispatched operators by call site."""

    def __init__(self, log: CallLog) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: Counter[CallSite] = Counter()
        self._stack = log.stack
        self._ends = [end for end, _ in log.nodes]
        self._sites = [site for _, site in log.nodes] or [("", "")]
        self._running = False
        self._rerun = ""

    @contextlib.contextmanager
    def rerun(self, operator: str) -> Iterator[None]:
        """Run a call that the backward pass makes: one of the forward pass again, or one of a gradient formula."""
        self._rerun = operator
        try:
            yield
            self._ends.append(autograd_nodes())
            self._sites.append(self._site())
        finally:
            self._rerun = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        outermost, self._running = not self._running, True
        try:
            out = func(*args, **(kwargs or {}))
        finally:
            self._running = not outermost
        if outermost:
            name = func.overloadpacket.__name__
            formula = _GRADIENTS.get(name)
            macs = formula(args) if formula else operator_macs(name, args, out)
            site = self._site() if macs else None
            if site and (name != ELEMENTWISE_PRODUCT or self._is_outer_product(site)):
                self.macs[site] += macs
        return out

    def _site(self) -> CallSite:
        running = self._stack.innermost
        if running and self._rerun:
            return running.path, self._rerun
        node = torch._C._current_autograd_node()  # noqa: SLF001 - no public name
        number = node._sequence_nr() if node else 0  # noqa: SLF001
        return self._sites[min(bisect_right(self._ends, number), len(self._sites) - 1)]

    def _is_outer_product(self, site: CallSite) -> bool:
        """Tell whether an elementwise product is the gradient of a product, for which torch dispatches no other operator."""
        node = torch._C._current_autograd_node()  # noqa: SLF001
        return site[1] in SUMLESS_PRODUCTS or (node is not None and node.name().removesuffix("0") in _OF_VECTORS)


_OF_VECTORS = ("MvBackward", "AddmvBackward", "DotBackward", "VdotBackward")
"""Nodes of products with a vector: one of their gradients is an outer product, or a vector times a number."""


class _RerunMode(TorchFunctionMode):
    """Names each function that the backward pass calls."""

    def __init__(self, gradients: _GradientMode) -> None:
        super().__init__()
        self.gradients = gradients

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func in {functional.multi_head_attention_forward, torch.autograd.backward}:
            with self:
                return opened(func)(*args, **kwargs)
        with self.gradients.rerun(operator_of(func, args, kwargs)):
            return func(*args, **kwargs)


def _convolution(args: Sequence[Any]) -> int:
    """Return the multiply-adds of the gradients that are needed, of the input and the weight; that of a bias is a sum."""
    gradient, data, weight, transposed, asked = args[0], args[1], args[2], args[7], args[10]
    return (data if transposed else gradient).numel() * prod(weight.shape[1:]) * sum(asked[:2])


def _attention(args: Sequence[Any]) -> int:
    """Return the multiply-adds of the four products of the gradients; a kernel that recomputes the scores has a fifth."""
    query, key, value = (each.shape for each in args[1:4])
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


_GRADIENTS: dict[str, Callable[[Sequence[Any]], int]] = {
    "convolution_backward": _convolution,
    **{f"_scaled_dot_product_{kind}_backward": _attention for kind in FUSED},
}
"""The operators that compute gradients of products as a whole; other gradients are made of ``PRODUCTS``."""
