"""Memory of a training step: parameters, gradients, optimizer state, saved activations, and the peak.

The first four are exact. The peak is a model: their sum, as with gradient accumulation, plus the operands and the result of
the largest call, whose gradients the backward pass computes at one time. It was within 4 % of the bytes that torch's CPU
allocator held. It does not include workspaces of kernels and temporary tensors of the optimizer. If gradients are freed
between steps (``zero_grad(set_to_none=True)``), the peak is lower by at most the gradients.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

from mpvit.dense import Task, label
from mpvit.errors import UsageError, unknown_name
from mpvit.operations import Shape
from mpvit.trace import Call
from mpvit.units import ITEM_BYTES

DTYPES = ("float32", "bfloat16")
"""Dtypes of the activations. bfloat16 means autocast: parameters, gradients and optimizer state stay in float32."""

_STEP_BYTES = 4
"""Bytes of the step count that Adam keeps for each parameter tensor, a float32 scalar."""


class Optimizer(NamedTuple):
    """State of an optimizer of torch: tensors per parameter of the parameter's size, and whether each has a step count."""

    copies: int
    counts_steps: bool = False


OPTIMIZERS = {
    "sgd": Optimizer(0),
    "sgd-momentum": Optimizer(1),
    "adam": Optimizer(2, counts_steps=True),
    "adamw": Optimizer(2, counts_steps=True),
}


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """Options of a prediction of training memory.

    Raises ``UsageError`` for an unknown dtype or optimizer, or a budget below 1 byte.
    """

    dtype: str = "float32"
    optimizer: str = "adamw"
    budget_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        for what, name, known in (("dtype", self.dtype, DTYPES), ("optimizer", self.optimizer, OPTIMIZERS)):
            if name not in known:
                raise unknown_name(what, name, known)
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise UsageError(f"budget_bytes = {self.budget_bytes}: must be at least 1")

    @property
    def autocast(self) -> bool:
        """Whether activations are in bfloat16 by autocast."""
        return self.dtype == "bfloat16"


class ParameterBytes(NamedTuple):
    """Number and bytes of the parameters, bytes of their gradients, and number of parameter tensors that have a gradient."""

    params: int
    params_bytes: int
    gradient_bytes: int
    tensors: int


class ActivationBytes(NamedTuple):
    """Bytes that autograd saves for the backward pass, and bytes of the operands and the result of the largest call."""

    saved_bytes: int
    transient_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Memory of one training step.

    Attributes:
        model: name of the variant, of the configuration file, or of the user's factory.
        input_shapes: shapes of the inputs; the first length is the batch.
        options: dtype, optimizer and budget.
        parameters: parameters and their gradients.
        activations: saved and transient activations.
        largest_batch: largest batch that fits the budget; None without a budget, or if no batch fits.
        error: reason why no batch fits; empty if one does.
        task: the detector or segmenter on the network; None for the network itself.
    """

    model: str
    input_shapes: tuple[Shape, ...]
    options: MemoryOptions
    parameters: ParameterBytes
    activations: ActivationBytes
    largest_batch: int | None = None
    error: str = ""
    task: Task | None = None

    @property
    def label(self) -> str:
        """Name of the network, together with the name of its task."""
        return label(self.model, self.task)

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the optimizer state after the first step."""
        optimizer = OPTIMIZERS[self.options.optimizer]
        steps = _STEP_BYTES * self.parameters.tensors if optimizer.counts_steps else 0
        return optimizer.copies * self.parameters.gradient_bytes + steps

    @property
    def peak_bytes(self) -> int:
        """Bytes of all parts together, including the transient activations."""
        return self.parameters.params_bytes + self.parameters.gradient_bytes + self.optimizer_bytes + sum(self.activations)

    def as_row(self) -> dict[str, Any]:
        """Return one flat row for JSON and CSV."""
        return {
            "model": self.model,
            **(self.task.as_row() if self.task else {}),
            "input_shape": list(self.input_shapes[0]),
            "batch": self.input_shapes[0][0],
            "dtype": self.options.dtype,
            "optimizer": self.options.optimizer,
            "params": self.parameters.params,
            "params_bytes": self.parameters.params_bytes,
            "gradient_bytes": self.parameters.gradient_bytes,
            "optimizer_bytes": self.optimizer_bytes,
            "saved_activation_bytes": self.activations.saved_bytes,
            "transient_bytes": self.activations.transient_bytes,
            "peak_bytes": self.peak_bytes,
            "budget_bytes": self.options.budget_bytes,
            "largest_batch": self.largest_batch,
            "error": self.error or None,
        }


def transient_bytes(calls: Iterable[Call], dtype: str) -> int:
    """Return the bytes of the operands and the result of the largest call, without parameters."""
    return ITEM_BYTES[dtype] * max((sum(map(prod, call.inputs)) + call.elements for call in calls), default=0)


def with_largest_batch(
    memory: TrainingMemory, measure: Callable[[int], ActivationBytes], *, evenly: bool = True
) -> TrainingMemory:
    """Return ``memory`` with the largest batch that fits its budget; ``measure`` returns the activations of a batch.

    From batch 2 on, each sample adds the same bytes; batch 1 can take less because torch makes fewer copies. If memory does not
    grow ``evenly``, because different calls are the largest, it is a convex function of the batch: then the batch of even
    growth is too large and is lowered until it fits.
    """
    budget = memory.options.budget_bytes
    if budget is None:
        return memory

    def peak(batch: int) -> int:
        return replace(memory, activations=measure(batch)).peak_bytes

    second, third, fourth = (peak(batch) for batch in (2, 3, 4))
    growth = third - second
    if growth < 1 or (evenly and fourth - third != growth):
        return replace(memory, error="memory does not grow evenly with the batch")
    largest = 2 + (budget - second) // growth
    if largest < 2:  # noqa: PLR2004 - growth is even from here on
        try:
            first = peak(1)
        except UsageError as error:
            return replace(memory, error=f"budget of {budget} bytes: two samples take {second}, and {error}")
        if first > budget:
            return replace(memory, error=f"budget of {budget} bytes: one sample takes {first}")
        largest = 1
    while not evenly and largest > 1 and (over := peak(largest) - budget) > 0:
        largest -= -(-over // (peak(largest) - peak(largest - 1)))  # a convex function lies above its tangents
    return replace(memory, largest_batch=largest)
