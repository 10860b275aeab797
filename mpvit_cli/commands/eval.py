"""``mpvit eval``: evaluation of a network on images."""

import os
from pathlib import Path
from typing import Annotated, Any

from mpvit.extras import require
from mpvit_cli.options import Options, argument, option
from mpvit_cli.options.answer import PlottedAnswer
from mpvit_cli.options.inference import ClassNames, Preprocessing, Weights, weights_option
from mpvit_cli.options.networks import BatchOption
from mpvit_cli.options.training import RunMachine
from mpvit_cli.output import Terminal


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
    preprocessing: Preprocessing,
    machine: RunMachine,
    answer: PlottedAnswer,
) -> None:
    """Evaluate a network on labelled images: accuracy with its interval, loss, calibration, results by class, confusion matrix.

    For a segmenter: mIoU and pixel accuracy with intervals, loss, results by class, confusion matrix. Each image counts once,
    with several processes (torchrun) too. Preprocessing is that of the weights, else the published one.

    Examples:
      mpvit eval digits --weights run/weights.safetensors

      mpvit eval street/ --weights segmenter/weights.safetensors --format json

      mpvit eval imagenet/val --variant tiny --part all --plot confusion.png -o tiny.json
    """
    require("accelerate", "kornia", "torchmetrics")
    from mpvit.training.evaluation import evaluate as evaluate_network
    from mpvit.training.evaluation import require_known

    require_known(evaluated.part, evaluated.mode)

    import torch

    from mpvit.prediction.inference import InferenceConfig
    from mpvit.prediction.loading import Predictor, load_segmenter, open_network
    from mpvit.tables.evaluation import evaluation_document
    from mpvit.training.distributed import make_accelerator

    machine.set_threads()
    terminal.quiet |= os.environ.get("RANK", "0") != "0"
    accelerator = make_accelerator(machine.device)
    network: Predictor[Any]
    if weights.is_segmenter(preprocessing.crop):
        network = load_segmenter(weights.file(terminal), names.classes)
    else:
        network = open_network(weights.file(terminal), weights.variant, names.classes)
    how = InferenceConfig.of(network.preprocessing, size=preprocessing.size, crop=preprocessing.crop, batch=evaluated.batch)
    found = evaluate_network(
        network,
        evaluated.data,
        accelerator,
        config=how,
        part=evaluated.part,
        mode=evaluated.mode,
        workers=machine.readers,
        track=terminal.track,
    )
    if not accelerator.is_main_process:
        return
    for name, reason in found.damaged:
        terminal.note(f"left out: {name}: {reason}")
    document = evaluation_document(found, str(accelerator.device), torch.get_num_threads(), evaluated.mode)
    answer.show(terminal, document)
    answer.draw(terminal, "mpvit.plots.training:confusion_figure", found)
