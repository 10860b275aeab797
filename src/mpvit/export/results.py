"""The result of an export."""

from dataclasses import dataclass
from typing import Any

from mpvit.export import ExportOptions


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between an engine's logits and torch's float32 logits on one batch.

    Attributes:
        shape: (b, c, h, w) of the images.
        absolute: largest absolute difference of a logit.
        relative: norm of the differences over the norm of torch's logits.
        probability: largest absolute difference of a class's probability.
    """

    shape: tuple[int, ...]
    absolute: float
    relative: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """An exported network that agrees with torch's.

    Attributes:
        model: name of the network.
        options: options of the export.
        files: bytes of each file by its suffix.
        engine: name and version of the engine.
        differences: differences from torch, one for each shape of ``options.shapes``.
        tolerance: largest relative difference that is allowed.
        reference: torch with its version.
        threads: number of CPU threads of both.
        calibrated: number of images that int8 was calibrated on; 0 for other dtypes.
    """

    model: str
    options: ExportOptions
    files: dict[str, bytes]
    engine: str
    differences: tuple[Difference, ...]
    tolerance: float
    reference: str
    threads: int
    calibrated: int

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row for each difference."""
        export = {
            "table": "differences",
            "model": self.model,
            "target": self.options.target,
            "engine": self.engine,
            "dtype": self.options.dtype,
            "fused": self.options.fused,
            "dynamic": list(self.options.dynamic),
            "bytes": self.nbytes,
            "calibration_images": self.calibrated,
            "tolerance": self.tolerance,
        }
        kinds = ("absolute", "relative", "probability")
        return [
            {**export, "input_shape": list(each.shape), **{f"{kind}_difference": getattr(each, kind) for kind in kinds}}
            for each in self.differences
        ]
