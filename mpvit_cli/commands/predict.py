"""``mpvit predict``: what a network sees in images."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvit.errors import UsageError
from mpvit.tables.predictions import UNTRAINED, prediction_document
from mpvit.variants import DEFAULT_VARIANT
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.dense.torch_network import DenseNetwork
    from mpvit.prediction.inference import InferenceConfig
    from mpvit.prediction.loading import Predictor
    from mpvit.prediction.results import Segmentation

Images = Annotated[list[Path], typer.Argument(metavar="IMG", help="Image files, and folders of them.")]
Variant = Annotated[str | None, options.variant(f"what the weights say, else {DEFAULT_VARIANT}")]
Top = Annotated[int, typer.Option(parser=options.whole, metavar="N", help="Classes to name for each image.")]
Overlay = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw a segmenter's classes over the images: .svg, .png or .pdf.", show_default=False
    ),
]
Masks = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Write a segmenter's answers as PNG files, an index of a class each pixel.", show_default=False
    ),
]
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
    plot: Overlay = None,
    masks: Masks = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Name the likeliest classes of images, in any format that Pillow reads; of a segmenter, those of their pixels.

    An image that cannot be read is reported, the others still run, and the exit code is 1.

    Examples:
      mpvit predict digit.png holiday/ --variant digits-nano --top 3 --format json

      mpvit predict street.jpg --weights segmenter/weights.safetensors --plot overlay.png --masks masks
    """
    from mpvit.devices import parse_device
    from mpvit.images import PUBLISHED_PREPROCESSING, list_images
    from mpvit.prediction import inference, loading
    from mpvit.prediction.pretrained import find_weights

    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    settings: dict[str, Any] = {"size": size, "crop": crop, "top": top, "batch": batch}
    inference.InferenceConfig.of(PUBLISHED_PREPROCESSING, **settings)  # checks the options before any work
    place = parse_device(device)
    if random_init and weights:
        raise UsageError(f"--random-init with --weights {weights}: must be one of them")
    segmenting = weights is not None and options.check_segmenter(
        weights, variant if options.given(ctx, "variant") else None, crop
    )
    for option, asked in (("--plot", plot), ("--masks", masks)):
        if asked and not segmenting:
            hint = "mpvit train --task semantic-fpn makes a segmenter; its --weights say that they are one"
            raise UsageError(
                f"{option} {asked}: must go with a segmenter's --weights, this network names whole images", hint=hint
            )
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # what is wrong with an image is said once, below
    paths = list_images(images)
    inference.require_readable(paths)
    if segmenting and weights:
        segmenter = loading.load_segmenter(weights, classes, place)
        how = inference.InferenceConfig.of(segmenter.preprocessing, size=size, top=top)
        _fail(terminal, _segment(terminal, segmenter, paths, how, (plot, masks), form, output))
        return
    if random_init:
        terminal.note(UNTRAINED)
        network: loading.Predictor[Any] = loading.random_network(variant, classes, place)
    else:
        file = weights or find_weights(variant, cache, terminal.track)
        network = loading.open_network(file, variant, classes, place)
    config = inference.InferenceConfig.of(network.preprocessing, **settings)
    answers = inference.predict(network.model, network.classes, paths, config)
    predictions = list(terminal.track(answers, "Looking", len(paths)))
    terminal.show(prediction_document(predictions, network.about), form, output)
    _fail(terminal, [(each.image, each.error) for each in predictions])


def _segment(
    terminal: Terminal,
    segmenter: "Predictor[DenseNetwork]",
    paths: Sequence[Path],
    how: "InferenceConfig",
    files: tuple[Path | None, Path | None],
    form: str | None,
    output: Path | None,
) -> list[tuple[str, str]]:
    """Show what a segmenter sees, and draw and write it to ``files`` where that is asked for; return images and errors."""
    from dataclasses import replace

    from mpvit.plots.segmentation import MOST
    from mpvit.prediction.segmentation import mask_paths, save_mask, segment

    plot, masks = files
    names = mask_paths(masks, paths) if masks else []
    found: list[Segmentation] = []
    for place, each in enumerate(terminal.track(segment(segmenter, paths, how), "Looking", len(paths))):
        if masks and each.indices is not None:
            save_mask(each.indices, names[place])
        drawn = sum(one.indices is not None for one in found)
        found.append(each if plot and drawn < MOST else replace(each, indices=None))
    terminal.show(prediction_document(found, segmenter.about, how.top), form, output)
    if masks:
        terminal.note(f"wrote {sum(not each.error for each in found)} masks into {masks}")
    if plot:
        _draw(
            terminal, [(path, each) for path, each in zip(paths, found, strict=True) if each.indices is not None], plot, found
        )
    return [(each.image, each.error) for each in found]


def _draw(
    terminal: Terminal, drawn: "Sequence[tuple[Path, Segmentation]]", plot: Path, found: "Sequence[Segmentation]"
) -> None:
    import numpy as np

    from mpvit.images import read_image
    from mpvit.plots.segmentation import overlay_figure

    if not drawn:
        terminal.note(f"nothing to draw: {plot} is not written")
        return
    readable = sum(not each.error for each in found)
    if len(drawn) < readable:
        terminal.note(f"{plot} has the first {len(drawn)} of {readable} images")
    pictures = [np.asarray(read_image(path)) for path, _ in drawn]
    terminal.save(overlay_figure([each for _, each in drawn], pictures), plot)


def _fail(terminal: Terminal, answers: Sequence[tuple[str, str]]) -> None:
    """Say which images have no answer and why, and end with 1 where one has none."""
    failed = [(image, error) for image, error in answers if error]
    for image, error in failed:
        terminal.error(f"cannot predict {image!r}: {error}")
    if failed:
        raise typer.Exit(1)
