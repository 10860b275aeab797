"""One process or several: accelerators, batch norm over all processes, and interrupts between two steps."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list
from torch import Tensor, distributed, nn

from mpvit.errors import UsageError
from mpvit.imports import require
from mpvit.progress import Track, untracked
from mpvit.training.data import find_damaged
from mpvit.training.data.splits import Data
from mpvit.training.recipe import Recipe


def make_accelerator(device: str, dtype: str = "float32", accumulate: int = 1, tensorboard: Path | None = None) -> Accelerator:
    """Return the accelerator of this process; ``device`` is cpu or cuda, ``tensorboard`` a folder to log to.

    With several processes each computes its share of every batch, so that the batch size is that of all processes together.
    """
    if tensorboard:
        require("tensorboard")
    AcceleratorState._reset_state()  # noqa: SLF001 - otherwise the dtype of an earlier accelerator is kept
    GradientState._reset_state()  # noqa: SLF001
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if dtype == "bfloat16" else "no",
        gradient_accumulation_steps=accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        step_scheduler_with_optimizer=False,
        log_with="tensorboard" if tensorboard else None,
        project_dir=tensorboard,
    )


def training_accelerator(recipe: Recipe, device: str, tensorboard: Path | None = None) -> Accelerator:
    """Return the accelerator for a recipe; raise ``UsageError`` if the processes cannot share a batch evenly."""
    accelerator = make_accelerator(device, recipe.dtype, recipe.accumulate, tensorboard)
    part, processes = recipe.batch // recipe.accumulate, accelerator.num_processes
    if part % processes:
        raise UsageError(f"batch = {part}: must be a multiple of the {processes} processes, which share it evenly")
    return accelerator


def without_damaged(data: Data, accelerator: Accelerator, workers: int, track: Track = untracked) -> Data:
    """Return the data without images that cannot be read; the main process reads them all and informs the others."""
    found = find_damaged(data, workers, track) if accelerator.is_main_process else []
    return data.without(broadcast_object_list([found])[0])


def with_synced_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with batch norms over the batches of all processes; its parameters keep their names."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
    return network


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm, with running statistics and a momentum, whose training statistics are those of all processes, on the CPU.

    torch's SyncBatchNorm supports only accelerators, accelerate has none, and torch's differentiable all-reduce is deprecated.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, c, h, w)."""
        if not self.training:
            return super().forward(x)
        channels, wide = x.shape[1], x.float()
        count = wide.new_full((1,), x.numel() // channels)
        sums = _AllReduce.apply(torch.cat((wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3)), count)))  # type: ignore[no-untyped-call]
        count = sums[-1]
        mean = sums[:channels] / count
        variance = sums[channels:-1] / count - mean.square()
        with torch.no_grad():
            for buffer, value in ((self.running_mean, mean), (self.running_var, variance * count / (count - 1))):
                buffer.lerp_(value, self.momentum)  # type: ignore[union-attr, arg-type]
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (wide * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


class _AllReduce(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of the gradients."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    backward = forward  # type: ignore[assignment]


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[Sequence[int]]:
    """Yield the list of SIGINT and SIGTERM so far, so that no step is interrupted; a second signal is raised."""
    signals: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)

    def remember(number: int, _: object) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    try:
        before = {kind: signal.signal(kind, remember) for kind in kinds}
    except ValueError:  # not in the main thread, which is the only one that receives signals
        yield signals
        return
    try:
        yield signals
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
