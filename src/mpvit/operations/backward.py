"""The multiply-adds of a backward pass, from those of the forward pass.

Of Y = X·W the backward pass takes dX = dY·Wᵀ and dW = Xᵀ·dY: two sums of products as large as the forward one. The same
holds for convolutions, each group on its own, so forward and backward are 3 x forward however many groups there are;
torch 2.13's ``FlopCounterMode`` leaves the groups out of the weight's gradient and says 66 x for 64 of them. Fused
attention is two products, whose backward pass takes four; a kernel that computes the scores again, as torch's counter
assumes, takes a fifth, which is a choice of the kernel and left out.
"""

from collections.abc import Sequence
from typing import Protocol

from mpvit.operations import Shape


class Multiplying(Protocol):
    """A call of a trace or an operation of a tree: its multiply-adds, and the parameters and buffers that it reads."""

    @property
    def macs(self) -> int:
        """Of one call."""

    @property
    def weights(self) -> tuple[Shape, ...]:
        """Their shapes."""


def backward_macs(calls: Sequence[Multiplying]) -> list[int]:
    """Return the backward pass's multiply-adds of each of ``calls``, which are all of a forward pass, in order.

    Every parameter needs a gradient and the network's inputs need none: nothing is taken for a call before the first that
    reads a parameter, and that one takes its weight's gradient alone. What comes after it is taken to depend on it, as a
    trace does not say what a tensor comes from: a second layer on the inputs themselves, and a product with a buffer
    (performer's directions), are charged one gradient too many.
    """
    found: list[int] = []
    learned_before = False
    for call in calls:
        found.append(call.macs * (learned_before + bool(learned_before or call.weights)))
        learned_before = learned_before or bool(call.weights)
    return found
