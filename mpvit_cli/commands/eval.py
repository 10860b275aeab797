"""``mpvit eval``: how well a network does on pictures."""

import os
from typing import Annotated

import typer

from mpvit.extras import require
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder of class folders, digits, scales, or hf:FOLDER; for a segmenter a folder of images/ and masks/, or "
        "digits-on-textures.",
    ),
]
Variant = Annotated[str | None, options.variant("what the weights say")]
Split = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="held-out|all",
        help="Which pictures. (default: those that the network has not seen)",
        autocompletion=options.complete(("held-out", "all")),
        show_default=False,
    ),
]
Mode = Annotated[str, typer.Option(metavar="plain|fused", help="As it is, or made faster for inference.")]


def evaluate(
    ctx: typer.Context,
    data: DataArgument,
    weights: options.WeightsOrExported = None,
    variant: Variant = None,
    classes: options.Classes = None,
    part: Split = None,
    mode: Mode = "plain",
    crop: options.Crop = None,
    size: options.Side = None,
    batch: options.Batch = 64,
    workers: options.Workers = None,
    device: options.TrainingDevice = "cpu",
    threads: options.Threads = None,
    cache: options.Cache = None,
    plot: options.Plot = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Evaluate a network on pictures in classes: accuracy with its interval, loss, calibration, by class, confusion.

    A segmenter, which its weights' file says it is: mIoU and pixel accuracy with intervals, loss, by class, confusion.
    Each picture counts once, also with several processes (torchrun). Preprocessing is what the weights say, else as published.

    Examples:
      mpvit eval digits --weights run/weights.safetensors

      mpvit eval street/ --weights segmenter/weights.safetensors --format json

      mpvit eval imagenet/val --variant tiny --part all --plot confusion.png -o tiny.json
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    require("accelerate", "kornia", "torchmetrics")
    from mpvit.training.judge import check_asked, judge

    check_asked(part, mode)
    options.parse_training_device(device)
    readers = options.parse_workers(workers)

    import torch

    from mpvit.plots.training import confusion_figure
    from mpvit.prediction.exported import ExportedClassifier, open_network
    from mpvit.prediction.inference import InferenceConfig, Network
    from mpvit.prediction.pretrained import find_weights
    from mpvit.prediction.segmentation import Segmenter, load_segmenter
    from mpvit.tables.segmentation import segmenter_document
    from mpvit.tables.training import evaluation_document
    from mpvit.training.processes import accelerator_of
    from mpvit.training.results import Evaluation

    options.set_threads(threads, readers)
    terminal.quiet |= os.environ.get("RANK", "0") != "0"
    accelerator = accelerator_of(device)
    network: Network | ExportedClassifier | Segmenter
    if weights and options.check_segmenter(weights, variant if options.given(ctx, "variant") else None, crop):
        network = load_segmenter(weights, classes)
    else:
        network = open_network(weights or find_weights(variant, cache, terminal.track), variant, classes)
    how = InferenceConfig.of(network.preprocessing, size=size, crop=crop, batch=batch)
    found = judge(network, data, accelerator, how=how, part=part, mode=mode, workers=readers, watch=terminal.track)
    if not accelerator.is_main_process:
        return
    for name, reason in found.damaged:
        terminal.note(f"left out: {name}: {reason}")
    where = (str(accelerator.device), torch.get_num_threads(), mode)
    document = evaluation_document(found, *where) if isinstance(found, Evaluation) else segmenter_document(found, *where)
    terminal.show(document, form, output)
    if plot:
        terminal.save(confusion_figure(found), plot)
