"""What a pass must compute and move, in closed form, and the two ceilings of a machine that it runs under.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", CACM 52 (2009). Work is in
multiply-adds (MACs), so intensities are in MACs per byte: half of what is called FLOP per byte.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from mpvit.measurement import Measurement
from mpvit.operations import Block, Operation, walk
from mpvit.operations.backward import backward_macs
from mpvit.operations.conventions import tally
from mpvit.units import ITEM_BYTES


@dataclass(frozen=True, slots=True)
class Work:
    """Multiply-adds, convention ``exact``, and the bytes of every operation's inputs, weights and outputs.

    Each operation is taken on its own: nothing is fused with its neighbours or found in a cache. Layout changes are left
    out.
    """

    macs: int
    moved_bytes: int

    @property
    def intensity(self) -> float:
        """MACs per byte."""
        return self.macs / self.moved_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What the machine has shown that it can do: a large matrix product and a large copy, measured in the same run.

    Attributes:
        product: the matrix product's measurement.
        product_macs: its multiply-adds.
        copy: the copy's measurement.
        copy_bytes: bytes read and written by it.
    """

    product: Measurement
    product_macs: int
    copy: Measurement
    copy_bytes: int

    @property
    def macs_per_s(self) -> float | None:
        """Of the fastest sample; None where there is none."""
        return self.product_macs / min(self.product.samples_s) if self.product.samples_s else None

    @property
    def bytes_per_s(self) -> float | None:
        """Of the fastest sample; None where there is none."""
        return self.copy_bytes / min(self.copy.samples_s) if self.copy.samples_s else None

    def fastest_s(self, work: Work) -> float | None:
        """Return the seconds that ``work`` takes at the lower of the two ceilings; None where one is unknown."""
        if self.macs_per_s is None or self.bytes_per_s is None:
            return None
        return max(work.macs / self.macs_per_s, work.moved_bytes / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Timed:
    """A piece of work, how long it took, and the ceilings that it ran under; each property is None where it is unknown."""

    work: Work
    measurement: Measurement
    ceilings: Ceilings

    @property
    def macs_per_s(self) -> float | None:
        """Multiply-adds of the closed form over the median latency."""
        return self._rate(self.work.macs)

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes that the operations move, one by one, over the median latency."""
        return self._rate(self.work.moved_bytes)

    @property
    def share_of_product(self) -> float | None:
        """MAC/s as a share of the matrix product's."""
        return _share(self.macs_per_s, self.ceilings.macs_per_s)

    @property
    def share_of_copy(self) -> float | None:
        """Bytes/s as a share of the copy's; above 1 where neighbours share what one of them has brought."""
        return _share(self.bytes_per_s, self.ceilings.bytes_per_s)

    @property
    def share_of_roof(self) -> float | None:
        """The least time under both ceilings as a share of the median latency."""
        return _share(self.ceilings.fastest_s(self.work), self.measurement.median_s)

    def _rate(self, amount: int) -> float | None:
        return _share(amount, self.measurement.median_s)


def network_work(tree: Block, dtype: str, *, backward: bool = False) -> Work:
    """Return the work of one pass through a network's tree (``mpvit.closed_form.network``) on its own batch and size.

    ``backward`` adds the gradients' multiply-adds (``mpvit.operations.backward``), moving twice what the forward pass
    moves. The backward pass of norms is left out of the MACs.
    """
    moved = moved_elements(operation for _, _, operation in walk(tree))
    macs = tally(tree, "exact").cost.macs
    if backward:
        macs += sum(backward_macs([operation for _, _, operation in walk(tree) if operation.calls]))
        moved *= 3
    return Work(macs, moved * ITEM_BYTES[dtype])


def least_bytes(tree: Block, dtype: str, *, backward: bool = False) -> int:
    """Return the bytes that a pass holds at once at the least: weights and the largest operation's input and output.

    ``backward`` keeps every convolution's, linear layer's and matmul's output until its gradient has been taken.
    """
    operations = [operation for _, _, operation in walk(tree)]
    params = sum(operation.params for operation in operations)
    largest = max(prod(operation.input_shape) + prod(operation.output_shape) for operation in operations)
    kept = sum(operation.activations for operation in operations) if backward else 0
    return (params + max(largest, kept)) * ITEM_BYTES[dtype]


def operations_work(operations: Sequence[Operation], dtype: str) -> Work:
    """Return the work of some operations of a network's tree."""
    children: dict[str, Operation | Block] = {str(index): operation for index, operation in enumerate(operations)}
    return Work(tally(Block(children), "exact").cost.macs, moved_elements(operations) * ITEM_BYTES[dtype])


def moved_elements(operations: Iterable[Operation]) -> int:
    """Return how many numbers all calls of ``operations`` read and write."""
    return sum(operation.calls * (operation.elements_read + operation.elements_written) for operation in operations)


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
