"""Pictures for an export: those that int8 is calibrated by, and how well the engine does on the others beside torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpvit.errors import UsageError
from mpvit.export.convert import open_result
from mpvit.prediction.exported import ExportedClassifier
from mpvit.prediction.inference import InferenceConfig, Network
from mpvit.training.data import open_data
from mpvit.training.judge import judge
from mpvit.training.processes import accelerator_of, readable
from mpvit.training.results import Evaluation
from mpvit.training.views import Plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpvit.export.results import ExportResult

_BATCH = 64
"""Pictures that the accuracy is computed on at a time."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of ``data``, as ``open_data`` names them, shown to a network at ``size``, (height, width).

    ``workers`` processes read them; ``watch`` takes what comes one after the other, what it is and how many there are, and
    hands it on. Raises ``UsageError`` for a size that is no square.
    """

    network: Network
    data: str
    size: tuple[int, int]
    workers: int
    watch: Callable[[Iterable[Any], str, int], Iterable[Any]]

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size[0] != self.size[1]:
            raise UsageError(f"size = {self.size[0]}×{self.size[1]} with pictures: must be a square, their centres are shown")

    @property
    def how(self) -> InferenceConfig:
        """How they are shown."""
        return InferenceConfig.of(self.network.preprocessing, size=self.size[0], batch=_BATCH)

    def calibration(self, most: int) -> Tensor:
        """Return up to ``most`` of the pictures to learn from, evenly spread, (n, 3, size, size)."""
        if most < 1:
            raise UsageError(f"calibration = {most}: must be at least 1 picture", hint="the default is 256")
        part = readable(open_data(self.data), accelerator_of("cpu"), self.workers, self.watch).train
        views, number = Plain(part, self.how), min(most, part.pictures)
        return torch.stack([views[index * part.pictures // number][0] for index in range(number)])

    def accuracies(self, made: ExportResult) -> tuple[Evaluation, Evaluation]:
        """Return how well the network does in torch and in the engine that it was made for, on what it has not seen."""
        about = replace(self.network.about, dtype=made.options.dtype, engine=made.engine)
        in_engine = ExportedClassifier(open_result(made), self.network.classes, self.how, about)
        before, after = (
            judge(
                each,
                self.data,
                accelerator_of("cpu"),
                how=self.how,
                part=None,
                mode="plain",
                workers=self.workers,
                watch=self.watch,
            )
            for each in (self.network, in_engine)
        )
        assert isinstance(before, Evaluation)  # noqa: S101 - neither is a segmenter
        assert isinstance(after, Evaluation)  # noqa: S101
        return before, after
