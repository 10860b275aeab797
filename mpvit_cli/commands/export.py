"""``mpvit export``: a network for other programs."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mpvit.errors import UsageError, unknown_name
from mpvit.export import DTYPES, DYNAMIC, SUFFIXES, TARGETS, ExportOptions, get_target
from mpvit.extras import require
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

Variant = Annotated[str | None, options.variant("what the weights say, else xsmall")]
RandomInit = Annotated[bool, typer.Option("--random-init", help="Untrained network, to measure or to try an engine.")]
To = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(TARGETS),
        help="For which engine. (default: by the suffix of -o)",
        autocompletion=options.complete(TARGETS),
        show_default=False,
    ),
]
Target = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help=f"Where it goes: {', '.join(SUFFIXES)}; whole or not at all.", show_default=False
    ),
]
Dynamic = Annotated[
    str | None,
    typer.Option(
        metavar=",".join(DYNAMIC), help="What a call may choose: batch, size or both. (default: none)", show_default=False
    ),
]
Dtype = Annotated[
    str, typer.Option(metavar="|".join(DTYPES), help="Numbers of the weights.", autocompletion=options.complete(DTYPES))
]
Fused = Annotated[bool, typer.Option("--fused", help="Export mpvit.fuse of the network.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS",
        help="Image size: one side, or HEIGHTxWIDTH. (default: what the weights say, else 224)",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Pictures in classes, as in eval: accuracy beside torch's, and int8's calibration.",
        show_default=False,
    ),
]
Calibration = Annotated[int, typer.Option(parser=options.whole, metavar="N", help="Pictures that int8 is calibrated by.")]


def export(
    ctx: typer.Context,
    weights: options.Weights = None,
    random_init: RandomInit = False,
    variant: Variant = None,
    config: options.Config = None,
    to: To = None,
    output: Target = None,
    dynamic: Dynamic = None,
    dtype: Dtype = "float32",
    fused: Fused = False,
    size: Size = None,
    batch: options.Batch = 1,
    data: Data = None,
    calibration: Calibration = 256,
    classes: options.Classes = None,
    cache: options.Cache = None,
    form: options.Format = None,
) -> None:
    """Write a network for onnxruntime, OpenVINO or torch.export, with its classes, preprocessing and configuration inside.

    First it runs in its engine beside torch; where they differ nothing is written, and the exit code is 1.

    Examples:
      mpvit export --variant digits-nano --dynamic batch -o digits.onnx

      mpvit export --weights w.safetensors --dtype int8 --data photos -o photos.xml
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    name, path = _target(to, output)
    sides = options.parse_size(size) if size else None
    asked = ExportOptions(target=name, dtype=dtype, dynamic=_words(dynamic), fused=fused, batch=batch, size=sides or (224, 224))
    _require_one(weights, random_init=random_init, config=config)
    get_target(name, dtype)
    if data:
        require("accelerate", "kornia", "torchmetrics")
    elif dtype == "int8":
        raise UsageError(
            "--dtype int8: needs pictures to find the ranges of its numbers", hint="--data FOLDER, or --data digits"
        )

    from mpvit.export.convert import export_network, write_files
    from mpvit.prediction.loading import load_network, random_network
    from mpvit.prediction.pretrained import find_weights
    from mpvit.tables.export import export_document

    if random_init:
        label, model = options.parse_model(ctx, variant, config)
        network = random_network(model, classes)
    else:
        network = load_network(weights or find_weights(variant, cache, terminal.track), variant, classes)
        label = network.about.model
    asked = replace(asked, size=sides or (network.preprocessing.size,) * 2)
    pictures, shown = None, None
    if data:
        from mpvit.training.export_data import ExportData

        shown = ExportData(network, data, asked.size, options.parse_workers(None), terminal.track)
        pictures = shown.calibration(calibration) if dtype == "int8" else None
    made = export_network(label, network.model, network.metadata, asked, pictures)
    accuracies = shown.evaluations(made) if shown else ()
    files = write_files(made, path)
    terminal.show(export_document(made, accuracies, str(path)), form)
    for file in files:
        terminal.note(f"wrote {file}")


def _target(to: str | None, output: Path | None) -> tuple[str, Path]:
    """Return the target, by its name or the file's suffix, and the file; raise ``UsageError`` where they do not go together."""
    if output is None:
        raise UsageError("no file to write to", hint="name one with -o")
    if to is not None and to not in TARGETS:
        raise unknown_name("target", to, TARGETS)
    found = to or SUFFIXES.get(output.suffix)
    if found is None:
        raise UsageError(f"{str(output)!r}: must end in {', '.join(SUFFIXES)}", hint="or name the target with --to")
    if SUFFIXES.get(output.suffix) != found:  # or nothing would know it again
        suffix = next(suffix for suffix, target in SUFFIXES.items() if target == found)
        raise UsageError(f"{str(output)!r} with --to {found}: must end in {suffix}")
    return found, output


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(","))) if text else ()


def _require_one(weights: Path | None, *, random_init: bool, config: Path | None) -> None:
    if random_init and weights:
        raise UsageError(f"--random-init with --weights {weights}: must be one of them")
    if config and not random_init:
        raise UsageError(f"--config {config}: needs --random-init", hint="weights of this project carry their configuration")
