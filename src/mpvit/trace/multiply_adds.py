"""The multiply-adds of a call of a torch function, from the shapes that it is given and gives."""

from collections.abc import Callable, Sequence
from math import prod

from mpvit.operations import Shape

BIASED = frozenset(
    {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "bilinear"}
)
"""The operators that take a bias."""


def multiply_adds(operator: str, given: Sequence[Shape], output: Shape, dispatched: int) -> int:
    """Return the multiply-adds of one call of ``operator``.

    ``given`` are the shapes of the tensors that it takes, in order; ``dispatched`` is what torch's dispatcher was seen to
    multiply inside it, which is the answer for an operator without a formula here.
    """
    formula = _FORMULAS.get(operator)
    return dispatched if formula is None else formula(given, output, dispatched)


def _convolution(given: Sequence[Shape], output: Shape, _: int) -> int:
    return prod(output) * prod(given[1][1:])  # the weight is (out, in / groups, taps...)


def _transposed_convolution(given: Sequence[Shape], _: Shape, __: int) -> int:
    return prod(given[0]) * prod(given[1][1:])  # the weight is (in, out / groups, taps...)


def _linear(given: Sequence[Shape], output: Shape, _: int) -> int:
    return prod(output) * given[1][-1]


def _product(given: Sequence[Shape], output: Shape, _: int) -> int:
    return prod(output) * given[0][-1]


def _product_and_sum(given: Sequence[Shape], output: Shape, _: int) -> int:
    return prod(output) * given[1][-1]


def _einsum(given: Sequence[Shape], output: Shape, dispatched: int) -> int:
    """Where nothing is summed over, torch multiplies elementwise: one product an output element."""
    return dispatched or (prod(output) if len(given) > 1 else 0)


def _attention(given: Sequence[Shape], output: Shape, _: int) -> int:
    query, key, value = given[:3]  # (..., L, E), (..., S, E), (..., S, V)
    return prod(output[:-1]) * key[-2] * (query[-1] + value[-1])


_FORMULAS: dict[str, Callable[[Sequence[Shape], Shape, int], int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed_convolution),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _product_and_sum),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
