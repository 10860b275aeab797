"""The weights of a network, and how it is shown images."""

from pathlib import Path
from typing import Annotated, Any

from mpvit.errors import UsageError
from mpvit_cli.options import Options, conflict, option
from mpvit_cli.options.networks import variant_option
from mpvit_cli.options.values import number, whole
from mpvit_cli.output import Terminal


def weights_option(default: str, also: str = "") -> Any:  # noqa: ANN401 - what Typer returns
    """Return the declaration of ``--weights``; ``also`` names further kinds of files that it takes."""
    return option(
        f"Weights: a safetensors file of this project, a published checkpoint{also}.", metavar="FILE", default=default
    )


class Weights(Options):
    """Weights and where they come from."""

    weights: Annotated[Path | None, weights_option("published, downloaded once")] = None
    variant: Annotated[str | None, variant_option("the network of the weights")] = None
    cache: Annotated[
        Path | None,
        option("Folder of downloaded weights.", metavar="FOLDER", env="MPVIT_CACHE", default="the system's cache folder"),
    ] = None

    def check(self) -> None:
        """Raise ``UsageError`` for weights of an untrained network."""
        if self.weights and getattr(self, "random_init", False):
            raise conflict("--random-init", f"--weights {self.weights}")

    def file(self, terminal: Terminal, default: str | None = None) -> Path:
        """Return the weights file; without ``--weights`` it is that of the variant, ``default`` if none is named."""
        from mpvit.prediction.pretrained import find_weights

        return self.weights or find_weights(self.variant or default, self.cache, terminal.track)

    def is_segmenter(self, crop: float | None) -> bool:
        """Tell whether the weights are of a segmenter; raise ``UsageError`` for options that apply to classifiers only."""
        from mpvit.model.weights import read_task

        task = read_task(self.weights) if self.weights else None
        if task is None:
            return False
        if self.given("variant"):
            raise UsageError(f"--variant {self.variant}: {self.weights} holds a segmenter, {task}, and its network")
        if crop is not None:
            raise UsageError(f"--crop {crop}: {self.weights} holds a segmenter, {task}, which takes whole images")
        return True


class ClassNames(Options):
    """Names of the classes."""

    classes: Annotated[
        Path | None,
        option(
            "File with the names of the classes, one per line.",
            metavar="FILE",
            default="those of the weights, else ImageNet-1K",
        ),
    ] = None


class PreprocessingOptions(Options):
    """Size and crop of the images."""

    crop: Annotated[
        float | None,
        option(
            "Share of the short side that the centre crop keeps, above 0 and at most 1.",
            parser=number,
            metavar="SHARE",
            default="that of the weights, else 0.875",
        ),
    ] = None
    size: Annotated[
        int | None,
        option("Side of the square input, in pixels.", parser=whole, metavar="PIXELS", default="that of the weights, else 224"),
    ] = None

    @property
    def settings(self) -> dict[str, Any]:
        """The size and the crop that are given, else None."""
        return {"size": self.size, "crop": self.crop}
