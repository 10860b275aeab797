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

from mpvit.errors import MpvitError, first_line
from mpvit.model.program import as_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram

    from mpvit.export import Export
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
    """Return the network as a program with the asked dimensions open; raise ``MpvitError`` where torch makes none."""
    try:
        with quiet():
            program = as_program(arranged(network, asked, dtype), _example(network, asked), asked.dynamic)
    except Exception as error:  # the exporter raises anything
        opened = f" with {' and '.join(asked.dynamic)} open" if asked.dynamic else ""
        raise MpvitError(
            f"torch cannot export the network{opened}: {first_line(error)}",
            hint="leave --dynamic away: the file is then for one batch and size" if asked.dynamic else "",
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which names the files of this machine
    return program


def _example(network: MPViT, asked: Export) -> Tensor:
    """Return images, (b, c, h, w), to follow through the network: what is open, torch must not take for a fixed 1."""
    batch = 2 if "batch" in asked.dynamic else asked.batch
    stride = 2 ** (len(network.config.stages) + 1)  # of the last stage's map: 4 in the first and doubled after
    height, width = asked.size
    if "size" in asked.dynamic:
        height, width = max(height, 2 * stride), max(width, 2 * stride) + stride
    return torch.zeros(batch, network.config.in_channels, height, width)


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
