"""The trace of a user's own network: on the meta device or, if it cannot run there, on the CPU."""

from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from mpvit.errors import MpvitError, UsageError
from mpvit.measurement.machine import shortage
from mpvit.trace import Trace
from mpvit.trace.live import trace_module
from mpvit.user_model import UserModel
from mpvit.user_model.making import on_cpu, on_meta, running


class TracedModel(NamedTuple):
    """A trace, and the network and inputs that were traced: all on the meta device, or all on the CPU."""

    trace: Trace
    network: nn.Module
    tensors: list[Tensor]


def trace_user_model(
    model: UserModel, *, backward: bool = False, graph: bool = False, dispatched_on_cpu: bool = False
) -> TracedModel:
    """Trace a user's model, with the arguments of ``trace_module``.

    On the CPU the network has the numbers that its factory gives it. Raises ``MpvitError`` if its forward pass fails or would
    need more memory than there is, and ``UsageError`` if it does not take its inputs.
    """
    trace = partial(trace_module, backward=backward, graph=graph, dispatched_on_cpu=dispatched_on_cpu)
    network, tensors = on_meta(model), model.tensors("meta")
    try:
        with running(model):
            return TracedModel(trace(network, tensors), network, tensors)
    except UsageError:
        raise
    except MpvitError as error:
        needed = sum(parameter.nbytes for parameter in network.parameters()) * (2 if backward else 1)  # gradients
        if short := shortage(needed):
            raise MpvitError(f"{error}; on the CPU: {short}", hint=error.hint) from error
        model.note(f"on the meta device {error}: it runs on the CPU")
    network, tensors = on_cpu(model), model.tensors("cpu")
    with running(model):
        return TracedModel(trace(network, tensors), network, tensors)
