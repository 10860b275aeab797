"""The roofline model: the work of a pass in closed form, and the two ceilings of the machine.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", CACM 52 (2009). Work is in
multiply-adds (MACs), so an intensity is in MACs per byte, half of the usual FLOP per byte.
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
    """Multiply-adds (convention ``exact``), and the bytes of the inputs, weights and outputs of all operations.

    The bytes are those of separate operations, without fusion and caches. Layout changes are left out.
    """

    macs: int
    moved_bytes: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, in MACs per byte."""
        return self.macs / self.moved_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """The ceilings of the machine: a large matrix product and a large copy, measured in the same run.

    Attributes:
        product: measurement of the matrix product.
        product_macs: multiply-adds of the matrix product.
        copy: measurement of the copy.
        copy_bytes: bytes that the copy reads and writes.
    """

    product: Measurement
    product_macs: int
    copy: Measurement
    copy_bytes: int

    @property
    def macs_per_s(self) -> float | None:
        """Rate of the fastest matrix product; None without samples."""
        return self.product_macs / min(self.product.samples_s) if self.product.samples_s else None

    @property
    def bytes_per_s(self) -> float | None:
        """Rate of the fastest copy; None without samples."""
        return self.copy_bytes / min(self.copy.samples_s) if self.copy.samples_s else None

    def fastest_s(self, work: Work) -> float | None:
        """Return the seconds that ``work`` takes at the lower of the two ceilings; None if one is unknown."""
        if self.macs_per_s is None or self.bytes_per_s is None:
            return None
        return max(work.macs / self.macs_per_s, work.moved_bytes / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """A piece of work, its time, and the ceilings of the machine; a property is None if it is unknown."""

    work: Work
    measurement: Measurement
    ceilings: Ceilings

    @property
    def macs_per_s(self) -> float | None:
        """Multiply-adds in closed form over the median latency."""
        return self._rate(self.work.macs)

    @property
    def bytes_per_s(self) -> float | None:
        """Moved bytes in closed form over the median latency."""
        return self._rate(self.work.moved_bytes)

    @property
    def share_of_product(self) -> float | None:
        """MAC/s as a share of those of the matrix product."""
        return _share(self.macs_per_s, self.ceilings.macs_per_s)

    @property
    def share_of_copy(self) -> float | None:
        """Bytes/s as a share of those of the copy; above 1 if operations find their inputs in a cache."""
        return _share(self.bytes_per_s, self.ceilings.bytes_per_s)

    @property
    def share_of_roof(self) -> float | None:
        """The shortest time under both ceilings as a share of the median latency."""
        return _share(self.ceilings.fastest_s(self.work), self.measurement.median_s)

    def _rate(self, amount: int) -> float | None:
        return _share(amount, self.measurement.median_s)


def network_work(tree: Block, dtype: str, *, backward: bool = False) -> Work:
    """Return the work of one forward pass of a network, given its tree (``mpvit.network.NamedNetwork.tree``).

    ``backward`` adds the backward pass: its multiply-adds (``mpvit.operations.backward``), without those of the norms, and
    twice the bytes of the forward pass.
    """
    moved = moved_elements(operation for _, _, operation in walk(tree))
    macs = tally(tree, "exact").cost.macs
    if backward:
        macs += sum(backward_macs([operation for _, _, operation in walk(tree) if operation.calls]))
        moved *= 3
    return Work(macs, moved * ITEM_BYTES[dtype])


def least_bytes(tree: Block, dtype: str, *, backward: bool = False) -> int:
    """Return the minimum peak memory of a pass: the weights, and the input and output of the largest operation.

    With ``backward``, the outputs of all convolutions, linear layers and matrix products are held at once.
    """
    operations = [operation for _, _, operation in walk(tree)]
    params = sum(operation.params for operation in operations)
    largest = max(prod(operation.input_shape) + prod(operation.output_shape) for operation in operations)
    kept = sum(operation.activations for operation in operations) if backward else 0
    return (params + max(largest, kept)) * ITEM_BYTES[dtype]


def operations_work(operations: Sequence[Operation], dtype: str) -> Work:
    """Return the work of ``operations`` of the tree of a network."""
    children: dict[str, Operation | Block] = {str(index): operation for index, operation in enumerate(operations)}
    return Work(tally(Block(children), "exact").cost.macs, moved_elements(operations) * ITEM_BYTES[dtype])


def moved_elements(operations: Iterable[Operation]) -> int:
    """Return the number of elements that all calls of ``operations`` read and write."""
    return sum(operation.calls * (operation.elements_read + operation.elements_written) for operation in operations)


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
