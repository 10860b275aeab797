"""The multiply-adds of a backward pass, from those of the forward pass.

Of Y = X·W the backward pass takes dX = dY·Wᵀ and dW = Xᵀ·dY: two sums of products as large as the forward one. The same
holds for convolutions, each group on its own, so forward and backward are 3 x forward however many groups there are;
torch 2.13's ``FlopCounterMode`` leaves the groups out of the weight's gradient and says 66 x for 64 of them. Fused
attention is two products, whose backward pass takes four; a kernel that computes the scores again, as torch's counter
assumes, takes a fifth, which is a choice of the kernel and left out.
"""

from collections.abc import Sequence

from mpvit.operations import Operation


def backward_macs(operations: Sequence[Operation]) -> list[int]:
    """Return the backward pass's multiply-adds of each of ``operations``, which are all of a forward pass, in order.

    Every parameter needs a gradient, buffers and the network's inputs need none. Nothing is taken for an operation before the
    first that reads a parameter, and that one takes its weight's gradient alone; what comes after depends on it. Of any
    other network the backward pass must run: ``mpvit.trace.backward``.
    """
    found: list[int] = []
    learned_before = False
    for operation in operations:
        of_second = not operation.buffers if operation.weights else learned_before
        found.append(operation.macs * (learned_before + of_second))
        learned_before = learned_before or of_second
    return found
