"""``mpvit export``: a network for other programs."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from mpvit.errors import UsageError, unknown_name
from mpvit.export import DTYPES, DYNAMIC, SUFFIXES, TARGETS, ExportOptions, get_target
from mpvit.imports import require
from mpvit_cli.options import Options, option
from mpvit_cli.options.answer import Format
from mpvit_cli.options.inference import ClassNames, Weights
from mpvit_cli.options.networks import BatchOption, OneNetwork, variant_option
from mpvit_cli.options.training import default_workers
from mpvit_cli.options.values import parse_size, whole
from mpvit_cli.output import Terminal


class Network(ClassNames, Weights, OneNetwork):
    """The network that is exported."""

    variant: Annotated[str | None, variant_option("the network of the weights, else xsmall")] = None
    random_init: Annotated[bool, option("Untrained network, to measure or to try an engine.", "--random-init")] = False

    def check(self) -> None:
        """Raise ``UsageError`` for options that exclude each other."""
        super().check()
        if self.config and not self.random_init:
            raise UsageError(
                f"--config {self.config}: needs --random-init", hint="weights of this project carry their configuration"
            )


class Exported(Options):
    """The exported file."""

    to: Annotated[str | None, option("Engine.", choices=TARGETS, default="by the suffix of -o")] = None
    output: Annotated[
        Path | None,
        option(
            f"File to write, {', '.join(SUFFIXES)}; it is written completely or not at all.", "--output", "-o", metavar="FILE"
        ),
    ] = None
    dynamic: Annotated[
        str | None, option("What each call may choose: batch, size or both.", metavar=",".join(DYNAMIC), default="none")
    ] = None
    dtype: Annotated[str, option("Dtype of the weights.", choices=DTYPES)] = "float32"
    fused: Annotated[bool, option("Export mpvit.fuse of the network.", "--fused")] = False
    size: Annotated[
        str | None,
        option("Image size in pixels: one side, or HEIGHTxWIDTH.", metavar="PIXELS", default="that of the weights, else 224"),
    ] = None
    batch: BatchOption = 1
    data: Annotated[
        str | None,
        option("Images in classes, as in eval: to compare the accuracy with torch, and to calibrate int8.", metavar="DATA"),
    ] = None
    calibration: Annotated[int, option("Images that calibrate int8.", parser=whole, metavar="N")] = 256

    def check(self) -> None:
        """Raise ``UsageError`` without a file, or if the engine and the suffix of the file disagree."""
        if self.output is None:
            raise UsageError("no file to write to", hint="name one with -o")
        if self.to is not None and self.to not in TARGETS:
            raise unknown_name("target", self.to, TARGETS)
        suffix = SUFFIXES.get(self.output.suffix)
        if suffix is None and self.to is None:
            raise UsageError(f"{str(self.output)!r}: must end in {', '.join(SUFFIXES)}", hint="or name the engine with --to")
        if suffix != self.target:
            wanted = next(suffix for suffix, target in SUFFIXES.items() if target == self.target)
            raise UsageError(f"{str(self.output)!r} with --to {self.target}: must end in {wanted}")
        get_target(self.target, self.dtype)
        if self.dtype == "int8" and not self.data:
            raise UsageError("--dtype int8: needs images to calibrate its ranges", hint="--data FOLDER, or --data digits")

    @property
    def target(self) -> str:
        """The engine: the named one, else that of the file's suffix."""
        return self.to or SUFFIXES[Path(str(self.output)).suffix]

    def options(self) -> ExportOptions:
        """Return them as the library takes them."""
        dynamic = tuple(dict.fromkeys(word.strip() for word in self.dynamic.split(","))) if self.dynamic else ()
        size = parse_size(self.size) if self.size else (224, 224)
        return ExportOptions(
            target=self.target, dtype=self.dtype, dynamic=dynamic, fused=self.fused, batch=self.batch, size=size
        )


def export(terminal: Terminal, network: Network, exported: Exported, answer: Format) -> None:
    """Write a network for onnxruntime, OpenVINO or torch.export, with its classes, preprocessing and configuration.

    Before a file is written, the export runs in its engine and is compared with torch. If they differ, nothing is written and
    the exit code is 1.

    Examples:
      mpvit export --variant digits-nano --dynamic batch -o digits.onnx

      mpvit export --weights w.safetensors --dtype int8 --data photos -o photos.xml
    """
    options = exported.options()
    if exported.data:
        require("accelerate", "kornia", "torchmetrics")

    from mpvit.export.convert import export_network, write_files
    from mpvit.prediction.loading import load_network, random_network
    from mpvit.tables.export import export_document

    if network.random_init:
        label, config = network.network()
        loaded = random_network(config, network.classes)
    else:
        loaded = load_network(network.file(terminal), network.variant, network.classes)
        label = loaded.about.model
    if exported.size is None:
        options = replace(options, size=(loaded.preprocessing.size,) * 2)
    images, shown = None, None
    if exported.data:
        from mpvit.training.export_data import ExportData

        shown = ExportData(loaded, exported.data, options.size, default_workers(), terminal.track)
        images = shown.calibration(exported.calibration) if exported.dtype == "int8" else None
    made = export_network(label, loaded.model, loaded.metadata, options, images)
    accuracies = shown.evaluations(made) if shown else ()
    files = write_files(made, Path(str(exported.output)))
    answer.show(terminal, export_document(made, accuracies, str(exported.output)))
    for file in files:
        terminal.note(f"wrote {file}")
