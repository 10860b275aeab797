"""``mpvit predict``: what a network sees in images."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from mpvit.errors import UsageError
from mpvit.tables.predictions import UNTRAINED, prediction_document
from mpvit.variants import DEFAULT_VARIANT
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

Images = Annotated[list[Path], typer.Argument(metavar="IMG", help="Image files, and folders of them.")]
Variant = Annotated[str | None, options.variant(f"what the weights say, else {DEFAULT_VARIANT}")]
Top = Annotated[int, typer.Option(parser=options.whole, metavar="N", help="Classes to name for each image.")]
RandomInit = Annotated[bool, typer.Option("--random-init", help="Untrained network: the classes mean nothing.")]


def predict(
    ctx: typer.Context,
    images: Images,
    weights: options.WeightsOrExported = None,
    variant: Variant = None,
    classes: options.Classes = None,
    top: Top = 5,
    crop: options.Crop = None,
    size: options.Side = None,
    batch: options.Batch = 8,
    device: options.Device = "cpu",
    random_init: RandomInit = False,
    cache: options.Cache = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Name the likeliest classes of images, in any format that Pillow reads.

    An image that cannot be read is reported, the others still run, and the exit code is 1.

    Examples:
      mpvit predict digit.png --variant digits-nano

      mpvit predict cat.jpg holiday/ --weights run/weights.safetensors --top 3 --format json
    """
    from mpvit.prediction import inference
    from mpvit.prediction.exported import EngineNetwork, open_network
    from mpvit.prediction.images import PUBLISHED, image_paths, require_one
    from mpvit.prediction.pretrained import find_weights

    terminal: Terminal = ctx.obj
    check_format(form)
    inference.InferenceConfig.of(PUBLISHED, size=size, crop=crop, top=top, batch=batch)  # what is asked for is checked first
    place = inference.parse_device(device)
    if random_init and weights:
        raise UsageError(f"--random-init with --weights {weights}: must be one of them")
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # what is wrong with an image is said once, below
    paths = image_paths(images)
    require_one(paths)
    if random_init:
        terminal.note(UNTRAINED)
        network: inference.Network | EngineNetwork = inference.random_network(variant, classes, place)
    else:
        file = weights or find_weights(variant, cache, terminal.track)
        network = open_network(file, variant, classes, place)
    config = inference.InferenceConfig.of(network.preprocessing, size=size, crop=crop, top=top, batch=batch)
    answers = inference.predict(network.model, network.classes, paths, config)
    predictions = list(terminal.track(answers, "Looking", len(paths)))
    terminal.show(prediction_document(predictions, network.about), form, output)
    failed = [prediction for prediction in predictions if prediction.error]
    for prediction in failed:
        terminal.error(f"cannot predict {prediction.image!r}: {prediction.error}")
    if failed:
        raise typer.Exit(1)
