"""A log of the epochs for TensorBoard."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING

from mpvit.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mpvit.training.results import Epoch


@contextlib.contextmanager
def tensorboard_log(folder: Path) -> Iterator[Callable[[Epoch], None]]:
    """Yield a function that writes the figures of an epoch into ``folder``."""
    require("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def log(epoch: Epoch) -> None:
            figures = asdict(epoch) | {"held_out_accuracy": epoch.held_out_accuracy}
            for name in ("rate", "loss", "accuracy", "held_out_loss", "held_out_accuracy", "images_per_s"):
                writer.add_scalar(name, figures[name], epoch.epoch)
            if epoch.overlap:
                writer.add_scalar("held_out_miou", epoch.overlap.miou, epoch.epoch)
            writer.flush()

        yield log
