"""What one forward pass does, as data: every call of a function that computes, and every module with all its names.

A trace comes from a configuration in closed form (``closed_form``, no torch) or from any ``nn.Module`` (``live``, on the
meta device); for this project's networks the two are equal. What a counter counts is a rule on a trace, whatever the
architecture: see ``mpvit.reconcile``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from mpvit.operations import Shape

ACTIVATION_OPERATORS = frozenset({"einsum", "matmul", "bmm", "mm", "linear"})
"""Beside convolutions, the operators whose output elements are activations in fvcore's sense."""


FUSED_ATTENTION = "scaled_dot_product_attention"
"""The kernel of fused attention, whatever its name on a device."""

UNSUMMED = "mul"
"""What torch dispatches for an einsum or an outer product that sums over nothing: an elementwise product."""

_AXES = (1, 2, 3)
_POOLS = tuple(f"{kind}_pool{axes}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for axes in _AXES)
_PRODUCTS = ("matmul", "mm", "bmm", "addmm", "baddbmm")

PATCHABLE = {
    "functional": (
        "linear", "scaled_dot_product_attention", "embedding", "softmax", "upsample", "interpolate",
        *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in _AXES), *_POOLS,
        "relu", "prelu", "elu", "leaky_relu", "relu6", "silu", "gelu",
        "batch_norm", "layer_norm", "instance_norm", "group_norm",
    ),
    "torch": (*_PRODUCTS, "einsum", "add", "mul"),
    "method": (*_PRODUCTS, "add", "mul"),
}  # fmt: skip
"""The functions that one tool or another replaces: in torch.nn.functional, in torch, and among the methods of a tensor."""


class Kernel(NamedTuple):
    """What one operator of torch's dispatcher does of a call: its multiply-adds, and the biases that it adds."""

    operator: str
    macs: int
    biases: int = 0


class Sighting(NamedTuple):
    """A call of a patchable function by its name, which a tool sees that has put its own in its place.

    Attributes:
        home: where the name is looked up: a key of ``PATCHABLE``.
        operator: the name.
        module: the name of the module whose forward is running.
        operands: the shapes of the tensors that it is given, whole numbers included, in the order of its parameters.
        output: the shape of its (first) result.
        call: the place of the call that it is, or is part of, among the trace's; None where nothing is computed.
        beta: by what a product multiplies what it is added to.
        scale_factor: of upsampling, by what it is told to multiply lengths: all, or each; None where it is told a size.
        padding: of a convolution with padding "same", how much that is along each axis, both ends together.
    """

    home: str
    operator: str
    module: str
    operands: tuple[Shape, ...]
    output: Shape
    call: int | None
    beta: float = 1
    scale_factor: float | tuple[float, ...] | None = None
    padding: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a function that computes; views and layout changes compute nothing and are left out.

    Attributes:
        operator: the function's name in torch: conv2d, linear, einsum, matmul, layer_norm, add, ...
        spelling: how the code calls it, which tools go by: as ``functional`` (torch.nn.functional), as ``torch`` (a function
            of torch itself), as a ``method`` of a tensor, or by a ``sign`` (@, *, +).
        path: where it happens: the path of module calls from the model down, a shared module under each of its callers.
        module: the name of the module whose forward calls it.
        operands: the shapes of the tensors that it reads, in order.
        learned: which of the operands are parameters or buffers of modules.
        output: the shape of its (first) result.
        macs: its multiply-adds, exactly; 0 for what multiplies no matrix. Of complex numbers one is one, as of real ones.
        kernels: what torch's dispatcher makes of it where it was traced, by operator: a second reading of the same
            multiply-adds. Fused attention is the CPU's.
        bias: whether a convolution or linear layer adds one.
        equation: of an einsum, its letters renamed from a on.
        bytes_read: bytes of the operands.
        bytes_written: bytes of the results.
    """

    operator: str
    spelling: str
    path: str
    module: str
    operands: tuple[Shape, ...]
    learned: tuple[int, ...] = ()
    output: Shape
    macs: int = 0
    kernels: tuple[Kernel, ...] = ()
    bias: bool = False
    equation: str = ""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """The shapes of the activations that it reads."""
        return tuple(shape for index, shape in enumerate(self.operands) if index not in self.learned)

    @property
    def weights(self) -> tuple[Shape, ...]:
        """The shapes of the parameters and buffers that it reads."""
        return tuple(self.operands[index] for index in self.learned)

    @property
    def elements(self) -> int:
        """Output elements."""
        return prod(self.output)

    def dispatched_macs(self, *operators: str) -> int:
        """Return the multiply-adds of its kernels of these ``operators``."""
        return sum(kernel.macs for kernel in self.kernels if kernel.operator in operators)

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution of any dimension, transposed ones included."""
        return self.operator.startswith("conv")

    @property
    def activations(self) -> int:
        """Output elements of convolutions, linear layers and matmuls, as fvcore counts activations."""
        return self.elements if self.is_convolution or self.operator in ACTIVATION_OPERATORS else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One operator of ATen as torch's tracer records it.

    Attributes:
        operator: its name in ATen: linear, _convolution, einsum, ...
        call: the index of the trace's call in which it was recorded; None where the network calls it under the tracer alone.
        operands: the shapes of its tensors, in its own order.
        output: the shape of its first result.
        equation: of an einsum, its letters renamed from a on.
        affine: whether a norm has a weight.
        training: whether a batch norm takes the statistics of the batch.
        transposed: whether a convolution is transposed.
    """

    operator: str
    call: int | None
    operands: tuple[Shape, ...]
    output: Shape
    equation: str = ""
    affine: bool = False
    training: bool = False
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a module that has parameters, its own or below it, or of any that is called away from its place.

    ``inputs`` and ``output`` are the shapes of its tensors, whole numbers among the inputs (of several results, the first);
    both are empty for a module whose shapes no tool goes by: one of modules.
    """

    path: str
    module: str
    inputs: tuple[Shape, ...] = ()
    output: Shape = ()


