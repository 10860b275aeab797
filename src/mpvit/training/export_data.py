"""Labelled images for an export: those that int8 is calibrated with, and the accuracy in the engine compared to torch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mpvit.errors import UsageError
from mpvit.export.convert import open_result
from mpvit.export.results import ExportResult
from mpvit.model.network import MPViT
from mpvit.prediction.inference import InferenceConfig
from mpvit.prediction.loading import Predictor
from mpvit.progress import Track, untracked
from mpvit.training.data import open_data
from mpvit.training.datasets import EvaluationDataset
from mpvit.training.distributed import make_accelerator, without_damaged
from mpvit.training.evaluation import evaluate
from mpvit.training.results import Evaluation

_BATCH = 64
"""Batch size of the evaluation."""


@dataclass(frozen=True, slots=True)
class ExportData:
    """The ``data``, as ``open_data`` names it, for an export of a network to images of ``size`` = (height, width) pixels.

    Raises ``UsageError`` for a size that is not square.
    """

    predictor: Predictor[MPViT]
    data: str
    size: tuple[int, int]
    workers: int = 0
    track: Track = untracked

    def __post_init__(self) -> None:
        if self.size[0] != self.size[1]:
            raise UsageError(f"size = {self.size[0]}×{self.size[1]} with data: must be square, images are cropped to a square")

    @property
    def config(self) -> InferenceConfig:
        """Preprocessing and batch size of the images."""
        return InferenceConfig.of(self.predictor.preprocessing, size=self.size[0], batch=_BATCH)

    def calibration(self, most: int) -> Tensor:
        """Return up to ``most`` of the training images, evenly spaced, (n, 3, size, size)."""
        if most < 1:
            raise UsageError(f"calibration = {most}: must be at least 1 image", hint="the default is 256")
        split = without_damaged(open_data(self.data), make_accelerator("cpu"), self.workers, self.track).train
        images, number = EvaluationDataset(split, self.config), min(most, len(split))
        return torch.stack([images[index * len(split) // number][0] for index in range(number)])

    def evaluations(self, exported: ExportResult) -> tuple[Evaluation, Evaluation]:
        """Return the evaluations in torch and in the engine of the export, on images that were not trained on."""
        about = replace(self.predictor.about, dtype=exported.options.dtype, engine=exported.engine)
        in_engine = Predictor(open_result(exported), self.predictor.classes, self.config, about)
        before, after = (
            evaluate(each, self.data, make_accelerator("cpu"), config=self.config, workers=self.workers, track=self.track)
            for each in (self.predictor, in_engine)
        )
        return before, after
