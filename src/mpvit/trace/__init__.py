"""One forward pass as data: every call of a function that computes, and every module with all its names.

A trace comes from a configuration in closed form (``closed_form``, without torch) or from any ``nn.Module`` (``live``, on the
meta device); for this project's networks the two are equal. The rule of each tool (``mpvit.tools``) reads a trace.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from mpvit.operations import Shape

ACTIVATION_OPERATORS = frozenset({"einsum", "matmul", "bmm", "mm", "linear"})
"""Operators whose output elements fvcore counts as activations, in addition to convolutions."""

FUSED_ATTENTION = "scaled_dot_product_attention"
"""The operator of fused attention, which has another name on each device."""

ELEMENTWISE_PRODUCT = "mul"
"""The operator that torch dispatches for an einsum or outer product that sums over no axis."""

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
"""The functions that any of the tools replaces: in torch.nn.functional, in torch, and among the methods of a tensor."""


class DispatchedOperator(NamedTuple):
    """One operator that torch's dispatcher runs for a call.

    Attributes:
        name: name of the operator in ATen: addmm, bmm, convolution, ...
        macs: its multiply-adds.
        biases: elements to which it adds a bias.
    """

    name: str
    macs: int
    biases: int = 0


class PatchedCall(NamedTuple):
    """A call of a function by its name in torch, which a tool counts if it has replaced that function.

    Attributes:
        namespace: where the code looks the name up: a key of ``PATCHABLE``.
        operator: the name.
        module: name of the module whose forward is running.
        operands: shapes of the tensors among the arguments, integer tensors included, in the order of the parameters.
        output: shape of the first result.
        call: index of the trace's call that it is, or is part of; None if it computes nothing.
        beta: factor of the addend of a matrix product.
        scale_factor: factor of upsampling, for all axes or for each; None if the call gives a size.
        padding: elements that a convolution with padding "same" adds along each axis, both ends together.
    """

    namespace: str
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
    """One call of a function that computes. Views and layout changes compute nothing and are not part of a trace.

    Attributes:
        operator: name of the function in torch: conv2d, linear, einsum, matmul, layer_norm, add, ...
        call_style: how the code calls it: as ``functional`` (of torch.nn.functional), as ``torch`` (of torch itself), as a
            ``method`` of a tensor, ``infix`` (@, *, +), or as a ``dispatched`` operator that no function of torch has called.
        path: path of module calls from the network to the call; a shared module is below each of its callers.
        module: name of the module whose forward calls it.
        operands: shapes of the tensors that it reads, in order.
        learned: indices of the operands that are parameters or buffers of modules.
        output: shape of the first result.
        macs: its multiply-adds, exactly; 0 if it is no matrix product. A complex multiply-add counts once.
        dispatched: the multiplying operators that torch's dispatcher runs for it on the device of the trace: a second
            reading of the same multiply-adds. Fused attention is the CPU's.
        bias: whether a convolution or linear layer adds one.
        equation: equation of an einsum, its letters renamed from a on.
        bytes_read: bytes of the operands.
        bytes_written: bytes of the results.
    """

    operator: str
    call_style: str
    path: str
    module: str
    operands: tuple[Shape, ...]
    learned: tuple[int, ...] = ()
    output: Shape
    macs: int = 0
    dispatched: tuple[DispatchedOperator, ...] = ()
    bias: bool = False
    equation: str = ""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """Shapes of the activations that it reads."""
        return tuple(shape for index, shape in enumerate(self.operands) if index not in self.learned)

    @property
    def elements(self) -> int:
        """Output elements."""
        return prod(self.output)

    def dispatched_macs(self, *operators: str) -> int:
        """Return the multiply-adds of its dispatched ``operators``."""
        return sum(each.macs for each in self.dispatched if each.name in operators)

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, of any dimension, transposed ones included."""
        return self.operator.startswith("conv")

    @property
    def activations(self) -> int:
        """Output elements if it is a convolution, linear layer or matmul, as fvcore counts activations; else 0."""
        return self.elements if self.is_convolution or self.operator in ACTIVATION_OPERATORS else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """One operator of ATen in the graph that torch's tracer records.

    Attributes:
        operator: name of the operator in ATen: linear, _convolution, einsum, ...
        call: index of the trace's call that it belongs to; None if the network makes the call under the tracer only.
        operands: shapes of its tensors, in the operator's order.
        output: shape of its first result.
        equation: equation of an einsum, its letters renamed from a on.
        affine: whether a norm has a weight.
        training: whether a batch norm uses the statistics of the batch.
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
    """One call of a module that has parameters (its own or below it), or that is called away from where it is registered.

    ``inputs`` and ``output`` are the shapes of its tensors, integer inputs included; ``output`` is that of the first result.
    Both are empty for a module of modules, except where a tool counts by its shapes.
    """

    path: str
    module: str
    inputs: tuple[Shape, ...] = ()
    output: Shape = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module that owns parameters, is called with parameters below it, or calls functions itself.

    Attributes:
        names: every name under which it is registered, its own first; torch omits a second name in the same parent.
        type: name of its class, with the package if a different class of torch.nn has the same name.
        leaf: whether it has no modules below it.
        parameters: (name, shape) of each parameter that it owns.
        tied: full name, in an earlier module, of each of these parameters that is shared with one.
        frozen: names of these parameters that take no gradient.
        settings: its attributes by which tools count: dim, mode, num_heads, batch_first, and of average pooling kernel_size,
            stride, padding, count_include_pad.
        base: name of the class of torch.nn that its class extends; empty if none.
    """

    names: tuple[str, ...]
    type: str
    leaf: bool = True
    parameters: tuple[tuple[str, Shape], ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    settings: tuple[tuple[str, int | str | tuple[int, ...]], ...] = ()
    base: str = ""

    @property
    def kind(self) -> str:
        """Name of the class of torch.nn that it is or extends; else that of its own class."""
        return self.base or self.type

    def setting(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - any attribute
        """Return the setting ``name``, or ``default``."""
        return dict(self.settings).get(name, default)

    @property
    def params(self) -> int:
        """Number of parameters that it owns and no earlier module shares."""
        return sum(prod(shape) for name, shape in self.parameters if name not in self.tied)


@dataclass(frozen=True, slots=True)
class Trace:
    """One forward pass.

    Attributes:
        input_shapes: shapes of the inputs.
        calls: every call of a function that computes, in order.
        module_calls: every call of a module, in order.
        modules: the modules by their own name, in the order of registration.
        patched_calls: the calls that a tool counts by replacing functions of torch.
        graph: what torch's tracer records; None if that was not asked for or the tracer fails.
        backward: multiply-adds of the backward pass by path and operator; None if it did not run.
        dispatched_on_cpu: the multiplying operators that the CPU's dispatcher runs for each of ``calls``; None if they were
            not asked for or cannot be read.
    """

    input_shapes: tuple[Shape, ...]
    calls: tuple[Call, ...]
    module_calls: tuple[ModuleCall, ...]
    modules: dict[str, Module]
    patched_calls: tuple[PatchedCall, ...] = ()
    graph: tuple[GraphNode, ...] | None = None
    backward: Mapping[tuple[str, str], int] | None = None
    dispatched_on_cpu: tuple[tuple[DispatchedOperator, ...], ...] | None = None

    @property
    def params(self) -> int:
        """Number of parameters, each counted once."""
        return sum(module.params for module in self.modules.values())

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and matrix products."""
        return sum(call.macs for call in self.calls)

    def not_counted(self) -> dict[str, int]:
        """Return the number of calls of each operator without multiply-adds."""
        return dict(Counter(call.operator for call in self.calls if not call.macs))


def renamed(equation: str) -> str:
    """Return an einsum's equation without spaces, its letters renamed a, b, c, ... in the order in which they appear."""
    letters = dict.fromkeys(letter for letter in equation if letter.isalpha())
    names = {ord(letter): ord("a") + index for index, letter in enumerate(letters)}
    return equation.replace(" ", "").translate(names)
