"""The options that several commands share, and what words are read as. A command's own options stand in its file."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mpvit.attention import KINDS
from mpvit.config import ModelConfig, load_config
from mpvit.errors import UsageError
from mpvit.measurement import DTYPES
from mpvit.operations.conventions import CONVENTIONS
from mpvit.render import FORMATS
from mpvit.units import decimal_times, is_whole
from mpvit.variants import DEFAULT_VARIANT, NETWORKS, VARIANTS, get_config

ALL = "all"
PLOTS = (".svg", ".png", ".pdf")

LONGEST = 9
"""Digits of the largest."""

LARGEST = 10**LONGEST - 1
"""The largest whole number that an option takes: counts of anything larger would not fit a float."""


def complete(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a shell completion that offers those of ``names`` that start as typed."""
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def whole(value: str | int) -> int:
    """Read a whole number; a default comes as one."""
    try:
        found = int(value)
    except ValueError:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be a whole number") from None
    if abs(found) > LARGEST:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be at most {LARGEST}")
    return found


def number(value: str | float) -> float:
    """Read a number; a default comes as one."""
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be a number") from None


Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME|all",
        help=f"Network: {', '.join(NETWORKS)}, or all that are published; repeatable, or joined by commas. (default: all)",
        autocompletion=complete([ALL, *NETWORKS]),
        envvar="MPVIT_VARIANT",
        show_default=False,
    ),
]
Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", metavar="FILE.toml", help="A network of your own; repeatable.", show_default=False),
]
Variant = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Network: {', '.join(NETWORKS)}. (default: {DEFAULT_VARIANT})",
        autocompletion=complete(NETWORKS),
        envvar="MPVIT_VARIANT",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="A network of your own instead of a variant.", show_default=False)
]
Size = Annotated[str, typer.Option(metavar="PIXELS", help="Image size: one side, or HEIGHTxWIDTH.", envvar="MPVIT_SIZE")]
Batch = Annotated[int, typer.Option(parser=whole, metavar="N", help="Images in the batch.")]
Convention = Annotated[
    str,
    typer.Option(metavar="|".join(CONVENTIONS), help="What MACs add up, as in flops.", autocompletion=complete(CONVENTIONS)),
]
MinTime = Annotated[float, typer.Option(parser=number, metavar="SECONDS", help="Samples of each network that is timed.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(FORMATS),
        help="How to write the answer. (default: by the suffix of -o, else table)",
        autocompletion=complete(FORMATS),
        envvar="MPVIT_FORMAT",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write there, whole or not at all.", show_default=False),
]
Attention = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help=f"Attention of every layer instead of the published one: {', '.join(KINDS)}; a number as in linformer:128.",
        autocompletion=complete(KINDS),
        show_default=False,
    ),
]
Backward = Annotated[bool, typer.Option("--backward", help="Time forward and backward together.")]
Device = Annotated[str, typer.Option(metavar="cpu|cuda|cuda:N|mps", help="Where it runs.", envvar="MPVIT_DEVICE")]
Dtype = Annotated[str, typer.Option(metavar="|".join(DTYPES), help="Numbers it runs in.", autocompletion=complete(DTYPES))]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Write a figure: .svg, .png or .pdf.", show_default=False),
]
Threads = Annotated[
    int | None, typer.Option(parser=whole, metavar="N", help="CPU threads. (default: torch's choice)", show_default=False)
]


def check_plot(path: Path | None) -> None:
    """Raise ``UsageError`` for a file that no figure is written to, before any work is done for it."""
    if path is not None and path.suffix.lower() not in PLOTS:
        raise UsageError(f"--plot {str(path)!r}: must end in {', '.join(PLOTS)}")


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def parse_size(text: str) -> tuple[int, int]:
    """Read "224" or "800x1280" as (height, width) in pixels; raise ``UsageError`` for anything else."""
    lengths = text.lower().replace("×", "x").split("x")
    if len(lengths) not in (1, 2) or not all(_digits(length) for length in lengths):
        raise UsageError(f"--size {text!r}: must be a whole number of pixels", hint="--size 224 or --size 800x1280")
    if any(len(length) > LONGEST or int(length) < 1 for length in lengths):
        raise UsageError(f"--size {text!r}: a side must be from 1 to 999999999 pixels")
    return int(lengths[0]), int(lengths[-1])


def parse_wholes(option: str, text: str) -> tuple[int, ...]:
    """Read "1,8,32" as whole numbers of at least 1, each once; raise ``UsageError`` for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(map(is_whole, words)):
        raise UsageError(f"{option} {text!r}: must be whole numbers of at least 1", hint=f"for example {option} 1,8,32")
    return tuple(dict.fromkeys(int(word) for word in words))


AMOUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
"""What the letters behind a number of MACs or parameters stand for."""


def parse_amount(option: str, text: str) -> int:
    """Read "3G", "2.5G", "11M" or "300000" as a whole number of at least 1; raise ``UsageError`` for anything else."""
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,12})?)\s*([kmgt]?)\s*", text.lower())
    amount = decimal_times(found[1], AMOUNTS[found[2]]) if found else 0
    if amount < 1:
        raise UsageError(
            f"{option} {text[:40]!r}: must be a number of at least 1, with k, M, G or T", hint=f"for example {option} 2.5G"
        )
    return amount


def parse_range(text: str) -> tuple[int, int]:
    """Read "49..65536" as (first, last); raise ``UsageError`` for anything else."""
    ends = text.split("..")
    if len(ends) != 2 or not all(_digits(end) and len(end) <= LONGEST for end in ends):  # noqa: PLR2004
        raise UsageError(f"range {text!r}: must be two whole numbers", hint="for example 49..65536")
    first, last = int(ends[0]), int(ends[1])
    if not 1 <= first <= last:
        raise UsageError(f"range {text!r}: must go from at least 1 upwards", hint="for example 49..65536")
    return first, last


def parse_names(given: Sequence[str] | None, every: Iterable[str], default: Sequence[str]) -> list[str]:
    """Read repeated or comma-joined names, ``all`` standing for ``every`` one; each once, in the order given."""
    names = [name.strip() for text in given or default for name in text.split(",")]
    return list(dict.fromkeys(name for given in names for name in (every if given == ALL else [given])))


def given(ctx: typer.Context, name: str) -> bool:
    """Tell whether an option stands on the command line: a default and the environment give way to another option."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def chosen(ctx: typer.Context, name: str) -> bool:
    """Tell whether an option stands on the command line or in the environment: whether its value is no default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def parse_model(ctx: typer.Context, variant: str | None, config: Path | None) -> tuple[str, ModelConfig]:
    """Return the one network asked for with its name; raise ``UsageError`` for both a variant and a file."""
    if config and given(ctx, "variant"):
        raise UsageError(f"--variant {variant} with --config {config}: must be one of them")
    name = variant or DEFAULT_VARIANT
    return (config.stem, load_config(config)) if config else (name, get_config(name))


def parse_models(
    variants: Sequence[str] | None, configs: Sequence[Path] | None, attention: str | None = None
) -> dict[str, ModelConfig]:
    """Return the networks asked for by name: every variant where neither option is given.

    With ``attention``, every layer of each has that kind, and the name says so: "tiny+softmax".
    """
    default = [] if configs else [ALL]
    models = {name: get_config(name) for name in parse_names(variants, VARIANTS, default)}
    for path in configs or ():
        if path.stem in models:
            raise UsageError(f"--config {path}: there is already a network {path.stem!r}", hint="rename the file")
        models[path.stem] = load_config(path)
    if attention is None:
        return models
    return {f"{name}+{attention}": config.with_attention(attention) for name, config in models.items()}
