"""What ``mpvit bench`` measures, as a checked configuration."""

from collections.abc import Mapping
from dataclasses import dataclass

from mpvit import dense
from mpvit.benchmark.modes import DTYPES, INFERENCE_ONLY, MODES, PARTS, TF32
from mpvit.benchmark.results import FORWARD, FORWARD_BACKWARD
from mpvit.closed_form import network
from mpvit.config import ModelConfig
from mpvit.counting import input_shape
from mpvit.dense import Task
from mpvit.devices import parse_device
from mpvit.errors import UsageError, unknown_name
from mpvit.measurement import require_seconds, require_threads
from mpvit.operations import Block, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to measure, and how. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        models: networks by name.
        task: the detector or segmenter on each of them; None for the networks alone.
        size: (height, width) of the images in pixels.
        batches: images in a batch, each measured on its own.
        device: torch's name of it.
        dtype: one of ``DTYPES``: of weights and images, and of their products.
        modes: how the networks run; those of one network and batch are interleaved, ratios are over the first.
        backward: time the forward and backward pass in training mode instead of the forward pass in evaluation mode.
        threads: CPU threads of one operation; None for torch's own choice.
        min_time_s: seconds of samples for each network, mode and batch.
        budget_s: seconds for everything; None for no limit.
        by: ``network``, or ``layer`` for each layer too.
    """

    models: Mapping[str, ModelConfig]
    size: tuple[int, int] = (224, 224)
    batches: tuple[int, ...] = (1,)
    device: str = "cpu"
    dtype: str = "float32"
    modes: tuple[str, ...] = ("plain",)
    backward: bool = False
    threads: int | None = None
    min_time_s: float = 2.0
    budget_s: float | None = None
    by: str = "network"
    task: Task | None = None

    def __post_init__(self) -> None:
        """Check every field once."""
        for what, name, known in (("dtype", self.dtype, DTYPES), ("part", self.by, PARTS)):
            if name not in known:
                raise unknown_name(what, name, known)
        self._check_modes()
        for field, seconds in (("min_time_s", self.min_time_s), ("budget_s", self.budget_s)):
            if seconds is not None:
                require_seconds(field, seconds)
        require_threads(self.threads)
        for name, shape in self.groups:
            self.tree(name, shape)  # it checks the sizes that it can have
        parse_device(self.device)
        if self.dtype == TF32 and not self.device.startswith("cuda"):
            raise UsageError(f"dtype {TF32!r} on {self.device}: it is CUDA's alone", hint="float32 or bfloat16")

    def _check_modes(self) -> None:
        for mode in self.modes:
            if mode not in MODES:
                raise unknown_name("mode", mode, MODES)
            if self.task and mode in INFERENCE_ONLY:
                others = " or ".join(each for each in MODES if each not in INFERENCE_ONLY)
                raise UsageError(
                    f"task {self.task.name} in mode {mode!r}: it is for classifiers alone", hint=f"measure {others}"
                )
            if self.backward and mode in INFERENCE_ONLY:
                raise UsageError(f"backward with mode {mode!r}: it is for inference alone", hint="measure plain or compile")
        if self.task and self.by == "layer":
            raise UsageError(
                f"task {self.task.name} by layer: must be the network as a whole",
                hint="mpvit layers --task has each layer's work",
            )
        if self.by == "layer" and (self.modes != ("plain",) or self.backward):
            raise UsageError("by layer: must be the forward pass in mode plain alone, other modes have other layers")

    @property
    def items(self) -> str:
        """The dtype of weights and images: TF32 is one of products alone."""
        return "float32" if self.dtype == TF32 else self.dtype

    def tree(self, name: str, shape: Shape) -> Block:
        """Return the operations of the network ``name`` on an input of ``shape``."""
        config, sizes = self.models[name], batch_and_size(shape)
        return dense.network(config, self.task, *sizes) if self.task else network(config, *sizes)

    @property
    def groups(self) -> list[tuple[str, Shape]]:
        """Every network's name with every input shape, in the order in which they are measured."""
        return [(name, input_shape(config, self.size, batch)) for name, config in self.models.items() for batch in self.batches]

    @property
    def passes(self) -> str:
        """``FORWARD`` or ``FORWARD_BACKWARD``."""
        return FORWARD_BACKWARD if self.backward else FORWARD


def batch_and_size(shape: Shape) -> tuple[int, int, int]:
    """Return (batch, height, width) of an input's shape (B, C, H, W)."""
    return shape[0], shape[2], shape[3]
