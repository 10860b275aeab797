"""The trace of a user's own network: on the meta device or, where it cannot run there, on the CPU."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mpvit.errors import MpvitError, UsageError
from mpvit.measurement.machine import shortage
from mpvit.trace import Trace
from mpvit.trace.live import trace_module
from mpvit.user_model import UserModel
from mpvit.user_model.making import on_cpu, on_meta, running


class TracedModel(NamedTuple):
    """A trace, and the network and inputs that it is of, for whoever counts the same: both on meta or both on the CPU."""

    trace: Trace
    network: nn.Module
    tensors: list[Tensor]


def trace_user_model(model: UserModel, *, backward: bool = False) -> Trace:
    """Return the trace of a user's model, perhaps of its backward pass too; errors are those of ``traced``."""
    return traced(model, backward=backward).trace


def traced(model: UserModel, *, backward: bool = False) -> TracedModel:
    """Trace a user's model on the meta device or, where it cannot run there, on the CPU with the numbers of its factory.

    Raises ``MpvitError`` where its forward pass fails, or would need more memory than there is, and ``UsageError`` where it
    does not take its inputs.
    """
    network = on_meta(model)
    try:
        with torch.device("meta"):
            return _traced(model, network, "meta", backward=backward)
    except UsageError:
        raise
    except MpvitError as error:
        needed = sum(parameter.nbytes for parameter in network.parameters()) * (2 if backward else 1)  # gradients
        if short := shortage(needed):
            raise MpvitError(f"{error}; on the CPU: {short}", hint=error.hint) from error
        model.note(f"on the meta device {error}: it runs on the CPU")
    return _traced(model, on_cpu(model), "cpu", backward=backward)


def _traced(model: UserModel, network: nn.Module, device: str, *, backward: bool) -> TracedModel:
    tensors = model.tensors(device)
    with running(model):
        return TracedModel(trace_module(network, tensors, backward=backward), network, tensors)
