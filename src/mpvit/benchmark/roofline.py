"""The roofline model: the work of a pass in closed form, and the two ceilings of the machine.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", CACM 52 (2009). Work is in
multiply-adds (MACs), so an intensity is in MACs per byte, half of the usual FLOP per byte.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

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

    ``copy_bytes`` are the bytes that the copy reads and writes.
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


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """A piece of work, its time, and the ceilings of the machine; a property is None if it is unknown."""

    work: Work
    measurement: Measurement
    ceilings: Ceilings

    @property
    def macs_per_s(self) -> float | None:
        """Multiply-adds in closed form over the median latency."""
        return _quotient(self.work.macs, self.measurement.median_s)

    @property
    def bytes_per_s(self) -> float | None:
        """Moved bytes in closed form over the median latency."""
        return _quotient(self.work.moved_bytes, self.measurement.median_s)

    @property
    def share_of_product(self) -> float | None:
        """MAC/s as a share of those of the matrix product."""
        return _quotient(self.macs_per_s, self.ceilings.macs_per_s)

    @property
    def share_of_copy(self) -> float | None:
        """Bytes/s as a share of those of the copy; above 1 if operations find their inputs in a cache."""
        return _quotient(self.bytes_per_s, self.ceilings.bytes_per_s)

    @property
    def share_of_roof(self) -> float | None:
        """The shortest time under both ceilings as a share of the median latency: the larger of the two shares."""
        product, copied = self.share_of_product, self.share_of_copy
        return None if product is None or copied is None else max(product, copied)

    def as_row(self) -> dict[str, Any]:
        """Return the point as columns of a flat row."""
        return {
            **self.measurement.as_row(),
            "macs": self.work.macs,
            "moved_bytes": self.work.moved_bytes,
            "macs_per_byte": self.work.intensity,
            "macs_per_s": self.macs_per_s,
            "bytes_per_s": self.bytes_per_s,
            "ceiling_macs_per_s": self.ceilings.macs_per_s,
            "ceiling_bytes_per_s": self.ceilings.bytes_per_s,
            "share_of_matrix_product": self.share_of_product,
            "share_of_copy": self.share_of_copy,
            "share_of_roof": self.share_of_roof,
        }


def _quotient(dividend: float | None, divisor: float | None) -> float | None:
    return None if dividend is None or not divisor else dividend / divisor


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
