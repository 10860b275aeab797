"""``fvcore.nn.FlopCountAnalysis`` (0.1.5): handlers for the operators of a JIT trace; its "FLOP" is a multiply-add.

It drops operators whose result is never used, and takes convolutions padded by a word ("same") for unknown ones: a trace
does not tell either.
"""

from collections.abc import Iterator
from math import prod

from mpvit.reconcile import Rule, Term, left_out, right
from mpvit.trace import Call, Trace

_COUNTED = ("linear", "einsum", "matmul", "mm", "bmm", "addmm")
_EXACT_EQUATIONS = ("abc,abd->acd", "abc,adc->adb")
"""For these two, batched products of matrices, it has formulas of its own."""

_NORMS = ("layer_norm", "group_norm", "instance_norm")
_UPSAMPLED = {"interpolate nearest": 1, "interpolate bilinear": 4}


def _macs(trace: Trace) -> Iterator[Term]:
    for call in trace.calls:
        affine = bool(trace.modules[call.module].parameters)
        if call.operator == "batch_norm":
            yield Term("batch norm", (1 + affine) * call.elements, "2 an element: at inference a scale and a shift")
        elif call.operator in _NORMS:
            yield Term(f"{call.operator.replace('_', ' ')}", (4 + affine) * call.elements, "5 an element, its own estimate")
        elif call.operator == "adaptive_avg_pool2d":
            yield Term("adaptive pooling", prod(call.operands[0]), "1 an input element")
        elif call.operator in _UPSAMPLED:
            yield Term(
                "upsampling", _UPSAMPLED[call.operator] * call.elements, "1 an output element, bilinear 4, in 2 dimensions"
            )
        elif call.operator == "einsum":
            yield Term(
                "einsum rounding",
                einsum_flops(call) // 2 - call.macs,
                "half of numpy's printed 'Optimized FLOP count', which keeps four significant digits",
            )
        elif call.operator in ("matmul", "mm"):
            left, right_operand = call.operands[:2]
            counted = prod(left) * right_operand[-1]
            yield Term("broadcast product", counted - call.macs, "left operand times columns, whatever the right one repeats")
    unknown = [call for call in trace.calls if not call.is_convolution and call.operator not in _COUNTED]
    yield from left_out(unknown, "no handler for this operator: it stands under unsupported_ops()")


def einsum_flops(call: Call) -> int:
    """Return numpy's ``einsum_path`` FLOP count as it prints it, in whole numbers.

    Of one or two operands it is 2 an element of the product of all axes where one is summed over, else 1; what numpy prints
    is one more. More operands, and what an equation leaves out, are numpy's business.
    """
    terms, arrow, result = call.equation.partition("->")
    if not call.equation:
        return 2 * call.macs
    if not arrow or "." in terms or len(call.operands) > 2:  # noqa: PLR2004
        return _numpys_flops(call)
    sizes: dict[str, int] = {}
    for letter, size in zip(terms.replace(",", ""), (size for shape in call.operands for size in shape), strict=True):
        sizes[letter] = max(sizes.get(letter, 1), size)
    flops = prod(sizes.values()) * (2 if set(sizes) - set(result) else 1)
    if call.equation in _EXACT_EQUATIONS:
        return flops
    return int(float(f"{flops + 1:.3e}"))


def _numpys_flops(call: Call) -> int:
    import numpy as np

    operands = [np.broadcast_to(0.0, shape) for shape in call.operands]  # shapes without memory
    printed = np.einsum_path(call.equation, *operands, optimize="optimal")[1]
    (line,) = [line for line in printed.splitlines() if "optimized flop" in line.lower()]
    return int(float(line.partition(":")[2]))


RULE = Rule(_macs, right, "fvcore/nn/flop_count.py and jit_handles.py")