Setting = int | str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module that owns parameters, has any below it when it is called, or calls functions itself.

    Attributes:
        names: every name under which it is registered, the first of them its own; torch leaves out a second name in the
            same parent.
        type: the name of its class; in full for one that only shares the name of a class of torch.nn.
        leaf: whether it has no modules below it.
        parameters: the name and shape of each parameter that it owns.
        tied: the names of those among them that an earlier module owns too, with what it calls them in full.
        frozen: the names of those among them that take no gradient.
        settings: of its attributes, those by which tools count: dim, mode, num_heads, batch_first, and of averages
            kernel_size, stride, padding, count_include_pad.
        base: of a class made from one of torch.nn's, the name of that.
    """

    names: tuple[str, ...]
    type: str
    leaf: bool = True
    parameters: tuple[tuple[str, Shape], ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    settings: tuple[tuple[str, Setting], ...] = ()
    base: str = ""

    @property
    def kind(self) -> str:
        """The class of torch.nn that it is, directly or not; else its own."""
        return self.base or self.type

    def setting(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as various as attributes are
        """Return one of its settings; ``default`` where it has none of that name."""
        return dict(self.settings).get(name, default)

    @property
    def params(self) -> int:
        """Learned numbers that it owns and no earlier module does."""
        return sum(prod(shape) for name, shape in self.parameters if name not in self.tied)


@dataclass(frozen=True, slots=True)
class Trace:
    """One forward pass: its calls of functions and of modules, each in order, and the modules by name.

    ``sightings`` are those of its calls that a tool sees which patches torch. ``recorded`` is what torch's tracer records of
    it, ``kernels`` what the CPU makes of each call; None where it was not asked, or could not follow. ``backward`` has the
    multiply-adds of the backward pass by path and operator; None where it did not run.
    """

    input_shapes: tuple[Shape, ...]
    calls: tuple[Call, ...]
    module_calls: tuple[ModuleCall, ...]
    modules: dict[str, Module]
    sightings: tuple[Sighting, ...] = ()
    recorded: tuple[Recorded, ...] | None = None
    backward: Mapping[tuple[str, str], int] | None = None
    kernels: tuple[tuple[Kernel, ...], ...] | None = None

    @property
    def params(self) -> int:
        """Learned numbers, each once."""
        return sum(module.params for module in self.modules.values())

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and matrix products."""
        return sum(call.macs for call in self.calls)

    def not_counted(self) -> dict[str, int]:
        """Return the number of calls of each operator that has no multiply-adds."""
        found: dict[str, int] = {}
        for call in self.calls:
            if not call.macs:
                found[call.operator] = found.get(call.operator, 0) + 1
        return found


def renamed(equation: str) -> str:
    """Return an einsum's equation without blanks, its letters a, b, c, ... in the order in which they appear."""
    letters = dict.fromkeys(letter for letter in equation if letter.isalpha())
    names = {ord(letter): ord("a") + index for index, letter in enumerate(letters)}
    return equation.replace(" ", "").translate(names)
