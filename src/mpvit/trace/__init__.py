"""What one forward pass does, as data: every call of a function that computes, and every module with all its names.

A trace comes from a configuration in closed form (``closed_form``, no torch) or from any ``nn.Module`` (``live``, on the
meta device); for this project's networks the two are equal. What a counter counts is a rule on a trace, whatever the
architecture: see ``mpvit.reconcile``.
"""

from dataclasses import dataclass
from math import prod

from mpvit.operations import Shape

ACTIVATION_OPERATORS = frozenset({"einsum", "matmul", "bmm", "mm", "linear"})
"""Beside convolutions, the operators whose output elements are activations in fvcore's sense."""


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
        macs: its multiply-adds, exactly; 0 for what multiplies no matrix.
        dispatched_macs: of these, what reaches torch's dispatcher as matrix products and convolutions.
        dispatched_biases: the biases that these add, one an output element.
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
    dispatched_macs: int = 0
    dispatched_biases: int = 0
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

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution of any dimension, transposed ones included."""
        return self.operator.startswith("conv")

    @property
    def activations(self) -> int:
        """Output elements of convolutions, linear layers and matmuls, as fvcore counts activations."""
        return self.elements if self.is_convolution or self.operator in ACTIVATION_OPERATORS else 0


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a module that has parameters, its own or below it, or of any that is called away from its place.

    ``inputs`` and ``output`` are the shapes of its tensors (of several results, the first); both are empty for a module
    whose shapes no tool goes by: one of modules.
    """

    path: str
    module: str
    inputs: tuple[Shape, ...] = ()
    output: Shape = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module that owns parameters, has any below it when it is called, or calls functions itself.

    Attributes:
        names: every name under which it is registered, the first of them its own; torch leaves out a second name in the
            same parent.
        type: the name of its class; in full for one that only shares the name of a class of torch.nn.
        leaf: whether it has no modules below it.
        parameters: the name and shape of each parameter that it owns.
        tied: the names of those among them that an earlier module owns too.
        frozen: the names of those among them that take no gradient.
        settings: of its attributes, those by which tools count: dim, mode, num_heads, batch_first.
    """

    names: tuple[str, ...]
    type: str
    leaf: bool = True
    parameters: tuple[tuple[str, Shape], ...] = ()
    tied: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    settings: tuple[tuple[str, int | str], ...] = ()

    @property
    def params(self) -> int:
        """Learned numbers that it owns and no earlier module does."""
        return sum(prod(shape) for name, shape in self.parameters if name not in self.tied)


@dataclass(frozen=True, slots=True)
class Trace:
    """One forward pass: its calls of functions and of modules, each in order, and the modules by name."""

    input_shapes: tuple[Shape, ...]
    calls: tuple[Call, ...]
    module_calls: tuple[ModuleCall, ...]
    modules: dict[str, Module]

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
