"""torch's own program, ``torch.export.save``: run by torch without this project's code.

torch's loader can run code that a file brings, unlike the other engines': what is opened must come from somebody trusted.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

from mpvit.errors import MpvitError, UsageError, first_line
from mpvit.export import Export, Opened, Target
from mpvit.export.program import exported_program, quiet
from mpvit.export.signature import Signature, signature_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

    from mpvit.model.network import MPViT

_EXTRA = "/extra/"
"""Where the archive has what is no part of the program."""


def write(network: MPViT, asked: Export, metadata: Mapping[str, str], _: Tensor | None) -> dict[str, bytes]:
    """Return the file's bytes; see ``mpvit.export.Target``."""
    import torch

    program, buffer = exported_program(network, asked, getattr(torch, asked.dtype)), io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files=dict(metadata))
    return {".pt2": buffer.getvalue()}


def open_bytes(files: Mapping[str, bytes], _: int) -> Opened:
    """Return a program in torch, which has its own threads; raise ``MpvitError`` where it is damaged or takes no images."""
    import torch

    data = files[".pt2"]
    try:
        metadata = _metadata(data)
        with quiet():
            program = torch.export.load(io.BytesIO(data))
            signature = _signature(program)
            network = program.module()
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - on damaged bytes it raises anything
        hint = "is it damaged, or no file of torch.export.save?"
        raise MpvitError(f"torch cannot open it: {first_line(error)}", hint=hint) from None

    def run(images: NDArray[Any]) -> NDArray[Any]:
        try:
            with torch.inference_mode():
                logits: NDArray[Any] = network(torch.from_numpy(images)).numpy()
        except (RuntimeError, AssertionError) as error:  # its guards assert
            raise MpvitError(f"torch failed: {first_line(error)}") from None
        return logits

    return Opened(run, signature, metadata, f"torch {torch.__version__.partition('+')[0]}")


def _metadata(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition(_EXTRA)[2]: archive.read(name).decode() for name in archive.namelist() if _EXTRA in f"/{name}"}


def _signature(program: ExportedProgram) -> Signature:
    import torch

    named = program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    given, got = [[values.get(str(name)) for name in names] for names in (named.user_inputs, named.user_outputs)]
    if len(given) != 1 or not all(
        isinstance(each, torch.Tensor) and each.dtype == torch.float32 for each in (*given, *got[:1])
    ):
        raise UsageError(f"it takes {len(given)} inputs: must take one float32 tensor of images and give one of logits")
    return signature_of(_lengths(given[0]), _lengths(got[0]), "it")


def _lengths(tensor: Any) -> list[int | None]:  # noqa: ANN401 - a tensor, as has been checked
    return [length if isinstance(length, int) else None for length in tensor.shape]


TARGET = Target((".pt2",), (), None, write, open_bytes)
