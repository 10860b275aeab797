"""``mpvit paths``: receptive fields, contributions, similarity and attention maps of the paths of a network."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mpvit.architecture.variants import SHIPPED, get_config
from mpvit.errors import UsageError, unknown_name
from mpvit.paths.fields import path_fields
from mpvit.paths.views import BATCH, IMAGES, MapChoice, path_view
from mpvit.tables.paths import UNTRAINED, geometry_document, view_document
from mpvit.training.data import DIGITS
from mpvit_cli.options import Options, conflict, option
from mpvit_cli.options.answer import PlottedAnswer
from mpvit_cli.options.inference import PreprocessingOptions, Weights, weights_option
from mpvit_cli.options.networks import BatchOption, OneNetwork, variant_option
from mpvit_cli.options.training import parse_training_device
from mpvit_cli.options.values import ALL, MAX_DIGITS, is_digits, whole
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.model.network import MPViT
    from mpvit.prediction.loading import Predictor

GEOMETRY = "geometry"
VIEWS = (*IMAGES, GEOMETRY)
DEFAULT = next(iter(SHIPPED))
SHIPPED_NOTE = f"No network is named: this is {DEFAULT}, which ships with the package."

_IMAGES_PER_VIEW = ", ".join(f"{view} {most or ALL}" for view, most in IMAGES.items())


class ViewOptions(Options):
    """The view, and the attention maps that it draws."""

    view: Annotated[str, option("What is shown of the paths.", choices=VIEWS)] = "fields"
    stage: Annotated[int | None, option("Stage of the attention maps.", parser=whole, metavar="N", default="the last")] = None
    path: Annotated[
        int | None, option("Path of which all heads are drawn.", parser=whole, metavar="N", default="one head of each path")
    ] = None
    head: Annotated[int | None, option("Head to draw.", parser=whole, metavar="N", default="1, with --path all")] = None
    point: Annotated[
        str | None, option("Pixel of the network's input whose token attends.", metavar="X,Y", default="the centre")
    ] = None

    def check(self) -> None:
        """Raise ``UsageError`` for an unknown view, or for options of another view."""
        if self.view not in VIEWS:
            raise unknown_name("view", self.view, VIEWS)
        for name in ("stage", "path", "head", "point"):
            if getattr(self, name) is not None and self.view != "attention":
                raise UsageError(f"--{name} with --view {self.view}: selects the maps of --view attention")

    def choice(self) -> MapChoice:
        """Return the attention maps to draw."""
        return MapChoice(self.stage, self.path, self.head, _pixel(self.point))


class ViewedImages(Options):
    """The images that the network is shown."""

    image: Annotated[list[Path] | None, option("Image file, or a folder of images; repeatable.", metavar="FILE")] = None
    data: Annotated[
        str | None,
        option(
            "Dataset whose held-out images are shown: class folders, digits, scales or hf:FOLDER.",
            metavar="DATA",
            default=f"{DIGITS}, with {DEFAULT}",
        ),
    ] = None
    pictures: Annotated[
        int | None, option("Maximum number of images.", parser=whole, metavar="N", default=_IMAGES_PER_VIEW)
    ] = None
    batch: BatchOption = BATCH

    def check_view(self, view: str) -> None:
        """Raise ``UsageError`` for images that the view does not take."""
        if self.image and self.data:
            raise conflict("--image", f"--data {self.data}")
        if view == GEOMETRY and (self.image or self.data or self.pictures):
            raise UsageError(f"--view {GEOMETRY}: takes no images, it is the same for all")
        if view == "contribution" and self.image:
            raise UsageError("--image with --view contribution: must be --data, because accuracy needs classes")
        if self.pictures is not None and self.pictures < 1:
            raise UsageError(f"--pictures {self.pictures}: must be at least 1")
        if view == "similarity":
            from mpvit.paths.similarity import MIN_BATCH

            if self.batch < 2 * MIN_BATCH:  # the last batch then has at least half of that
                raise UsageError(
                    f"--batch {self.batch}: must be at least {2 * MIN_BATCH} with --view similarity, which compares its images"
                )


class ViewedNetwork(PreprocessingOptions, Weights, OneNetwork):
    """The network, and how an image becomes its input."""

    weights: Annotated[Path | None, weights_option(f"those of --variant, else {DEFAULT}")] = None
    variant: Annotated[str | None, variant_option(f"the network of the weights, else {DEFAULT}")] = None
    device: Annotated[str, option("Device.", metavar="cpu|cuda", env="MPVIT_DEVICE")] = "cpu"
    random_init: Annotated[bool, option("Untrained network: only its geometry means something.", "--random-init")] = False

    def check(self) -> None:
        """Raise ``UsageError`` for a wrong device, variant or combination."""
        super().check()
        parse_training_device(self.device)
        if self.variant:
            get_config(self.variant)

    def load(self, terminal: Terminal) -> "Predictor[MPViT]":
        """Return the network; without any option the one that ships with the package."""
        from mpvit.devices import parse_device
        from mpvit.prediction import loading

        device = parse_device(self.device)
        if self.random_init:
            terminal.note(UNTRAINED)
            return loading.random_network(self.variant or DEFAULT, None, device)
        return loading.load_network(self.file(terminal, DEFAULT), self.variant, None, device)


def paths(terminal: Terminal, view: ViewOptions, network: ViewedNetwork, images: ViewedImages, answer: PlottedAnswer) -> None:
    """Show what each path of a trained network contributes, on images that the network was not trained on.

    fields: receptive fields, in closed form and by gradients. contribution: the share of each path, and the accuracy without
    it. similarity: how similar the paths are. attention: attention maps between tokens. geometry: only the closed form, for
    any network.

    Examples:
      mpvit paths --view contribution --plot contribution.png

      mpvit paths --view fields --weights run/weights.safetensors --image photo.jpg --plot fields.svg
    """
    images.check_view(view.view)
    if network.config and view.view != GEOMETRY:
        raise UsageError(f"--config with --view {view.view}: a configuration has only a geometry", hint=f"--view {GEOMETRY}")
    if view.view == GEOMETRY and answer.plot:
        raise UsageError("--plot with --view geometry: a figure needs a trained network", hint="--view fields")
    choice = view.choice()
    if view.view == GEOMETRY:
        _show_geometry(terminal, network, answer)
        return
    from mpvit.paths.images import find_images
    from mpvit.prediction.inference import InferenceConfig

    loaded = network.load(terminal)
    config = InferenceConfig.of(loaded.preprocessing, **network.settings, batch=images.batch)
    count = images.pictures if images.image else images.pictures or IMAGES[view.view]
    found = find_images(loaded, config, images.image, images.data, count)
    for name, reason in found.unreadable:
        terminal.note(f"left out: {name}: {reason}")
    shown = path_view(view.view, loaded, found, terminal.track, choice)
    document = view_document(shown)
    unnamed = not (network.weights or network.variant or network.random_init)
    answer.show(terminal, replace(document, notes=((SHIPPED_NOTE,) if unnamed else ()) + document.notes))
    answer.draw(terminal, "mpvit.plots.paths:view_figure", shown)


def _show_geometry(terminal: Terminal, network: ViewedNetwork, answer: PlottedAnswer) -> None:
    if network.weights:
        loaded = network.load(terminal)
        name, config = loaded.about.model, loaded.model.config
    else:
        name, config = network.network(DEFAULT)
    answer.show(terminal, geometry_document(name, path_fields(config)))


def _pixel(text: str | None) -> tuple[int, int] | None:
    """Read "16,20" as (x, y); raise ``UsageError`` for anything else."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(is_digits(word) and len(word) <= MAX_DIGITS for word in words):  # noqa: PLR2004
        raise UsageError(f"--point {text[:40]!r}: must be two whole numbers of pixels", hint="for example --point 16,20")
    return int(words[0]), int(words[1])
