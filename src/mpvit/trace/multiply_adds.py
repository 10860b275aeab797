"""The multiply-adds of a call of a torch function, from the shapes of its operands and its result."""

from collections.abc import Callable, Sequence
from math import prod

from mpvit.operations import Shape


def multiplies(operator: str) -> bool:
    """Tell whether ``operator`` is a product, or a sum of products."""
    return operator == "einsum" or operator in _FORMULAS


def multiply_adds(operator: str, operands: Sequence[Shape], output: Shape, equation: str = "") -> int | None:
    """Return the multiply-adds of one call of ``operator``; None if there is no formula for it.

    ``operands`` are the shapes of the tensors that it takes, in the order of its parameters; ``equation`` is an einsum's.
    """
    if operator == "einsum":
        return _einsum(equation, operands)
    formula = _FORMULAS.get(operator)
    return None if formula is None else formula(operands, output)


def axis_lengths(equation: str, operands: Sequence[Shape]) -> dict[str, int]:
    """Return the length of the axis of each letter of an einsum's ``equation`` without dots."""
    lengths: dict[str, int] = {}
    letters = equation.partition("->")[0].replace(",", "")
    for letter, length in zip(letters, (length for shape in operands for length in shape), strict=True):
        lengths[letter] = max(lengths.get(letter, 1), length)
    return lengths


def _einsum(equation: str, operands: Sequence[Shape]) -> int | None:
    """Return the product of all axes that are not summed inside one operand; torch orders three operands and more itself."""
    terms, arrow, result = equation.partition("->")
    words = terms.split(",")
    if not arrow or "." in equation or any(len(set(word)) < len(word) for word in words):
        return None
    if len(words) == 1:
        return 0
    if len(words) > 2:  # noqa: PLR2004
        return None
    kept = (set(words[0]) & set(words[1])) | set(result)
    return prod(length for letter, length in axis_lengths(equation, operands).items() if letter in kept)


def _attention(operands: Sequence[Shape], output: Shape) -> int:
    query, key, value = operands[:3]  # (..., L, E), (..., S, E), (..., S, V)
    return prod(output[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(operands: Sequence[Shape], _: Shape) -> int:
    """Multiply each step by each weight matrix once; the inputs are the first operand, and states have three axes."""
    return prod(operands[0][:-1]) * sum(prod(weight) for weight in operands[1:] if len(weight) == 2)  # noqa: PLR2004


_Formula = Callable[[Sequence[Shape], Shape], int]

_FORMULAS: dict[str, _Formula] = {
    # the weight is (out, in / groups, taps...), transposed (in, out / groups, taps...)
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), lambda operands, output: prod(output) * prod(operands[1][1:])),
    **{f"conv_transpose{axes}d": lambda operands, _: prod(operands[0]) * prod(operands[1][1:]) for axes in (1, 2, 3)},
    "linear": lambda operands, output: prod(output) * operands[1][-1],
    **dict.fromkeys(
        ("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "vdot", "inner", "linalg_vecdot"),
        lambda operands, output: prod(output) * operands[0][-1],
    ),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), lambda operands, output: prod(output) * operands[1][-1]),
    "addbmm": lambda operands, _: prod(operands[1]) * operands[2][-1],  # (B, n, k) and (B, k, m)
    **dict.fromkeys(("outer", "ger"), lambda _, output: prod(output)),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
}
