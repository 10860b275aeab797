"""``mpvit paths``: what each path of a network sees."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.errors import UsageError, unknown_name
from mpvit.paths.fields import path_fields
from mpvit.paths.views import BATCH, IMAGES, MapChoice, path_view
from mpvit.tables.paths import UNTRAINED, geometry_document, view_document
from mpvit.training.data import DIGITS
from mpvit.variants import SHIPPED, get_config
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.model.network import MPViT
    from mpvit.prediction.loading import Predictor

GEOMETRY = "geometry"
VIEWS = (*IMAGES, GEOMETRY)
DEFAULT = next(iter(SHIPPED))
SHIPPED_NOTE = f"No network is named: this is {DEFAULT}, which comes with the package."

View = Annotated[str, typer.Option(metavar="|".join(VIEWS), help="What is looked at.", autocompletion=options.complete(VIEWS))]
Weights = Annotated[Path | None, options.weights(f"of --variant, else {DEFAULT}")]
RandomInit = Annotated[bool, typer.Option("--random-init", help="Untrained network: only its geometry means something.")]
Variant = Annotated[str | None, options.variant(f"what the weights say, else {DEFAULT}")]
Images = Annotated[
    list[Path] | None,
    typer.Option("--image", metavar="FILE", help="A picture, or a folder of them; repeatable.", show_default=False),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help=f"Pictures held out of class folders, digits, scales or hf:FOLDER. (default: {DIGITS}, with {DEFAULT})",
        show_default=False,
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        "--pictures",
        parser=options.whole,
        metavar="N",
        help=f"Most images. (default: {', '.join(f'{name} {most or options.ALL}' for name, most in IMAGES.items())})",
        show_default=False,
    ),
]
Stage = Annotated[
    int | None,
    typer.Option(parser=options.whole, metavar="N", help="Stage whose maps are drawn. (default: the last)", show_default=False),
]
PathOption = Annotated[
    int | None,
    typer.Option("--path", parser=options.whole, metavar="N", help="Path whose heads are drawn. (default: one head of each)"),
]
Head = Annotated[
    int | None, typer.Option(parser=options.whole, metavar="N", help="Head that is drawn. (default: 1, with --path all)")
]
Point = Annotated[
    str | None,
    typer.Option(metavar="X,Y", help="Pixel, as the network sees the picture, whose token attends. (default: the centre)"),
]


def paths(
    ctx: typer.Context,
    view: View = "fields",
    weights: Weights = None,
    variant: Variant = None,
    config: options.Config = None,
    image: Images = None,
    data: DataOption = None,
    pictures: Count = None,
    stage: Stage = None,
    path: PathOption = None,
    head: Head = None,
    point: Point = None,
    crop: options.Crop = None,
    size: options.Side = None,
    batch: options.Batch = BATCH,
    device: options.TrainingDevice = "cpu",
    random_init: RandomInit = False,
    cache: options.Cache = None,
    plot: options.Plot = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Look at what each path of a network sees, on a trained network and pictures that it has not learned from.

    fields: how far, in closed form and by gradients. contribution: how much each brings, and the accuracy without it.
    similarity: how alike paths are. attention: the maps between tokens. geometry: the closed form alone, of any network.

    Examples:
      mpvit paths --view contribution --plot contribution.png

      mpvit paths --view fields --weights run/weights.safetensors --image photo.jpg --plot fields.svg
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    options.parse_training_device(device)
    _check(view, image, data, pictures, batch, config, plot)
    choice = _choice(view, MapChoice(stage, path, head, _pixel(point)))
    if variant:
        get_config(variant)
    if random_init and weights:
        raise UsageError(f"--random-init with --weights {weights}: must be one of them")
    if view == GEOMETRY and not weights:
        name, network_config = options.parse_model(ctx, variant or DEFAULT, config)
        terminal.show(geometry_document(name, path_fields(network_config)), form, output)
        return
    network = _network(terminal, weights, variant, cache, device, random_init=random_init)
    if view == GEOMETRY:
        terminal.show(geometry_document(network.about.model, path_fields(network.model.config)), form, output)
        return
    from mpvit.paths.images import find_images
    from mpvit.prediction.inference import InferenceConfig

    how = InferenceConfig.of(network.preprocessing, size=size, crop=crop, batch=batch)
    found = find_images(network, how, image, data, pictures if image else pictures or IMAGES[view])
    for name, reason in found.unreadable:
        terminal.note(f"left out: {name}: {reason}")
    shown = path_view(view, network, found, terminal.track, choice)
    document = view_document(shown)
    unnamed = not (weights or variant or random_init)
    terminal.show(replace(document, notes=((SHIPPED_NOTE,) if unnamed else ()) + document.notes), form, output)
    if plot:
        from mpvit.plots.paths import view_figure

        terminal.save(view_figure(shown), plot)


# ── what is asked for ───────────────────────────────────────────────────────────────────────────────────────────────


def _check(
    view: str,
    image: list[Path] | None,
    data: str | None,
    pictures: int | None,
    batch: int,
    config: Path | None,
    plot: Path | None,
) -> None:
    """Raise ``UsageError`` for options that do not go together, before any work is done."""
    if view not in VIEWS:
        raise unknown_name("view", view, VIEWS)
    if config and view != GEOMETRY:
        raise UsageError(f"--config with --view {view}: a configuration has only a geometry", hint=f"--view {GEOMETRY}")
    if image and data:
        raise UsageError(f"--image with --data {data}: must be one of them")
    if view == GEOMETRY and (image or data or pictures):
        raise UsageError(f"--view {GEOMETRY}: takes no pictures, it is the same for all")
    if view == GEOMETRY and plot:
        raise UsageError("--plot with --view geometry: a figure needs a network that has learned", hint="--view fields")
    if view == "contribution" and image:
        raise UsageError("--image with --view contribution: must be --data, as accuracy needs classes")
    if pictures is not None and pictures < 1:
        raise UsageError(f"--pictures {pictures}: must be at least 1")
    if view == "similarity":
        from mpvit.paths.similarity import MIN_BATCH

        if batch < 2 * MIN_BATCH:  # the batches are as equal as possible, so each has at least half of it
            raise UsageError(
                f"--batch {batch}: must be at least {2 * MIN_BATCH} with --view similarity, which compares its images"
            )


def _choice(view: str, asked: MapChoice) -> MapChoice:
    """Return ``asked``; raise ``UsageError`` if it has options of another view."""
    for name, value in asked._asdict().items():
        if value is not None and view != "attention":
            raise UsageError(f"--{name} with --view {view}: says which maps --view attention draws")
    return asked


def _pixel(text: str | None) -> tuple[int, int] | None:
    """Read "16,20" as (x, y); raise ``UsageError`` for anything else."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(options.is_digits(word) and len(word) <= options.LONGEST for word in words):  # noqa: PLR2004
        raise UsageError(f"--point {text[:40]!r}: must be two whole numbers of pixels", hint="for example --point 16,20")
    return int(words[0]), int(words[1])


def _network(
    terminal: Terminal, weights: Path | None, variant: str | None, cache: Path | None, device: str, *, random_init: bool
) -> "Predictor[MPViT]":
    """Return the network asked for, or the one that comes along."""
    from mpvit.devices import parse_device
    from mpvit.prediction import loading
    from mpvit.prediction.pretrained import find_weights

    place = parse_device(device)
    if random_init:
        terminal.note(UNTRAINED)
        return loading.random_network(variant or DEFAULT, None, place)
    file = weights or find_weights(variant or DEFAULT, cache, terminal.track)
    return loading.load_network(file, variant, None, place)
