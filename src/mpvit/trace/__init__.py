"""What one forward pass does, as data: every call of a function that computes, and every module with all its names.

A trace comes from a configuration in closed form (``closed_form``, no torch) or from any ``nn.Module`` (``live``, on the
meta device); for this project's networks the two are equal. What a counter counts is a rule on a trace, whatever the
architecture: see ``mpvit.reconcile``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from mpvit.operations import Shape

ACTIVATION_OPERATORS = frozenset({"einsum", "matmul", "bmm", "mm", "linear"})
"""Beside convolutions, the operators whose output elements are activations in fvcore's sense."""

ROOT = ""
"""The name of the model itself among its modules."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function that computes; views and layout changes compute nothing and are left out.

    Attributes:
        operator: the function's name in torch: conv2d, linear, einsum, matmul, layer_norm, add, ...
        path: where it happens: the path of module calls from the model down, a shared module under each of its callers.
        module: the name of the module whose forward calls it.
        inputs: the shapes of the activations that it reads.
        weights: the shapes of the module parameters and buffers that it reads.
        output: the shape of its (first) result.
        macs: its multiply-adds, exactly; 0 for what multiplies no matrix.
        dispatched_macs: of these, what reaches torch's dispatcher as matrix products and convolutions.
        bias: whether a convolution or linear layer adds one.
        bytes_read: bytes of inputs and weights.
        bytes_written: bytes of the results.
    """

    operator: str
    path: str
    module: str
    inputs: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    output: Shape
    macs: int = 0
    dispatched_macs: int = 0
    bias: bool = False
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def elements(self) -> int:
        """Output elements."""
        return prod(self.output)

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution of any dimension, transposed ones included."""
        return self.operator.startswith("conv")

    @property
    def activations(self) -> int:
        """Output elements of convolutions, linear layers and matmuls, as fvcore counts activations."""
        return self.elements if self.is_convolution or self.operator in ACTIVATION_OPERATORS else 0


@dataclass(frozen=True, slots=True)
class Module:
    """A module that owns parameters or calls functions itself.

    Attributes:
        names: every name under which it is registered, the first of them its own.
        type: the name of its class.
        parameters: the shape of each parameter that it owns.
        tied: the shapes of those among them that an earlier module owns too.
    """

    names: tuple[str, ...]
    type: str
    parameters: tuple[Shape, ...] = ()
    tied: tuple[Shape, ...] = ()

    @property
    def params(self) -> int:
        """Learned numbers that it owns and no earlier module does."""
        return sum(map(prod, self.parameters)) - sum(map(prod, self.tied))


@dataclass(frozen=True, slots=True)
class Trace:
    """One forward pass: its calls in order, and the modules by name in the order of registration."""

    input_shapes: tuple[Shape, ...]
    calls: tuple[Call, ...]
    modules: dict[str, Module]

    @property
    def params(self) -> int:
        """Learned numbers, each once."""
        return sum(module.params for module in self.modules.values())

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and matrix products."""
        return sum(call.macs for call in self.calls)

    def calls_of(self, *types: str) -> Iterator[tuple[Call, Module]]:
        """Yield each call that a module of one of these classes makes itself, with the module."""
        for call in self.calls:
            module = self.modules[call.module]
            if module.type in types:
                yield call, module

    def not_counted(self) -> dict[str, int]:
        """Return the number of calls of each operator that has no multiply-adds."""
        found: dict[str, int] = {}
        for call in self.calls:
            if not call.macs:
                found[call.operator] = found.get(call.operator, 0) + 1
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the totals for JSON."""
        return {"params": self.params, "macs": self.macs, "not_counted": self.not_counted()}
