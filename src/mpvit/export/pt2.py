"""The ``.pt2`` file of ``torch.export.save``, which torch runs without this project's code.

The loader can run code that a file contains, unlike the other engines: open only files from a trusted source.
"""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from mpvit.errors import UsageError
from mpvit.export import ExportOptions, InferenceSession, Target
from mpvit.export.exported_program import engine_errors, export_program, quiet
from mpvit.export.shapes import InputOutputShapes
from mpvit.model.network import MPViT

_EXTRA = "/extra/"
"""Folder of the archive that holds the metadata."""


def write(network: MPViT, options: ExportOptions, metadata: Mapping[str, str], _: Tensor | None) -> dict[str, bytes]:
    """Return the file's bytes; see ``mpvit.export.Target``."""
    program, buffer = export_program(network, options, getattr(torch, options.dtype)), io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files=dict(metadata))
    return {".pt2": buffer.getvalue()}


def open_bytes(files: Mapping[str, bytes], _: int) -> InferenceSession:
    """Load a program; torch chooses the number of threads. Raises ``MpvitError`` if it is damaged or takes no images."""
    with engine_errors("torch cannot open it", "is it damaged, or not a file of torch.export.save?"), quiet():
        metadata = _metadata(files[".pt2"])
        program = torch.export.load(io.BytesIO(files[".pt2"]))
        shapes, network = _shapes(program), program.module()

    def run(images: NDArray[Any]) -> NDArray[Any]:
        with engine_errors("torch failed"), torch.inference_mode():
            logits: NDArray[Any] = network(torch.from_numpy(images)).numpy()
            return logits

    return InferenceSession(run, shapes, metadata, f"torch {torch.__version__.partition('+')[0]}")


def _metadata(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition(_EXTRA)[2]: archive.read(name).decode() for name in archive.namelist() if _EXTRA in f"/{name}"}


def _shapes(program: "ExportedProgram") -> InputOutputShapes:
    signature = program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs, outputs = [[values.get(str(name)) for name in names] for names in (signature.user_inputs, signature.user_outputs)]
    tensors = [each for each in (*inputs, *outputs[:1]) if isinstance(each, torch.Tensor) and each.dtype == torch.float32]
    if len(inputs) != 1 or len(tensors) != 2:  # noqa: PLR2004 - one input and one output
        raise UsageError(f"it has {len(inputs)} inputs: must take one float32 tensor of images and return one of logits")
    return InputOutputShapes.from_axes(tensors[0].shape, tensors[1].shape)


TARGET = Target((".pt2",), (), None, write, open_bytes)
