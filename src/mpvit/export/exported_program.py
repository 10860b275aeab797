"""The network as a ``torch.export.ExportedProgram``, from which every target starts."""

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from mpvit.errors import MpvitError, first_line
from mpvit.export import DYNAMIC, ExportOptions
from mpvit.model.fused import fuse
from mpvit.model.network import MPViT


def as_program(network: nn.Module, images: Tensor, dynamic: tuple[str, ...] = DYNAMIC) -> "ExportedProgram":
    """Return ``network``, plain or fused and in evaluation mode, as a program; ``images``, (b, c, h, w), are an example.

    The axes that ``dynamic`` names may have any length from 1 on; the others keep the length that they have in ``images``.
    An example with dynamic axes must have at least 2 images and no stage with a feature map of 1 pixel.
    """
    from torch.export import Dim  # these load torch's compiler
    from torch.utils._sympy.value_ranges import ValueRanges

    axes_of = {"batch": (0,), "size": (2, 3)}
    axes = {axis: Dim.DYNAMIC for name in dynamic for axis in axes_of[name]}
    with torch.no_grad():
        program = torch.export.export(network, (images,), dynamic_shapes=(axes,))
    # torch specialises on a length of 1, whose stride is arbitrary, and refuses it elsewhere. No operation here depends on it.
    program._guards_code.clear()  # noqa: SLF001 - there is no other way
    for size, allowed in program.range_constraints.items():
        program.range_constraints[size] = ValueRanges(1, allowed.upper)
    return program


class _Float32Interface(nn.Module):
    """A network of another dtype whose input and output are float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, classes)."""
        return self.network(images.to(self.dtype)).float()


def export_program(network: MPViT, options: ExportOptions, dtype: torch.dtype = torch.float32) -> "ExportedProgram":
    """Return the plain or fused network in ``dtype`` as a program; raise ``MpvitError`` where torch cannot export it."""
    try:
        with quiet():
            module: nn.Module = fuse(network, dtype) if options.fused else copy.deepcopy(network).to(dtype)
            module = module if dtype == torch.float32 else _Float32Interface(module, dtype)
            program = as_program(module.eval(), _example(network, options), options.dynamic)
    except Exception as error:  # the exporter raises anything
        raise export_error("export the network", options, error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def export_error(action: str, options: ExportOptions, error: BaseException) -> MpvitError:
    """Return the error that torch cannot do ``action``."""
    dynamic = f" with dynamic {' and '.join(options.dynamic)}" if options.dynamic else ""
    hint = "export without dynamic axes: the file is then for one batch and size" if dynamic else ""
    return MpvitError(f"torch cannot {action}{dynamic}: {reason(error)}", hint=hint)


def _example(network: MPViT, options: ExportOptions) -> Tensor:
    """Return example images, (b, c, h, w), on whose dynamic axes torch does not specialise."""
    batch = 2 if "batch" in options.dynamic else options.batch
    height, width = options.size
    if "size" in options.dynamic:
        reduction = network.config.reduction(len(network.config.stages) - 1)
        height, width = max(height, 2 * reduction), max(width, 2 * reduction) + reduction
    return torch.zeros(batch, network.config.in_channels, height, width)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings, logs and output of torch and the engines."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def engine_errors(message: str, hint: str = "") -> Iterator[None]:
    """Raise whatever an engine raises as an ``MpvitError`` with ``message`` and the reason."""
    try:
        yield
    except MpvitError:
        raise
    except Exception as error:  # noqa: BLE001 - the engines' errors have no common class
        raise MpvitError(f"{message}: {reason(error)}", hint=hint) from None


def reason(error: BaseException) -> str:
    """Return the line of an engine's error that gives the reason."""
    text = str(error).strip()
    if text.startswith("Exception from src"):  # OpenVINO begins with places in its own code
        return first_line(RuntimeError(text.splitlines()[-1]))
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error))
