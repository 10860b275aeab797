"""The multiply-adds of a call of a torch function, from the shapes that it is given and gives."""

from collections.abc import Callable, Sequence
from math import prod

from mpvit.operations import Shape

BIASED = {f"conv{kind}{axes}d": 2 for kind in ("", "_transpose") for axes in (1, 2, 3)} | {"linear": 2, "bilinear": 3}
"""The operators that take a bias, and its place among their parameters."""


def multiplies(operator: str) -> bool:
    """Tell whether ``operator`` is a product, or a sum of them."""
    return operator == "einsum" or operator in _FORMULAS


def multiply_adds(operator: str, given: Sequence[Shape], output: Shape, equation: str = "") -> int | None:
    """Return the multiply-adds of one call of ``operator``; None where there is no formula for it.

    ``given`` are the shapes of the tensors that it takes, in the order of its parameters; ``equation`` is an einsum's.
    """
    if operator == "einsum":
        return _einsum(equation, given)
    formula = _FORMULAS.get(operator)
    return None if formula is None else formula(given, output)


def _einsum(equation: str, given: Sequence[Shape]) -> int | None:
    """Of two operands: what neither sums over alone, multiplied. Three and more are multiplied in an order of torch's own."""
    terms, arrow, result = equation.partition("->")
    words = terms.split(",")
    if not arrow or "." in equation or any(len(set(word)) < len(word) for word in words):
        return None
    if len(words) == 1:
        return 0
    if len(words) > 2:  # noqa: PLR2004
        return None
    sizes: dict[str, int] = {}
    for letter, size in zip("".join(words), (size for shape in given for size in shape), strict=True):
        sizes[letter] = max(sizes.get(letter, 1), size)
    together = (set(words[0]) & set(words[1])) | set(result)
    return prod(size for letter, size in sizes.items() if letter in together)


def _convolution(given: Sequence[Shape], output: Shape) -> int:
    return prod(output) * prod(given[1][1:])  # the weight is (out, in / groups, taps...)


def _transposed_convolution(given: Sequence[Shape], _: Shape) -> int:
    return prod(given[0]) * prod(given[1][1:])  # the weight is (in, out / groups, taps...)


def _linear(given: Sequence[Shape], output: Shape) -> int:
    return prod(output) * given[1][-1]


def _product(given: Sequence[Shape], output: Shape) -> int:
    return prod(output) * given[0][-1]


def _product_and_sum(given: Sequence[Shape], output: Shape) -> int:
    return prod(output) * given[1][-1]


def _sum_of_products(given: Sequence[Shape], _: Shape) -> int:
    return prod(given[1]) * given[2][-1]  # (B, n, k) and (B, k, m)


def _outer(_: Sequence[Shape], output: Shape) -> int:
    return prod(output)


def _attention(given: Sequence[Shape], output: Shape) -> int:
    query, key, value = given[:3]  # (..., L, E), (..., S, E), (..., S, V)
    return prod(output[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(given: Sequence[Shape], _: Shape) -> int:
    """Each step multiplies by each weight matrix once: of what is given first come the inputs, states have three axes."""
    return prod(given[0][:-1]) * sum(prod(weight) for weight in given[1:] if len(weight) == 2)  # noqa: PLR2004


_FORMULAS: dict[str, Callable[[Sequence[Shape], Shape], int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed_convolution),
    "linear": _linear,
    **dict.fromkeys(("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "vdot", "inner", "linalg_vecdot"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _product_and_sum),
    "addbmm": _sum_of_products,
    **dict.fromkeys(("outer", "ger"), _outer),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
}
