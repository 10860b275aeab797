"""What a training step holds in memory: parameters, gradients, the optimizer's state, what autograd keeps, and the peak.

The first four are exact. The peak is a model: all of them at once, as where gradients are accumulated, and the largest
call's operands and result, whose gradients the backward pass holds while it computes; within 4 % of what torch's CPU
allocator was seen to hold. Not in it: a kernel's own workspace, and the optimizer's temporary tensors. Where gradients are
freed between steps (``zero_grad(set_to_none=True)``), the peak is lower, by at most the gradients.
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
"""What activations are trained in; bfloat16 by autocast, which leaves parameters, gradients and states in float32."""

_STEP_BYTES = 4
"""Adam counts the steps of each parameter tensor in a number of float32."""


class Optimizer(NamedTuple):
    """What an optimizer of torch keeps: ``copies`` tensors as large as each parameter, and whether a step count for each."""

    copies: int
    counts_steps: bool = False


OPTIMIZERS = {
    "sgd": Optimizer(0),
    "sgd-momentum": Optimizer(1),
    "adam": Optimizer(2, counts_steps=True),
    "adamw": Optimizer(2, counts_steps=True),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """How a network is trained. Raises ``UsageError`` for a dtype or optimizer that there is not, or a budget below 1."""

    dtype: str = "float32"
    optimizer: str = "adamw"
    budget_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check every field once."""
        for what, name, known in (("dtype", self.dtype, DTYPES), ("optimizer", self.optimizer, OPTIMIZERS)):
            if name not in known:
                raise unknown_name(what, name, known)
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise UsageError(f"budget of {self.budget_bytes} bytes: must be at least 1")

    @property
    def autocast(self) -> bool:
        """Whether autocast to bfloat16 is on."""
        return self.dtype == "bfloat16"


class Learned(NamedTuple):
    """The parameters: their number, their bytes, and of those that get a gradient, bytes and how many tensors they are."""

    params: int
    params_bytes: int
    gradient_bytes: int
    tensors: int


class Activations(NamedTuple):
    """What autograd keeps for the backward pass, and the largest call's operands and result, in bytes."""

    saved_bytes: int
    transient_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """What training one network takes, in bytes.

    Attributes:
        model: name of the variant, of the configuration's file, or of the user's factory.
        input_shapes: of the network's inputs; the first length is the batch.
        setting: how it is trained.
        learned: the parameters and their gradients.
        activations: what the forward pass leaves behind.
        largest_batch: the most samples that fit the setting's budget; None without one, or where none fits.
        error: why none fits; empty where one does.
        task: the detector or segmenter that it is under; None for the network alone.
    """

    model: str
    input_shapes: tuple[Shape, ...]
    setting: Setting
    learned: Learned
    activations: Activations
    largest_batch: int | None = None
    error: str = ""
    task: Task | None = None

    @property
    def label(self) -> str:
        """What is trained, in few words."""
        return label(self.model, self.task)

    @property
    def optimizer_bytes(self) -> int:
        """The optimizer's state after its first step."""
        optimizer = OPTIMIZERS[self.setting.optimizer]
        steps = _STEP_BYTES * self.learned.tensors if optimizer.counts_steps else 0
        return optimizer.copies * self.learned.gradient_bytes + steps

    @property
    def peak_bytes(self) -> int:
        """The sum of all parts and the largest transient."""
        return self.learned.params_bytes + self.learned.gradient_bytes + self.optimizer_bytes + sum(self.activations)

    def as_row(self) -> dict[str, Any]:
        """Return the prediction as one flat row for JSON and CSV."""
        return {
            "model": self.model,
            **(self.task.as_row() if self.task else {}),
            "input_shape": list(self.input_shapes[0]),
            "batch": self.input_shapes[0][0],
            "dtype": self.setting.dtype,
            "optimizer": self.setting.optimizer,
            "params": self.learned.params,
            "params_bytes": self.learned.params_bytes,
            "gradient_bytes": self.learned.gradient_bytes,
            "optimizer_bytes": self.optimizer_bytes,
            "saved_activation_bytes": self.activations.saved_bytes,
            "transient_bytes": self.activations.transient_bytes,
            "peak_bytes": self.peak_bytes,
            "budget_bytes": self.setting.budget_bytes,
            "largest_batch": self.largest_batch,
            "error": self.error or None,
        }


def transient_bytes(calls: Iterable[Call], dtype: str) -> int:
    """Return the bytes of the largest call's operands and result, parameters left out."""
    return ITEM_BYTES[dtype] * max((sum(map(prod, call.inputs)) + call.elements for call in calls), default=0)


def with_largest_batch(memory: TrainingMemory, measure: Callable[[int], Activations], *, evenly: bool = True) -> TrainingMemory:
    """Return ``memory`` with the largest batch that fits its budget; ``measure`` gives a batch's activations.

    From a batch of 2 on memory grows by the same bytes a sample; a single sample can take less, as fewer copies are made.
    Where it does not grow ``evenly`` it grows ever faster, as other calls become the largest: then the bound is moved until
    it holds.
    """
    budget = memory.setting.budget_bytes
    if budget is None:
        return memory

    def peak(batch: int) -> int:
        return replace(memory, activations=measure(batch)).peak_bytes

    second, third, fourth = (peak(batch) for batch in (2, 3, 4))
    growth = third - second
    if growth < 1 or (evenly and fourth - third != growth):
        return replace(memory, error="memory does not grow evenly with the batch")
    largest = 2 + (budget - second) // growth
    if largest < 2:  # noqa: PLR2004 - where growth is even
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
