"""``mpvit predict``: classes of images."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvit.architecture.variants import DEFAULT_VARIANT
from mpvit.errors import UsageError
from mpvit.prediction.results import Segmentation
from mpvit.tables.predictions import UNTRAINED, prediction_document
from mpvit_cli.options import Options, argument, option
from mpvit_cli.options.answer import PlottedAnswer
from mpvit_cli.options.inference import ClassNames, PreprocessingOptions, Weights, weights_option
from mpvit_cli.options.machine import DeviceOption
from mpvit_cli.options.networks import BatchOption, variant_option
from mpvit_cli.options.values import whole
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.dense.torch_network import DenseNetwork
    from mpvit.prediction.inference import InferenceConfig
    from mpvit.prediction.loading import Predictor


class Images(Options):
    """The images."""

    images: Annotated[list[Path], argument("Image files, and folders of them.", metavar="IMG")]


class Predicting(PreprocessingOptions, ClassNames, Weights):
    """The network, and how it predicts."""

    weights: Annotated[Path | None, weights_option("published, downloaded once", ", or a file of mpvit export")] = None
    variant: Annotated[str | None, variant_option(f"the network of the weights, else {DEFAULT_VARIANT}")] = None
    top: Annotated[int, option("Classes to name for each image.", parser=whole, metavar="N")] = 5
    batch: BatchOption = 8
    device: DeviceOption = "cpu"
    random_init: Annotated[bool, option("Untrained network: the classes mean nothing.", "--random-init")] = False


class SegmentationAnswer(PlottedAnswer):
    """The answer, and the files of a segmenter."""

    plot: Annotated[
        Path | None, option("File for a segmenter's classes drawn over the images: .svg, .png or .pdf.", metavar="FILE")
    ] = None
    masks: Annotated[
        Path | None, option("Folder for a segmenter's masks: PNG files with a class index per pixel.", metavar="FOLDER")
    ] = None


def predict(terminal: Terminal, images: Images, predicting: Predicting, answer: SegmentationAnswer) -> None:
    """Name the most probable classes of images in any format that Pillow reads; a segmenter names the classes of the pixels.

    An image that cannot be read is reported, the others are still predicted, and the exit code is 1.

    Examples:
      mpvit predict digit.png holiday/ --variant digits-nano --top 3 --format json

      mpvit predict street.jpg --weights segmenter/weights.safetensors --plot overlay.png --masks masks
    """
    from mpvit.devices import parse_device
    from mpvit.images import PUBLISHED_PREPROCESSING, list_images
    from mpvit.prediction import inference, loading

    settings = {**predicting.settings, "top": predicting.top, "batch": predicting.batch}
    inference.InferenceConfig.of(PUBLISHED_PREPROCESSING, **settings)  # wrong settings are refused before any work
    device = parse_device(predicting.device)
    segmenting = predicting.is_segmenter(predicting.crop)
    _require_segmenter(answer, segmenting=segmenting)
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # the reason why an image cannot be read is reported below
    paths = list_images(images.images)
    inference.require_readable(paths)
    if segmenting:
        segmenter = loading.load_segmenter(predicting.file(terminal), predicting.classes, device)
        how = inference.InferenceConfig.of(segmenter.preprocessing, size=predicting.size, top=predicting.top)
        _report_failures(terminal, _segment(terminal, segmenter, paths, how, answer))
        return
    network: loading.Predictor[Any]
    if predicting.random_init:
        terminal.note(UNTRAINED)
        network = loading.random_network(predicting.variant, predicting.classes, device)
    else:
        network = loading.open_network(predicting.file(terminal), predicting.variant, predicting.classes, device)
    config = inference.InferenceConfig.of(network.preprocessing, **settings)
    answers = inference.predict(network.model, network.classes, paths, config)
    predictions = list(terminal.track(answers, "Predicting", len(paths)))
    answer.show(terminal, prediction_document(predictions, network.about))
    _report_failures(terminal, [(each.image, each.error) for each in predictions])


def _require_segmenter(answer: SegmentationAnswer, *, segmenting: bool) -> None:
    for flag, file in (("--plot", answer.plot), ("--masks", answer.masks)):
        if file and not segmenting:
            raise UsageError(
                f"{flag} {file}: needs the weights of a segmenter, this network classifies whole images",
                hint="mpvit train --task semantic-fpn trains a segmenter",
            )


def _segment(
    terminal: Terminal,
    segmenter: "Predictor[DenseNetwork]",
    paths: Sequence[Path],
    how: "InferenceConfig",
    answer: SegmentationAnswer,
) -> list[tuple[str, str]]:
    """Show the classes of a segmenter, write and draw its masks; return each image with its error."""
    from dataclasses import replace

    from mpvit.plots.segmentation import MOST
    from mpvit.prediction.segmentation import mask_paths, save_mask, segment

    names = mask_paths(answer.masks, paths) if answer.masks else []
    found: list[Segmentation] = []
    for place, each in enumerate(terminal.track(segment(segmenter, paths, how), "Predicting", len(paths))):
        if answer.masks and each.indices is not None:
            save_mask(each.indices, names[place])
        drawn = sum(one.indices is not None for one in found)
        found.append(each if answer.plot and drawn < MOST else replace(each, indices=None))
    answer.show(terminal, prediction_document(found, segmenter.about, how.top))
    if answer.masks:
        terminal.note(f"wrote {sum(not each.error for each in found)} masks into {answer.masks}")
    if answer.plot:
        _draw(terminal, paths, found, answer)
    return [(each.image, each.error) for each in found]


def _draw(terminal: Terminal, paths: Sequence[Path], found: "Sequence[Segmentation]", answer: SegmentationAnswer) -> None:
    import numpy as np

    from mpvit.images import read_image

    drawn = [(path, each) for path, each in zip(paths, found, strict=True) if each.indices is not None]
    if not drawn:
        terminal.note(f"nothing to draw: {answer.plot} is not written")
        return
    readable = sum(not each.error for each in found)
    if len(drawn) < readable:
        terminal.note(f"{answer.plot} has the first {len(drawn)} of {readable} images")
    images = [np.asarray(read_image(path)) for path, _ in drawn]
    answer.draw(terminal, "mpvit.plots.segmentation:overlay_figure", [each for _, each in drawn], images)


def _report_failures(terminal: Terminal, answers: Sequence[tuple[str, str]]) -> None:
    """Report the images without an answer; if there are any, end with exit code 1."""
    failed = [(image, error) for image, error in answers if error]
    for image, error in failed:
        terminal.error(f"cannot predict {image!r}: {error}")
    if failed:
        raise typer.Exit(1)
