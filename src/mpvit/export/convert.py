"""The export of a network: written for its engine, run there, and compared with torch."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mpvit.architecture.closed_form import network as operations_of
from mpvit.errors import MpvitError, UsageError
from mpvit.export import ExportOptions, get_target
from mpvit.export.exported_network import ExportedNetwork, export_metadata
from mpvit.export.results import Difference, ExportResult
from mpvit.files import write_together
from mpvit.model.metadata import Metadata, Preprocessing
from mpvit.model.network import MPViT
from mpvit.units import times

TOLERANCES = {"float32": 1e-5, "float16": 0.02, "int8": 0.25}
"""Largest allowed ‖logits - torch's float32 logits‖ / ‖torch's float32 logits‖, by dtype."""

_INT8_IMAGES = 32
"""Number of calibration images on which an int8 export is compared with torch, if there are as many."""

_SEED = 0
"""Random seed of the images for the comparison."""


def export_network(
    name: str, network: MPViT, metadata: Metadata, options: ExportOptions, images: Tensor | None = None
) -> ExportResult:
    """Return a float32 network in evaluation mode as the files that ``options`` describes.

    ``images``, (n, c, h, w) and preprocessed, calibrate int8 and are used for its comparison with torch; other dtypes are
    compared on seeded noise. Raises ``UsageError`` for what the network or the target cannot do, ``MpvitError`` if the logits
    differ from torch's by more than ``TOLERANCES`` or a library is missing.
    """
    target = get_target(options.target, options.dtype)
    if options.dtype != "int8":
        images = None
    elif images is None or len(images) < options.batch:
        count = 0 if images is None else len(images)
        raise UsageError(
            f"{count} calibration images for int8: must be at least batch = {options.batch}", hint="give images to calibrate on"
        )
    for batch, height, width in options.shapes:
        operations_of(network.config, batch, height, width)  # raises for a size that the network cannot have
    preprocessing = replace(metadata.preprocessing or Preprocessing(), size=min(options.size))
    text = export_metadata(network.config, replace(metadata, preprocessing=preprocessing), options)
    files = target.write(network, options, text, images)
    exported = ExportedNetwork(target.open(files, torch.get_num_threads()))
    differences = tuple(_difference(network, exported, _inputs(network, shape, images)) for shape in options.shapes)
    _check(differences, options, exported.engine)
    return ExportResult(
        model=name,
        options=options,
        files=files,
        engine=exported.engine,
        differences=differences,
        tolerance=TOLERANCES[options.dtype],
        reference=f"torch {torch.__version__.partition('+')[0]}",
        threads=torch.get_num_threads(),
        calibrated=0 if images is None else len(images),
    )


def write_files(result: ExportResult, path: Path) -> list[Path]:
    """Write all files of an export or none, the first one to ``path``. Return their paths."""
    files = {path if path.suffix == suffix else path.with_suffix(suffix): data for suffix, data in result.files.items()}
    write_together(files)
    return list(files)


def open_result(result: ExportResult) -> ExportedNetwork:
    """Load an export into its engine, with as many threads as torch has."""
    return ExportedNetwork(get_target(result.options.target).open(result.files, torch.get_num_threads()))


def _inputs(network: MPViT, shape: tuple[int, int, int], images: Tensor | None) -> Tensor:
    batch, height, width = shape
    if images is not None:
        chosen = images[: max(batch, _INT8_IMAGES)]
        return torch.nn.functional.interpolate(chosen, (height, width), mode="bilinear", antialias=True)
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn(batch, network.config.in_channels, height, width, generator=generator)


def _difference(network: MPViT, exported: ExportedNetwork, images: Tensor) -> Difference:
    with torch.inference_mode():
        expected, found = network(images).double(), exported(images).double()
    if found.shape != expected.shape:
        raise MpvitError(
            f"{exported.engine} gives {times(found.shape)} for {times(images.shape)}, torch gives "
            f"{times(expected.shape)}: not written"
        )
    return Difference(
        shape=tuple(images.shape),
        absolute=float((found - expected).abs().max()),
        relative=float((found - expected).norm() / expected.norm()),
        probability=float((found.softmax(-1) - expected.softmax(-1)).abs().max()),
    )


def _check(differences: tuple[Difference, ...], options: ExportOptions, engine: str) -> None:
    worst = max(differences, key=lambda each: math.inf if math.isnan(each.relative) else each.relative)
    if not worst.relative <= TOLERANCES[options.dtype]:
        raise MpvitError(
            f"{engine} on {times(worst.shape)}, {options.dtype}: its logits are {worst.relative:.1e} from torch's, "
            f"more than {TOLERANCES[options.dtype]:g}: not written"
        )
