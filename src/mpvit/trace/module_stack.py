"""The modules whose forward is running, and the calls of modules, noted by hooks that leave no trace on the network."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.trace import ModuleCall
from mpvit.trace.arguments import shape_of, shapes_in, tensors_in
from mpvit.trace.modules import has_shapes, names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


class RunningModule(NamedTuple):
    """A module whose forward is running: the path of calls that leads to it, and its own name."""

    path: str
    name: str


class ModuleStack:
    """The modules of a network whose forward is running, while the network is ``watched``.

    The path of a call is the caller's path plus the module's name inside the caller, or its last name component if it is
    registered elsewhere. A module that runs without a caller, as in the backward pass, keeps its last path.
    """

    def __init__(self, network: nn.Module) -> None:
        """Start with nothing running."""
        self.names = names_of(network)
        self._running: list[RunningModule] = []
        self._last_paths: dict[nn.Module, str] = {}

    @property
    def innermost(self) -> RunningModule | None:
        """The innermost running module; None outside of all forward passes."""
        return self._running[-1] if self._running else None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Follow the forward passes in the block."""
        with _hooked(self.names, self._enter, self._leave):
            yield

    def _enter(self, module: nn.Module, _: Any) -> None:  # noqa: ANN401 - torch's
        own = self.names[module][0]
        path = self._last_paths.get(module, own)
        if caller := self.innermost:
            prefix = f"{caller.name}." if caller.name else ""
            inside = [name.removeprefix(prefix) for name in self.names[module] if name.startswith(prefix)]
            local = min(inside, key=lambda name: name.count("."), default=own.rpartition(".")[2])
            path = f"{caller.path}.{local}".strip(".")
        self._last_paths[module] = path
        self._running.append(RunningModule(path, own))

    def _leave(self, *_: Any) -> None:  # noqa: ANN401 - torch's
        self._running.pop()


class ModuleCalls:
    """The calls of modules in one forward pass, in order; the ``stack`` must be watched around it."""

    def __init__(self, stack: ModuleStack) -> None:
        """Start with no calls."""
        self.stack = stack
        self._calls: list[ModuleCall | None] = []
        self._open: list[int] = []

    @property
    def calls(self) -> tuple[ModuleCall, ...]:
        """The calls so far."""
        return tuple(call for call in self._calls if call)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note the calls in the block."""
        with _hooked(self.stack.names, self._enter, self._leave):
            yield

    def _enter(self, module: nn.Module, inputs: Any) -> None:  # noqa: ANN401 - torch's
        running = self.stack.innermost
        elsewhere = running is not None and running.path != running.name
        wanted = elsewhere or len(self.stack.names[module]) > 1 or any(True for _ in module.parameters())
        shapes = shapes_in(inputs) if has_shapes(module) else ()
        self._open.append(len(self._calls))
        self._calls.append(ModuleCall(*running, shapes) if running and wanted else None)

    def _leave(self, module: nn.Module, _: Any, outputs: Any) -> None:  # noqa: ANN401 - torch's
        index = self._open.pop()
        call, results = self._calls[index], tensors_in(outputs)
        if call and results and has_shapes(module):
            self._calls[index] = replace(call, output=shape_of(results[0]))


@contextlib.contextmanager
def _hooked(modules: dict[nn.Module, list[str]], enter: Callable[..., None], leave: Callable[..., None]) -> Iterator[None]:
    hooks = [module.register_forward_pre_hook(enter) for module in modules]
    hooks += [module.register_forward_hook(leave, always_call=True) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
