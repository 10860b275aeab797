"""Which networks, and at which size of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from mpvit.attention import KINDS
from mpvit.config import ModelConfig, load_config
from mpvit.errors import UsageError
from mpvit.operations.conventions import CONVENTIONS
from mpvit.variants import DEFAULT_VARIANT, NETWORKS, VARIANTS, get_config
from mpvit_cli.options.reading import ALL, LONGEST, complete, given, is_digits, parse_names, whole


def variant(default: str, what: str = "Network", variable: str | None = "MPVIT_VARIANT") -> OptionInfo:
    """Return ``--variant`` of one network, ``what`` it is for and what ``default`` says stands in its place."""
    found: OptionInfo = typer.Option(
        metavar="NAME",
        help=f"{what}: {', '.join(NETWORKS)}. (default: {default})",
        autocompletion=complete(NETWORKS),
        envvar=variable,
        show_default=False,
    )
    return found


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
Variant = Annotated[str | None, variant(DEFAULT_VARIANT)]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="A network of your own instead of a variant.", show_default=False)
]
Size = Annotated[str, typer.Option(metavar="PIXELS", help="Image size: one side, or HEIGHTxWIDTH.", envvar="MPVIT_SIZE")]
Batch = Annotated[int, typer.Option(parser=whole, metavar="N", help="Images in the batch.")]
Convention = Annotated[
    str,
    typer.Option(metavar="|".join(CONVENTIONS), help="What MACs add up, as in flops.", autocompletion=complete(CONVENTIONS)),
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


def parse_size(text: str) -> tuple[int, int]:
    """Read "224" or "800x1280" as (height, width) in pixels; raise ``UsageError`` for anything else."""
    lengths = text.lower().replace("×", "x").split("x")
    if len(lengths) not in (1, 2) or not all(is_digits(length) for length in lengths):
        raise UsageError(f"--size {text!r}: must be a whole number of pixels", hint="--size 224 or --size 800x1280")
    if any(len(length) > LONGEST or int(length) < 1 for length in lengths):
        raise UsageError(f"--size {text!r}: a side must be from 1 to 999999999 pixels")
    return int(lengths[0]), int(lengths[-1])


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
