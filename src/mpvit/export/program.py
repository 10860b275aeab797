"""The network as a program of torch's own operators: what every target starts from."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mpvit.errors import MpvitError
from mpvit.export import SMALLEST, Export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpvit.model.network import MPViT


class _Float32Outside(nn.Module):
    """A network of another dtype that takes and gives float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, classes)."""
        return self.network(images.to(self.dtype)).float()


def arranged(network: MPViT, asked: Export, dtype: torch.dtype) -> nn.Module:
    """Return what is exported: the plain or the fused network in ``dtype``, float32 outside."""
    inner: nn.Module
    if asked.fused:
        from mpvit.model.fused import fuse

        inner = fuse(network, dtype=dtype)
    else:
        inner = copy.deepcopy(network).to(dtype)
    return (inner if dtype == torch.float32 else _Float32Outside(inner, dtype)).eval()


def exported_program(network: MPViT, asked: Export, dtype: torch.dtype = torch.float32) -> ExportedProgram:
    """Return the network as a program with the asked dimensions open; raise ``MpvitError`` where torch finds no such program.

    torch takes a length of one for one that never changes, so that what is open is shown two images.
    """
    batch = 2 if "batch" in asked.dynamic else asked.batch
    images = torch.zeros(batch, network.config.in_channels, *asked.size)
    dims: dict[int, Dim] = {0: Dim("batch", min=1)} if "batch" in asked.dynamic else {}
    if "size" in asked.dynamic:
        dims |= {2: Dim("height", min=SMALLEST), 3: Dim("width", min=SMALLEST)}
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(arranged(network, asked, dtype), (images,), dynamic_shapes=(dims,), strict=False)
    except Exception as error:  # the exporter raises anything
        raise MpvitError(
            f"torch cannot export the network{' with open ' + ' and '.join(asked.dynamic) if dims else ''}: {one_line(error)}",
            hint="leave --dynamic away: the file is then for one batch and size" if dims else "",
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which names the files of this machine
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch and the engines say of themselves off the terminal while they work."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def one_line(error: Exception) -> str:
    """Return the first line of what an engine says, without an end of its own."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return said if len(said) <= _LONGEST else said[:_LONGEST] + "…"


_LONGEST = 200
