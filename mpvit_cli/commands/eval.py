"""``mpvit eval``: evaluation of a network on images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mpvit.imports import require
from mpvit_cli.options import Options, argument, option
from mpvit_cli.options.answer import PlottedAnswer
from mpvit_cli.options.inference import ClassNames, PreprocessingOptions, Weights, weights_option
from mpvit_cli.options.networks import BatchOption
from mpvit_cli.options.training import RunMachine
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.prediction.loading import Predictor
    from mpvit.training.results import Evaluation


class Evaluated(Options):
    """The images that a network is evaluated on."""

    data: Annotated[
        str,
        argument(
            "A folder of class folders, digits, scales, or hf:FOLDER; for a segmenter a folder of images/ and masks/, or "
            "digits-on-textures.",
            metavar="DATA",
        ),
    ]
    part: Annotated[
        str | None, option("Split.", choices=("held-out", "all"), default="the images that the network was not trained on")
    ] = None
    mode: Annotated[str, option("The network as it is, or fused for faster inference.", choices=("plain", "fused"))] = "plain"
    batch: BatchOption = 64


class WeightsOrExport(Weights):
    """Weights, or an exported file."""

    weights: Annotated[Path | None, weights_option("published, downloaded once", ", or a file of mpvit export")] = None


def evaluate(
    terminal: Terminal,
    evaluated: Evaluated,
    weights: WeightsOrExport,
    names: ClassNames,
    preprocessing: PreprocessingOptions,
    machine: RunMachine,
    answer: PlottedAnswer,
) -> None:
    """Evaluate a network on labelled images: accuracy with its interval, loss, calibration, results by class, confusion matrix.

    A segmenter gets mIoU and pixel accuracy with intervals. Each image counts once, with several processes (torchrun) too.
    Preprocessing is that of the weights, else the published one.

    Examples:
      mpvit eval digits --weights run/weights.safetensors

      mpvit eval street/ --weights segmenter/weights.safetensors --format json

      mpvit eval imagenet/val --variant tiny --part all --plot confusion.png -o tiny.json
    """
    require("accelerate", "kornia", "torchmetrics")
    from mpvit.prediction.inference import InferenceConfig
    from mpvit.training.distributed import make_accelerator
    from mpvit.training.evaluation import evaluate as evaluate_network
    from mpvit.training.evaluation import require_known

    require_known(evaluated.part, evaluated.mode)
    machine.start(terminal)
    accelerator = make_accelerator(machine.device)
    network = _load(terminal, weights, names, preprocessing)
    found = evaluate_network(
        network,
        evaluated.data,
        accelerator,
        config=InferenceConfig.of(network.preprocessing, **preprocessing.settings, batch=evaluated.batch),
        part=evaluated.part,
        mode=evaluated.mode,
        workers=machine.readers,
        track=terminal.track,
    )
    if accelerator.is_main_process:
        _show(terminal, found, evaluated.mode, str(accelerator.device), answer)


def _load(
    terminal: Terminal, weights: WeightsOrExport, names: ClassNames, preprocessing: PreprocessingOptions
) -> "Predictor[Any]":
    from mpvit.prediction.loading import load_segmenter, open_network

    if weights.is_segmenter(preprocessing.crop):
        return load_segmenter(weights.file(terminal), names.classes)
    return open_network(weights.file(terminal), weights.variant, names.classes)


def _show(terminal: Terminal, found: "Evaluation", mode: str, device: str, answer: PlottedAnswer) -> None:
    import torch

    from mpvit.tables.evaluation import evaluation_document

    for name, reason in found.damaged:
        terminal.note(f"left out: {name}: {reason}")
    answer.show(terminal, evaluation_document(found, device, torch.get_num_threads(), mode))
    answer.draw(terminal, "mpvit.plots.training:confusion_figure", found)
