"""One process or several: who takes what of a batch, batch norm over all of them, and how they are asked to stop."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list
from torch import Tensor, distributed, nn

from mpvit.errors import UsageError
from mpvit.training.data.unreadable import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mpvit.training.data import Data
    from mpvit.training.recipe import Recipe


def accelerator_of(device: str, dtype: str = "float32", accumulate: int = 1) -> Accelerator:
    """Return the accelerator of one process, or of the several that a launcher has started; ``device`` is cpu or cuda.

    Each process takes its share of every batch, so that a batch is the same however many there are.
    """
    AcceleratorState._reset_state()  # noqa: SLF001 - else the dtype of an earlier one in this process holds
    GradientState._reset_state()  # noqa: SLF001
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if dtype == "bfloat16" else "no",
        gradient_accumulation_steps=accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        step_scheduler_with_optimizer=False,
    )


def accelerator_for(recipe: Recipe, device: str) -> Accelerator:
    """Return the accelerator that trains by a recipe; raise ``UsageError`` where its processes cannot share a batch."""
    accelerator = accelerator_of(device, recipe.dtype, recipe.accumulate)
    part, processes = recipe.batch // recipe.accumulate, accelerator.num_processes
    if part % processes:
        raise UsageError(f"batch = {part}: must be a multiple of the {processes} processes", hint="each takes its share of it")
    return accelerator


def readable(
    data: Data, accelerator: Accelerator, workers: int, watch: Callable[[Iterable[Any], str, int], Iterable[Any]]
) -> Data:
    """Return the data without the pictures that cannot be read: the main process reads them all and tells the others."""
    found = damaged(data, workers, watch) if accelerator.is_main_process else []
    return data.without(broadcast_object_list([found])[0])


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of all processes together; torch's own runs on GPUs alone.

    Count, sum and sum of squares are added up over the processes, and their gradients are on the way back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same."""
        if not self.training:
            return super().forward(x)
        count = x.new_full((1,), x.numel() // x.shape[1], dtype=torch.float32)
        wide = x.float()
        sums = _Added.apply(torch.cat((wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3)), count)))  # type: ignore[no-untyped-call]
        channels, count = x.shape[1], sums[-1]
        mean = sums[:channels] / count
        variance = sums[channels:-1] / count - mean.square()
        with torch.no_grad():
            self._remember(mean, variance * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (wide * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's mean and unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Added(torch.autograd.Function):
    """A tensor added up over all processes. Each of them goes on with the sum, so a gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        """Return the sum."""
        return _added(own)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        """Return its gradient."""
        return _added(gradient)


def _added(own: Tensor) -> Tensor:
    total = own.clone()
    distributed.all_reduce(total)
    return total


def synced(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose batch norms go by the batches of all processes; its parameters keep their names."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
    return network


@contextlib.contextmanager
def interruptible() -> Iterator[Sequence[int]]:
    """Yield what SIGINT and SIGTERM write themselves into, so that a step is never left in its middle."""
    signals: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)

    def remember(number: int, _: object) -> None:
        if signals:  # a second one is meant
            raise KeyboardInterrupt
        signals.append(number)

    try:
        before = {kind: signal.signal(kind, remember) for kind in kinds}
    except ValueError:  # not in the main thread, where no signal arrives
        yield signals
        return
    try:
        yield signals
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
