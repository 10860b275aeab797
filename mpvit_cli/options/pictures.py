"""Which weights a network has, and how it is shown pictures."""

from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from mpvit.errors import UsageError
from mpvit_cli.options.reading import number, whole


def weights(default: str, also: str = "") -> OptionInfo:
    """Return ``--weights``, what it may name ``also``, and which ``default`` says stand in their place."""
    found: OptionInfo = typer.Option(
        metavar="FILE",
        help=f"A safetensors file of this project, a published checkpoint{also}. (default: {default})",
        show_default=False,
    )
    return found


Weights = Annotated[Path | None, weights("published, downloaded once")]
WeightsOrExported = Annotated[Path | None, weights("published, downloaded once", ", or a file of mpvit export")]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Names of the classes, one a line. (default: what the weights say, else ImageNet-1K's)",
        show_default=False,
    ),
]
Crop = Annotated[
    float | None,
    typer.Option(
        parser=number,
        metavar="SHARE",
        help="Share of the short side that is seen, up to 1. (default: what the weights say, else 0.875)",
        show_default=False,
    ),
]
Side = Annotated[
    int | None,
    typer.Option(
        parser=whole,
        metavar="PIXELS",
        help="Side of the square that the network sees. (default: what the weights say, else 224)",
        show_default=False,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where downloaded weights are kept. (default: the system's cache folder)",
        envvar="MPVIT_CACHE",
        show_default=False,
    ),
]


def check_segmenter(weights: Path, variant: str | None, crop: float | None) -> bool:
    """Tell whether a weights file holds a segmenter; raise ``UsageError`` for options that are of classifiers alone."""
    from mpvit.model.weights import read_task

    task = read_task(weights)
    if task is None:
        return False
    if variant is not None:
        raise UsageError(f"--variant {variant}: {weights} holds a segmenter, {task}, and says its network itself")
    if crop is not None:
        raise UsageError(f"--crop {crop}: {weights} holds a segmenter, {task}, which sees whole images")
    return True
