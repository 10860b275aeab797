"""``mpvit eval``: how well a network does on pictures."""

import os
from typing import Annotated, Any

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
    from mpvit.training.evaluation import evaluate as evaluate_network
    from mpvit.training.evaluation import require_known

    require_known(part, mode)
    options.parse_training_device(device)
    readers = options.parse_workers(workers)

    import torch

    from mpvit.plots.training import confusion_figure
    from mpvit.prediction.inference import InferenceConfig
    from mpvit.prediction.loading import Predictor, load_segmenter, open_network
    from mpvit.prediction.pretrained import find_weights
    from mpvit.tables.evaluation import evaluation_document
    from mpvit.training.distributed import make_accelerator

    options.set_threads(threads, readers)
    terminal.quiet |= os.environ.get("RANK", "0") != "0"
    accelerator = make_accelerator(device)
    network: Predictor[Any]
    if weights and options.check_segmenter(weights, variant if options.given(ctx, "variant") else None, crop):
        network = load_segmenter(weights, classes)
    else:
        network = open_network(weights or find_weights(variant, cache, terminal.track), variant, classes)
    how = InferenceConfig.of(network.preprocessing, size=size, crop=crop, batch=batch)
    found = evaluate_network(
        network, data, accelerator, config=how, part=part, mode=mode, workers=readers, track=terminal.track
    )
    if not accelerator.is_main_process:
        return
    for name, reason in found.damaged:
        terminal.note(f"left out: {name}: {reason}")
    terminal.show(evaluation_document(found, str(accelerator.device), torch.get_num_threads(), mode), form, output)
    if plot:
        terminal.save(confusion_figure(found), plot)
