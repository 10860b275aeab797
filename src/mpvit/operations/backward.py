"""Multiply-adds of a backward pass, from those of the forward pass.

For Y = X·W the backward pass computes dX = dY·Wᵀ and dW = Xᵀ·dY: two products as large as the forward one. The same holds for
convolutions with any number of groups, so forward and backward together are 3 x forward. torch 2.13's ``FlopCounterMode``
ignores the groups in the gradient of the weight and counts 66 x for 64 groups. Fused attention has two products forward and
four backward. Some kernels compute the scores again, a fifth product that torch's counter includes; it is left out here.
"""

from collections.abc import Sequence

from mpvit.operations import Operation


def backward_macs(operations: Sequence[Operation]) -> list[int]:
    """Return the backward multiply-adds of each of ``operations``, which are all operations of a forward pass, in order.

    Every parameter needs a gradient; buffers and the network's inputs need none. Operations before the first one with a
    parameter have no backward pass, and the first one computes only the gradient of its weight. All later operations depend on
    a parameter, which need not hold for other networks: ``mpvit.trace.backward`` runs their backward pass.
    """
    found: list[int] = []
    first_needs = False  # whether the first operand needs a gradient
    for operation in operations:
        second_needs = not operation.buffers if operation.weights else first_needs
        found.append(operation.macs * (first_needs + second_needs))
        first_needs = first_needs or second_needs
    return found
