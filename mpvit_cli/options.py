"""The options that several commands share, and what they are read as."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mpvit.config import VARIANTS, ModelConfig, get_variant, load_config
from mpvit.errors import UsageError
from mpvit.render import FORMATS

ALL = "all"


def complete(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a shell completion that offers those of ``names`` that start as typed."""
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME|all",
        help=f"Published variant: {', '.join(VARIANTS)} or all; repeatable, or joined by commas. (default: all)",
        autocompletion=complete([ALL, *VARIANTS]),
        envvar="MPVIT_VARIANT",
        show_default=False,
    ),
]
Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", metavar="FILE.toml", help="A network of your own; repeatable.", show_default=False),
]
Size = Annotated[str, typer.Option(metavar="PIXELS", help="Image size: one side, or HEIGHTxWIDTH.", envvar="MPVIT_SIZE")]
Batch = Annotated[int, typer.Option(metavar="N", help="Images in the batch.")]
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


def parse_size(text: str) -> tuple[int, int]:
    """Read "224" or "800x1280" as (height, width) in pixels; raise ``UsageError`` for anything else."""
    lengths = text.lower().replace("×", "x").split("x")
    if len(lengths) not in (1, 2) or not all(length.isascii() and length.isdigit() for length in lengths):
        raise UsageError(f"--size {text!r}: must be a whole number of pixels", hint="--size 224 or --size 800x1280")
    longest = 9
    if any(len(length) > longest or int(length) < 1 for length in lengths):
        raise UsageError(f"--size {text!r}: a side must be from 1 to 999999999 pixels")
    return int(lengths[0]), int(lengths[-1])


def parse_names(given: Sequence[str] | None, every: Iterable[str], default: Sequence[str]) -> list[str]:
    """Read repeated or comma-joined names, ``all`` standing for ``every`` one; each once, in the order given."""
    names = [name.strip() for text in given or default for name in text.split(",")]
    return list(dict.fromkeys(name for given in names for name in (every if given == ALL else [given])))


def parse_models(variants: Sequence[str] | None, configs: Sequence[Path] | None) -> dict[str, ModelConfig]:
    """Return the networks asked for by name: every variant where neither option is given."""
    default = [] if configs else [ALL]
    models = {name: get_variant(name).config for name in parse_names(variants, VARIANTS, default)}
    for path in configs or ():
        if path.stem in models:
            raise UsageError(f"--config {path}: there is already a network {path.stem!r}", hint="rename the file")
        models[path.stem] = load_config(path)
    return models
