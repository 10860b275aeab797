"""Evaluating a network on labelled images: each image counts once, with any number of processes."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mpvit.dense.torch_network import fuse_backbone
from mpvit.errors import MpvitError, UsageError, unknown_name
from mpvit.export.exported_network import ExportedNetwork
from mpvit.model.fused import fuse
from mpvit.model.metadata import Preprocessing
from mpvit.model.network import MPViT
from mpvit.prediction.inference import InferenceConfig
from mpvit.prediction.loading import Predictor
from mpvit.progress import Track, untracked
from mpvit.training.data import open_data
from mpvit.training.data.splits import Split, with_classes_of
from mpvit.training.datasets import EvaluationDataset
from mpvit.training.distributed import without_damaged
from mpvit.training.meters import ClassificationMeter, SegmentationMeter
from mpvit.training.metrics import ClassificationMetrics, SegmentationMetrics
from mpvit.training.results import Evaluation

PARTS = ("held-out", "all")

MODES = ("plain", "fused")


def require_known(part: str | None, mode: str) -> None:
    """Raise ``UsageError`` for an unknown part or mode."""
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    if part is not None and part not in PARTS:
        raise unknown_name("part", part, PARTS)


def evaluate(
    predictor: Predictor[Any],
    data: str,
    accelerator: Accelerator,
    *,
    config: InferenceConfig,
    part: str | None = None,
    mode: str = "plain",
    workers: int = 0,
    track: Track = untracked,
) -> Evaluation:
    """Return the metrics of a classifier or a segmenter on the data that ``data`` names; a segmenter needs masks.

    ``part`` None is the held-out split if the data has a validation split of its own, or if the network was trained on data of
    this name; otherwise it is all images. Images that cannot be read are left out and named. Raises ``UsageError`` for classes
    that the network does not have.
    """
    about = predictor.about
    opened = open_data(data, masked=bool(about.task))
    if part is None:
        trained = about.training  # on data of this name, of which the same share was held out?
        seen = trained is not None and (trained.data, trained.held_out) == (opened.name, opened.share)
        part = "held-out" if seen or not opened.share else "all"
    if part == "held-out":
        opened.require_held_out()
    opened = without_damaged(opened, accelerator, workers, track)
    split = with_classes_of(opened.held_out if part == "held-out" else opened.all, opened, predictor.classes)
    if not len(split):
        raise MpvitError(f"no image of {opened.name} can be read")
    network = _prepared(predictor, mode, accelerator)
    metrics = evaluate_split(network, split, config, accelerator, len(predictor.classes), config.batch, workers, track)
    return Evaluation(
        data=opened.name,
        part=part,
        model=about.model,
        task=about.task,
        weights=str(about.weights),
        classes=predictor.classes,
        images=len(split),
        damaged=opened.damaged,
        metrics=metrics,
    )


def _prepared(predictor: Predictor[Any], mode: str, accelerator: Accelerator) -> nn.Module:
    """Return the module that maps images to logits, in evaluation mode on the accelerator's device."""
    model = predictor.model
    if isinstance(model, ExportedNetwork):
        if mode != "plain" or accelerator.device.type != "cpu":
            raise UsageError(
                f"{predictor.about.weights} is an exported network: it runs as it was exported, on the cpu",
                hint="use mode plain and device cpu",
            )
        return model
    model = model.to(accelerator.device).eval()
    if mode != "fused":
        return model
    return fuse(model, keep_memory=True) if isinstance(model, MPViT) else fuse_backbone(model, keep_memory=True)


def evaluate_split(
    network: Callable[[Tensor], Tensor],
    split: Split,
    preprocessing: Preprocessing,
    accelerator: Accelerator,
    classes: int,
    batch: int,
    workers: int = 0,
    track: Track = untracked,
) -> ClassificationMetrics | SegmentationMetrics:
    """Return the metrics of ``network``, in evaluation mode on the accelerator's device, on the images of a split.

    Each process evaluates its share of every batch, and all processes get the whole result. Raises ``MpvitError`` for an image
    that cannot be read, and for predictions that are not finite.
    """
    meter = SegmentationMeter(classes) if split.source.masked else ClassificationMeter(classes)
    start = time.perf_counter()
    # a batch must be a multiple of the processes: accelerate fills up the last batch, and gather_for_metrics removes the rest
    batch = max(batch // accelerator.num_processes, 1) * accelerator.num_processes
    loader = accelerator.prepare_data_loader(
        DataLoader(EvaluationDataset(split, preprocessing), batch, num_workers=workers, collate_fn=meter.collate)
    )
    with torch.inference_mode():
        for inputs in track(batches(loader), "Evaluating", len(loader)):
            with accelerator.autocast():
                outputs = meter.predict(network, inputs)
            meter.update(*(output.cpu() for output in accelerator.gather_for_metrics(outputs)))
    assert meter.images == len(split), f"{meter.images} images of {len(split)} were evaluated"  # noqa: S101 - an invariant
    return meter.compute(time.perf_counter() - start)


def batches(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a data loader; an error of a worker process keeps its one line."""
    try:
        yield from loader
    except MpvitError as error:  # torch adds the traceback of the worker to the message
        raise MpvitError(str(error).strip().rpartition("MpvitError: ")[2]) from None
