"""What an export came to, as frozen values."""

from dataclasses import dataclass
from typing import Any

from mpvit.export import Export


@dataclass(frozen=True, slots=True)
class Difference:
    """How far an engine's logits are from torch's in float32, on one batch.

    Attributes:
        shape: (b, c, h, w) of the images.
        absolute: the largest difference of a logit.
        relative: of all logits, norm over norm.
        probability: the largest difference of a class's probability.
    """

    shape: tuple[int, ...]
    absolute: float
    relative: float
    probability: float


@dataclass(frozen=True, slots=True)
class Exported:
    """A network for an engine that agrees with torch's.

    Attributes:
        model: name of the network.
        asked: what was made.
        files: the bytes of each file by its suffix.
        engine: in which it was run, with its version.
        differences: from torch, on each kind of batch that the file allows.
        tolerance: the largest relative difference that passes.
        reference: torch, with its version.
        threads: of the CPU, in both.
        calibrated: pictures that int8's ranges come from; 0 of any other dtype.
    """

    model: str
    asked: Export
    files: dict[str, bytes]
    engine: str
    differences: tuple[Difference, ...]
    tolerance: float
    reference: str
    threads: int
    calibrated: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row for each batch on which the engine was held against torch."""
        asked = self.asked
        whole = {
            "table": "differences",
            "model": self.model,
            "target": asked.target,
            "engine": self.engine,
            "dtype": asked.dtype,
            "fused": asked.fused,
            "dynamic": list(asked.dynamic),
            "bytes": self.nbytes,
            "calibration_images": self.calibrated,
            "tolerance": self.tolerance,
        }
        return [
            whole
            | {
                "input_shape": list(each.shape),
                "absolute_difference": each.absolute,
                "relative_difference": each.relative,
                "probability_difference": each.probability,
            }
            for each in self.differences
        ]
