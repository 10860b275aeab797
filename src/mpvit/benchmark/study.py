"""The configuration of a benchmark."""

from dataclasses import dataclass, field

from mpvit.benchmark.modes import INFERENCE_ONLY, MODES, PARTS
from mpvit.benchmark.results import FORWARD, FORWARD_BACKWARD
from mpvit.errors import UsageError, unknown_name
from mpvit.measurement.options import TimingOptions
from mpvit.network import NamedNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkStudy:
    """What is measured, and how. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        networks: networks of one task and image size.
        batches: batch sizes, each measured separately.
        modes: keys of ``MODES``. The modes of one network and batch size are interleaved; speed-ups are over the first mode.
        by: ``network``, or ``layer`` for each layer too.
        timing: device, dtype and duration. ``min_time_s`` is for each network, mode and batch size.
    """

    networks: tuple[NamedNetwork, ...]
    batches: tuple[int, ...] = (1,)
    modes: tuple[str, ...] = ("plain",)
    by: str = "network"
    timing: TimingOptions = field(default_factory=TimingOptions)

    def __post_init__(self) -> None:
        """Check every field once."""
        if self.by not in PARTS:
            raise unknown_name("part", self.by, PARTS)
        task = self.networks[0].task
        for mode in self.modes:
            if mode not in MODES:
                raise unknown_name("mode", mode, MODES)
            if task and mode in INFERENCE_ONLY:
                others = " or ".join(each for each in MODES if each not in INFERENCE_ONLY)
                raise UsageError(f"task {task.name} in mode {mode!r}: must be a classifier", hint=f"measure {others}")
            if self.timing.backward and mode in INFERENCE_ONLY:
                raise UsageError(f"backward in mode {mode!r}: must be the forward pass", hint="measure plain or compile")
        if self.by == "layer" and task:
            raise UsageError(
                f"task {task.name} by layer: must be by network", hint="mpvit layers shows the work of each layer of a task"
            )
        if self.by == "layer" and (self.modes != ("plain",) or self.timing.backward):
            raise UsageError("by layer: must be the forward pass in mode plain, other modes have other layers")
        for network, batch in self.groups:
            network.tree(batch)  # checks the batch and image sizes

    @property
    def groups(self) -> list[tuple[NamedNetwork, int]]:
        """Every network with every batch size, in the order of the measurements."""
        return [(network, batch) for network in self.networks for batch in self.batches]

    @property
    def passes(self) -> str:
        """``FORWARD`` or ``FORWARD_BACKWARD``."""
        return FORWARD_BACKWARD if self.timing.backward else FORWARD
