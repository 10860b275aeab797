"""Structure of a recording: modules that are called, registered and shared, and the storages that autograd saves."""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from mpvit.operations import Block, Node, Operation, Shape, called, registered
from mpvit.operations.tensor_spec import Storage, TensorSpec, Weight, new

Body = Callable[..., Any]
"""Description of a module: takes the tape and the module's arguments, returns its result."""


class Shared(NamedTuple):
    """A module that is registered once and called from several places: its name, its registered path and its description."""

    name: str
    path: str
    module: str
    body: Body


@dataclass(slots=True)
class _Frame:
    """The block that is being recorded."""

    path: str = ""
    children: dict[str, Node] = field(default_factory=dict)
    scope: bool = False


@dataclass(slots=True)
class Recording:
    """The recorded modules of one forward pass in evaluation mode, or the storages that autograd saves in a training step.

    Attributes:
        training: whether to record a training step, which keeps storages but no operations. In evaluation mode nothing is
            saved, and equal modules are recorded once: they become one object in the tree.
        autocast: whether convolutions, linear layers, matrix products and fused attention run in bfloat16, and all else in the
            dtype of its operands, as under ``torch.autocast("cpu", torch.bfloat16)``. Autocast on CUDA also runs softmax,
            norms, powers, exponentials and sums in float32, which saves more.
        saved: the storages that autograd saves, without parameters, in order.
    """

    training: bool = False
    autocast: bool = False
    saved: dict[Storage, None] = field(default_factory=dict)
    _frame: _Frame = field(default_factory=_Frame)
    _known: dict[Hashable, tuple[Any, Block]] = field(default_factory=dict)
    _lowered_weights: dict[tuple[str, str | Storage], TensorSpec] = field(default_factory=dict)

    @property
    def saved_bytes(self) -> int:
        """Bytes of the storages that autograd saves."""
        return sum(storage.nbytes for storage in self.saved)

    def tree(self, module: str = "") -> Block:
        """Return the operations recorded in evaluation mode as the call of a ``module``, or as a group."""
        return Block(self._frame.children, self._frame.scope, module)

    # ── modules ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def call(self, name: str, module: str, body: Body, *arguments: Any) -> Any:  # noqa: ANN401 - the result of ``body``
        """Record ``body(tape, *arguments)`` as the call of a module of this class and return its result."""
        result, self._frame.children[name] = self._record(f"{self._frame.path}.{name}", module, body, arguments)
        return result

    def register(self, name: str, module: str, body: Body, *arguments: Any) -> Shared:  # noqa: ANN401 - those of ``body``
        """Register a module that ``call_shared`` calls; ``arguments`` are an example."""
        if self.training:
            return Shared(name, f"{self._frame.path}.{name}", module, body)
        shared = Shared(name, "", module, body)
        _, block = self._record("", module, body, arguments)
        self._frame.children[name] = registered(block)
        self._frame.scope = True
        return shared

    def call_shared(self, name: str, shared: Shared, *arguments: Any) -> Any:  # noqa: ANN401 - the result of its body
        """Record a call of a shared module and return its result."""
        result, block = self._record(shared.path, shared.module, shared.body, arguments)
        self._frame.children[name] = called(block, shared.name)
        return result

    @contextlib.contextmanager
    def group(self, name: str) -> Iterator[None]:
        """Record what follows in a block that is no module, or as a further part of the block of this name."""
        outer = self._frame
        before = self.tree().block(name) if name in outer.children else Block({})
        self._frame = _Frame(f"{outer.path}.{name}", before.children)
        yield
        outer.children[name] = Block(self._frame.children, self._frame.scope or before.scope, before.module, before.shared)
        self._frame = outer

    def _record(self, path: str, module: str, body: Body, arguments: Sequence[Any]) -> tuple[Any, Block]:
        key: Hashable = None
        if not self.training:
            key = (module, body, *[each.shape if type(each) is TensorSpec else each for each in arguments])
            if found := self._known.get(key):
                return found
        outer, self._frame = self._frame, _Frame(path)
        result = body(self, *arguments)
        frame, self._frame = self._frame, outer
        recorded = result, Block(frame.children, frame.scope, module)
        if key:
            self._known[key] = recorded
        return recorded

    # ── what is recorded and saved ──────────────────────────────────────────────────────────────────────────────────

    def _add(  # noqa: PLR0913 - the fields of an ``Operation``
        self,
        name: str,
        kind: str,
        x: TensorSpec,
        output_shape: Shape,
        *,
        operands: Sequence[TensorSpec] = (),
        module: str = "",
        weights: tuple[Shape, ...] = (),
        macs: int = 0,
        stride: int = 1,
        equation: str = "",
    ) -> None:
        """Record an operation on ``x`` and ``operands``; a ``module`` has its own ``weights``, buffers before parameters."""
        if self.training:
            return
        shapes = (kind, x.shape, output_shape)
        if module:
            params = sum(map(prod, weights[-2:]))
            operation = Operation(*shapes, params, macs, weights=weights, module=module, stride=stride)
        else:
            operation = Operation(*shapes, macs=macs, stride=stride, equation=equation, **_operand_fields(operands))
        self._frame.children[name] = operation

    def _save(self, *tensors: TensorSpec) -> None:
        if self.training:
            for tensor in tensors:
                if not isinstance(tensor.storage, Weight) or tensor.storage.buffer:
                    self.saved[tensor.storage] = None

    def _save_factors(self, x: TensorSpec, y: TensorSpec) -> None:
        if x.differentiable:
            self._save(y)
        if y.differentiable:
            self._save(x)

    def _save_with_weight(self, x: TensorSpec, weight: str | Storage, shape: Shape) -> TensorSpec:
        """Save the input of a layer and its ``weight``; return the input in the dtype that the layer runs in.

        Autocast saves the bfloat16 copy of a weight, which it makes once in a pass.
        """
        x = self._lowered(x)
        self._save(x)
        if self.autocast:
            self._save(self._lowered_weights.setdefault((self._frame.path, weight), new(shape, "bfloat16")))
        return x

    def _lowered(self, x: TensorSpec) -> TensorSpec:
        if not self.autocast or x.dtype == "bfloat16":
            return x
        return new(x.shape, "bfloat16", differentiable=x.differentiable)


def _operand_fields(operands: Sequence[TensorSpec]) -> dict[str, Any]:
    """Return the fields of an ``Operation`` that reads these operands after its first; a parameter counts at its first use."""
    weights = [x.storage for x in operands if isinstance(x.storage, Weight)]
    if not weights:
        return {"others": tuple([x.shape for x in operands])}
    params = sum(prod(weight.shape) for weight in weights if not weight.buffer and not weight.counted)
    for weight in weights:
        weight.counted = True
    return {
        "others": tuple(x.shape for x in operands if not isinstance(x.storage, Weight)),
        "params": params,
        "weights": tuple(weight.shape for weight in weights),
        "buffers": all(weight.buffer for weight in weights),
        "weight_names": tuple(weight.name for weight in weights),
    }
