"""``mpvit weights``: description, verification and conversion of a weights file."""

from pathlib import Path
from typing import Annotated

from mpvit.errors import CheckError, UsageError, unknown_name
from mpvit_cli.options import Options, argument, option
from mpvit_cli.options.answer import Answer, Format
from mpvit_cli.options.networks import variant_option
from mpvit_cli.output import Terminal


class WeightsFileOptions(Options):
    """A weights file, and the network that it is compared with."""

    file: Annotated[
        Path, argument("A safetensors file of this project, a published checkpoint, or a file of mpvit export.", metavar="FILE")
    ]
    variant: Annotated[
        str | None, variant_option("the network of the file, else any", "Network to compare the file with", env=None)
    ] = None


class Converted(Options):
    """The layout and the file of the converted weights."""

    to: Annotated[str | None, option("Layout.", metavar="project|published", default="the other one")] = None
    output: Annotated[Path | None, option("File of the converted weights.", "--output", "-o", metavar="FILE")] = None


def inspect(terminal: Terminal, weights: WeightsFileOptions, answer: Answer) -> None:
    """Describe a file: layout, network, classes, preprocessing, training data and accuracy.

    Examples:
      mpvit weights inspect run/weights.safetensors

      mpvit weights inspect mpvit_tiny.pth --format json
    """
    from mpvit.prediction import inspection
    from mpvit.tables.weights import weights_document

    answer.show(terminal, weights_document([inspection.inspect(weights.file, weights.variant)]))


def verify(terminal: Terminal, weights: WeightsFileOptions, answer: Format) -> None:
    """Check that every tensor of a file is there and fits its network; if one does not, name it and exit with 3.

    Examples:
      mpvit weights verify run/weights.safetensors

      mpvit weights verify mpvit_tiny.pth --variant tiny
    """
    from mpvit.prediction import inspection
    from mpvit.tables.weights import weights_document

    found = inspection.inspect(weights.file, weights.variant)
    answer.show(terminal, weights_document([found]))
    if found.model is None:
        message = found.misfit or f"{weights.file} fits no network"
        raise CheckError(message, hint="mpvit weights inspect describes the file")


def convert(terminal: Terminal, weights: WeightsFileOptions, converted: Converted) -> None:
    """Write the same weights in the other layout: safetensors with metadata, or a published checkpoint.

    Examples:
      mpvit weights convert mpvit_tiny.pth -o tiny.safetensors

      mpvit weights convert run/weights.safetensors --to published -o tiny.pth
    """
    from mpvit.prediction import inspection
    from mpvit.tables.weights import weights_document

    file, variant, layout, output = weights.file, weights.variant, converted.to, converted.output
    if layout is not None and layout not in inspection.LAYOUTS:
        raise unknown_name("layout", layout, inspection.LAYOUTS)
    if output is None:
        raise UsageError("no file to write to", hint="name one with -o")
    if layout is None:
        layout = "published" if inspection.inspect(file, variant).layout == "project" else "project"
    inspection.convert(file, layout, output, variant)
    terminal.show(weights_document([inspection.inspect(output, variant)]), None)
    if layout == "published":
        terminal.note("A published checkpoint has no place for classes, preprocessing and accuracy: they are not in the file.")


COMMANDS = {"inspect": inspect, "convert": convert, "verify": verify}
"""The commands of the group, by name."""
