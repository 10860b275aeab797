"""The modules whose forward is running, and the calls of modules, noted by hooks that leave no trace on the network."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from mpvit.trace import ModuleCall
from mpvit.trace.arguments import shape_of, shapes_in, tensors_in
from mpvit.trace.modules import has_shapes, names_of


class RunningModule(NamedTuple):
    """A module whose forward is running: the path of calls that leads to it, and its own name."""

    path: str
    name: str


class ModuleStack:
    """The modules of a network whose forward is running, and their calls, while the network is ``watched``.

    The path of a call is the caller's path plus the module's name inside the caller, or its last name component if it is
    registered elsewhere. A module that runs without a caller, as in the backward pass, keeps its last path.
    """

    def __init__(self, network: nn.Module, *, shapes: bool = True) -> None:
        """Start with nothing running; without ``shapes`` those of the tensors are not read, which the tracer would record."""
        self.names = names_of(network)
        self._shaped = {module for module in self.names if shapes and has_shapes(module)}
        self._running: list[tuple[RunningModule, int]] = []  # with the index of its call
        self._calls: list[ModuleCall | None] = []
        self._last_paths: dict[nn.Module, str] = {}

    @property
    def innermost(self) -> RunningModule | None:
        """The innermost running module; None outside of all forward passes."""
        return self._running[-1][0] if self._running else None

    @property
    def calls(self) -> tuple[ModuleCall, ...]:
        """The calls so far, in order, of modules with parameters or away from where they are registered."""
        return tuple(call for call in self._calls if call)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Follow the forward passes in the block."""
        hooks = [module.register_forward_pre_hook(self._enter) for module in self.names]
        hooks += [module.register_forward_hook(self._leave, always_call=True) for module in self.names]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:  # noqa: ANN401 - torch's
        own = self.names[module][0]
        path = self._last_paths.get(module, own)
        if caller := self.innermost:
            prefix = f"{caller.name}." if caller.name else ""
            inside = [name.removeprefix(prefix) for name in self.names[module] if name.startswith(prefix)]
            local = min(inside, key=lambda name: name.count("."), default=own.rpartition(".")[2])
            path = f"{caller.path}.{local}".strip(".")
        self._last_paths[module] = path
        self._running.append((RunningModule(path, own), len(self._calls)))
        noted = path != own or len(self.names[module]) > 1 or any(True for _ in module.parameters())
        shapes = shapes_in(inputs) if module in self._shaped else ()
        self._calls.append(ModuleCall(path, own, shapes) if noted else None)

    def _leave(self, module: nn.Module, _: Any, outputs: Any) -> None:  # noqa: ANN401 - torch's
        _, index = self._running.pop()
        call = self._calls[index]
        if call and module in self._shaped and (results := tensors_in(outputs)):
            self._calls[index] = replace(call, output=shape_of(results[0]))
