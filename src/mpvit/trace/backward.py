"""The multiply-adds of a live network's backward pass: it runs, and each product that it dispatches is written down.

A product belongs to the call whose gradient it takes: autograd numbers its nodes in the order in which they are made, so a
node belongs to the first call that ended after it was made. What is run again, as by checkpointing, belongs to itself.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mpvit.trace import ELEMENTWISE_PRODUCT
from mpvit.trace.dispatched import FUSED, multiply_adds
from mpvit.trace.functions import SUMLESS_PRODUCTS, opened, operator_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

CallSite = tuple[str, str]
"""A path of module calls, and the operator that is called there."""


def backward_macs(
    model: nn.Module, results: Sequence[Tensor], made: Sequence[tuple[int, CallSite]], path: Callable[[], str | None]
) -> dict[CallSite, int]:
    """Return the multiply-adds of the backward pass of ``results``, by site; the gradients are given up again.

    ``made`` has each call of the forward pass with the number of autograd's nodes that were made by its end; ``path`` says
    which module's forward is running, None outside of all. Nothing is taken where no result depends on what is learned.
    """
    results = [tensor for tensor in results if tensor.requires_grad]
    if not results:
        return {}
    gradients = _Gradients(made, path)
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with gradients, _RunAgain(gradients):
            torch.autograd.backward(results, [torch.ones_like(tensor) for tensor in results])
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
    return dict(gradients.macs)


class _Gradients(TorchDispatchMode):
    """Adds up the multiply-adds of what is dispatched."""

    def __init__(self, made: Sequence[tuple[int, CallSite]], path: Callable[[], str | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ends, self.sites = [end for end, _ in made], [site for _, site in made] or [("", "")]
        self.path = path
        self.operator = ""
        self.inside = False
        self.macs: Counter[CallSite] = Counter()

    @contextlib.contextmanager
    def again(self, operator: str) -> Iterator[None]:
        """Run a call of a function in the backward pass: one of the forward pass again, or one of a gradient's own."""
        self.operator = operator
        try:
            yield
            self.ends.append(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]  # noqa: SLF001 - no public name
            self.sites.append(self._site())
        finally:
            self.operator = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        outside, self.inside = not self.inside, True
        try:
            out = func(*args, **(kwargs or {}))
        finally:
            self.inside = not outside
        if outside:
            name = func.overloadpacket.__name__
            formula = _GRADIENTS.get(name)
            macs = formula(args) if formula else multiply_adds(name, args, out)
            site = self._site() if macs else None
            if site and (name != ELEMENTWISE_PRODUCT or self._is_product(site)):
                self.macs[site] += macs
        return out

    def _site(self) -> CallSite:
        path = self.path()
        if path is not None and self.operator:
            return path, self.operator
        node = torch._C._current_autograd_node()  # noqa: SLF001 - no public name
        number = node._sequence_nr() if node else 0  # noqa: SLF001
        return self.sites[min(bisect_right(self.ends, number), len(self.sites) - 1)]

    def _is_product(self, site: CallSite) -> bool:
        """Tell whether an elementwise product, which torch dispatches for an outer one, is one of a product's gradients."""
        node = torch._C._current_autograd_node()  # noqa: SLF001
        return site[1] in SUMLESS_PRODUCTS or (node is not None and node.name().removesuffix("0") in _OF_VECTORS)


_OF_VECTORS = ("MvBackward", "AddmvBackward", "DotBackward", "VdotBackward")
"""Nodes of products with a vector, one of whose gradients is an outer product or a vector times a number."""


class _RunAgain(TorchFunctionMode):
    """Says which function the backward pass calls."""

    def __init__(self, gradients: _Gradients) -> None:
        super().__init__()
        self.gradients = gradients

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func in {functional.multi_head_attention_forward, torch.autograd.backward}:
            with self:
                return opened(func)(*args, **kwargs)
        with self.gradients.again(operator_of(func, args, kwargs)):
            return func(*args, **kwargs)


def _convolution(args: Sequence[Any]) -> int:
    """Return those of the gradients that are asked for, of the input and of the weight; a bias's is a sum."""
    gradient, data, weight, transposed, asked = args[0], args[1], args[2], args[7], args[10]
    return (data if transposed else gradient).numel() * prod(weight.shape[1:]) * sum(asked[:2])


def _attention(args: Sequence[Any]) -> int:
    """Return those of the four products of the gradients; a kernel that computes the scores again takes a fifth."""
    query, key, value = (each.shape for each in args[1:4])
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


_GRADIENTS: dict[str, Callable[[Sequence[Any]], int]] = {
    "convolution_backward": _convolution,
    **{f"_scaled_dot_product_{kind}_backward": _attention for kind in FUSED},
}
"""The operators that take gradients of products by themselves; any other gradient is one of ``dispatched.PRODUCTS``."""
