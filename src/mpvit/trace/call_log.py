"""The calls of functions in one forward pass, each with the module that makes it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpvit.trace import Call, DispatchedOperator
from mpvit.trace.arguments import shape_of
from mpvit.trace.module_stack import ModuleStack

CallSite = tuple[str, str]
"""A path of module calls, and the operator that is called there."""


class CallLog:
    """The calls so far.

    Attributes:
        stack: the modules whose forward is running.
        calls: the calls, in order.
        nodes: number of autograd nodes that exist by the end of each call, and the call's site.
    """

    def __init__(self, network: nn.Module, stack: ModuleStack) -> None:
        """Start with no calls."""
        self.stack = stack
        self.calls: list[Call] = []
        self.nodes: list[tuple[int, CallSite]] = []
        self._learned = {id(tensor) for tensor in [*network.parameters(), *network.buffers()]}

    def add(
        self,
        operator: str,
        call_style: str,
        given: Sequence[Tensor],
        results: Sequence[Tensor],
        dispatched: tuple[DispatchedOperator, ...],
        *,
        macs: int,
        bias: bool = False,
        equation: str = "",
    ) -> None:
        """Add a call of ``operator`` that reads ``given`` and makes ``results``; none outside of all modules."""
        running = self.stack.innermost
        if not (running and given and results):
            return
        self.nodes.append((autograd_nodes(), (running.path, operator)))
        self.calls.append(
            Call(
                operator=operator,
                call_style=call_style,
                path=running.path,
                module=running.name,
                operands=tuple(map(shape_of, given)),
                learned=tuple(index for index, tensor in enumerate(given) if id(tensor) in self._learned),
                output=shape_of(results[0]),
                macs=macs,
                dispatched=dispatched,
                bias=bias,
                equation=equation,
                bytes_read=_nbytes(given),
                bytes_written=_nbytes(results),
            )
        )


def _nbytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def autograd_nodes() -> int:
    """Return the number of nodes that autograd has made in this thread."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]  # noqa: SLF001 - no public name
