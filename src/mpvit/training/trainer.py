"""The training loop, on accelerate: one process or several, on the CPU or on GPUs."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from mpvit.dense import build
from mpvit.errors import MpvitError, first_line
from mpvit.model.network import MPViT
from mpvit.training import seed_of
from mpvit.training.data.splits import Data
from mpvit.training.datasets import EpochSampler, TrainDataset
from mpvit.training.distributed import deferred_interrupts, with_synced_batch_norm
from mpvit.training.evaluation import batches, evaluate_split
from mpvit.training.mixup import mix
from mpvit.training.recipe import Recipe
from mpvit.training.results import Epoch, Step
from mpvit.training.run import Checkpoint, Run, RunConfig
from mpvit.training.transforms import IGNORE_INDEX

Report = Callable[[Step | Epoch], None]

AUXILIARY_WEIGHT = 0.4
"""Weight of the loss of an auxiliary head (Zhao et al., CVPR 2017, arXiv:1612.01105, section 4.1)."""

_REPORTS = 20
"""Progress reports per epoch; each waits for the device."""


class RunOptions(NamedTuple):
    """Options of a run that change its result only by rounding.

    Attributes:
        workers: processes that read images, for each training process.
        compiled: whether torch compiles the network.
        save_every: steps between checkpoints within an epoch; 0 for one checkpoint per epoch.
    """

    workers: int = 0
    compiled: bool = False
    save_every: int = 0


class Interrupted(KeyboardInterrupt):
    """The run was interrupted between two steps; its checkpoint holds everything so far."""


def train(run: Run, data: Data, accelerator: Accelerator, options: RunOptions, report: Report) -> list[Epoch]:
    """Train from the checkpoint of ``run``, or from the start, to the end; return the results of all epochs.

    ``report`` is called with the progress within an epoch and with the result of each epoch. Raises ``MpvitError`` if the loss
    is not finite, in which case the checkpoint is the last good one, and ``Interrupted``.
    """
    if accelerator.is_main_process:
        run.remove_unfinished_files()
    trainer = Trainer(run, data, accelerator, options, report)
    accelerator.init_trackers("tensorboard")
    if checkpoint := Checkpoint.load(run.checkpoint):
        trainer.restore(checkpoint)
    with deferred_interrupts() as interrupts, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Grad strides do not match")  # of depthwise kernels with one channel
        while len(trainer.history) < run.config.recipe.epochs:
            trainer.train_epoch(interrupts)
    accelerator.end_training()
    return trainer.history


class Trainer:
    """The state of a run while it trains, at first that before its first step."""

    def __init__(self, run: Run, data: Data, accelerator: Accelerator, options: RunOptions, report: Report) -> None:
        self.run, self.data, self.accelerator, self.options, self.report = run, data, accelerator, options, report
        self.recipe = recipe = run.config.recipe
        network = _initialised(run.config)
        self.average = AveragedModel(network, multi_avg_fn=_moving_average(recipe), use_buffers=True).to(accelerator.device)
        if accelerator.num_processes > 1:
            network = with_synced_batch_norm(network, accelerator.device)
        if options.compiled:
            network.compile()
        self.sampler = EpochSampler(len(data.train), recipe.batch, recipe.seed)
        loader = DataLoader(
            TrainDataset(data.train, recipe, run.config.preprocessing),
            min(recipe.batch // recipe.accumulate, len(data.train)),
            sampler=self.sampler,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
        )
        optimizer = torch.optim.AdamW(parameter_groups(network, recipe.weight_decay), lr=recipe.peak_rate)
        self.network, self.optimizer, self.loader = accelerator.prepare(network, optimizer, loader)
        self.history: list[Epoch] = []
        self.step = self.seen = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # loss, correct predictions, predictions

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue at a checkpoint; raise ``MpvitError`` if it belongs to another network."""
        try:
            self.accelerator.unwrap_model(self.network).load_state_dict(checkpoint.network)
            self.average.load_state_dict(checkpoint.average)
            self.optimizer.load_state_dict(checkpoint.optimizer)
        except (RuntimeError, KeyError, ValueError) as error:
            raise MpvitError(
                f"the checkpoint of {self.run.folder} is of another network: {first_line(error)}",
                hint="its config.json was changed: restore it, or start another run",
            ) from None
        self.step, self.seen, self.history = checkpoint.step, checkpoint.seen, checkpoint.history
        if self.accelerator.is_main_process:  # sums are added up over the processes, so the others start at 0
            self.sums.copy_(torch.tensor((checkpoint.loss, checkpoint.correct, checkpoint.answers), dtype=torch.float64))

    def train_epoch(self, interrupts: Sequence[int]) -> None:
        """Train on every image once, evaluate the averaged weights, and save the result."""
        steps, first = self.sampler.steps, len(self.history) * self.sampler.steps
        self.sampler.start_at(len(self.history), self.step - first)
        start, seen = time.perf_counter(), self.seen
        self.network.train()
        for index, (images, targets) in enumerate(batches(self.loader)):
            if not self.train_part(images, targets, index % self.recipe.accumulate):
                continue
            done = self.step - first
            if done % max(steps // _REPORTS, 1) == 0:  # in all processes at the same step
                speed = (self.seen - seen) / (time.perf_counter() - start)
                self.report(Step(len(self.history) + 1, self.recipe.epochs, done, steps, *self._means(), speed))
            if interrupts:
                self.accelerator.set_trigger()
            if (interrupts or self.accelerator.num_processes > 1) and self.accelerator.check_trigger():
                self.save()
                raise Interrupted
            if self.options.save_every and self.step % self.options.save_every == 0 and done < steps:
                self.save()
        self._end_epoch((self.seen - seen) / (time.perf_counter() - start))

    def train_part(self, images: Tensor, targets: Tensor, part: int) -> bool:
        """Compute the gradient of one part of a batch, ``part`` counted from 0; return whether the optimizer made its step."""
        recipe, accelerator = self.recipe, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate_at(self.step, self.sampler.steps)
        # for the random numbers of the network itself, which are those of drop path
        torch.manual_seed(seed_of(recipe.seed, "network", self.step, part, accelerator.process_index))
        with accelerator.accumulate(self.network):
            batch = mix(images, targets, recipe, self.step, part)
            with accelerator.autocast():
                outputs = self.network(batch.images)
            # an auxiliary head, as UperNet has one, comes after the main one
            logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = batch.loss(logits.float(), recipe.smoothing)
            for other in auxiliary:
                loss = loss + AUXILIARY_WEIGHT * batch.loss(other.float(), recipe.smoothing)
            accelerator.backward(loss)
            if accelerator.sync_gradients and recipe.clip:
                accelerator.clip_grad_norm_(self.network.parameters(), recipe.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        correct = (logits.argmax(1) == batch.likelier).sum()
        predictions = (batch.likelier != IGNORE_INDEX).sum()
        self.sums += torch.stack(((loss.detach() * len(logits)).double(), correct.double(), predictions.double()))
        self.seen += len(logits) * accelerator.num_processes
        if not accelerator.sync_gradients:
            return False
        self.step += 1
        self.average.update_parameters(accelerator.unwrap_model(self.network))
        return True

    def _end_epoch(self, images_per_s: float) -> None:
        loss, accuracy = self._means()
        average, held_out, how = self.average.module.eval(), self.data.held_out, self.run.config.preprocessing
        classes, batch = len(self.data.classes), self.recipe.batch
        metrics = evaluate_split(average, held_out, how, self.accelerator, classes, batch, self.options.workers)
        self.history.append(
            Epoch(
                epoch=len(self.history) + 1,
                step=self.step,
                rate=self.recipe.rate_at(self.step - 1, self.sampler.steps),
                loss=loss,
                accuracy=accuracy,
                held_out_loss=metrics.loss,
                held_out_correct=metrics.correct,
                held_out_images=len(held_out),
                images_per_s=images_per_s,
                overlap=metrics.overlap,
            )
        )
        self.seen = 0
        self.sums.zero_()
        self.save()
        if self.accelerator.is_main_process:
            self.run.save_epoch(average, self.data, self.history)  # type: ignore[arg-type]
        self.accelerator.log(self.history[-1].figures, step=len(self.history))
        self.report(self.history[-1])

    def _totals(self) -> tuple[float, float, float]:
        """Return the sums over all processes; raise if the loss is not finite, so that no such checkpoint is written."""
        loss, correct, predictions = self.accelerator.reduce(self.sums).tolist()
        if not math.isfinite(loss):
            raise MpvitError(
                f"the loss is not finite any more, at step {self.step} in epoch {len(self.history) + 1}",
                hint=f"{self.run.folder} keeps its last good checkpoint; start another run with a smaller learning rate",
            )
        return loss, correct, predictions

    def _means(self) -> tuple[float, float]:
        """Return the mean loss and the accuracy of this epoch so far."""
        loss, correct, predictions = self._totals()
        return loss / self.seen, correct / max(predictions, 1)

    def save(self) -> None:
        """Write a checkpoint."""
        loss, correct, predictions = self._totals()
        if self.accelerator.is_main_process:
            Checkpoint(
                step=self.step,
                network=self.accelerator.unwrap_model(self.network).state_dict(),
                average=self.average.state_dict(),
                optimizer=self.optimizer.state_dict(),
                loss=loss,
                correct=int(correct),
                answers=int(predictions),
                seen=self.seen,
                history=self.history,
            ).save(self.run.checkpoint)
        self.accelerator.wait_for_everyone()


def _initialised(config: RunConfig) -> nn.Module:
    """Return the classifier or segmenter of a run with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(config.recipe.seed, "weights"))
        return build(config.network, config.segmenter) if config.segmenter else MPViT(config.network)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups: weights with weight decay; norms and biases, which have one axis, without."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    weights, others = [each for each in parameters if each.ndim > 1], [each for each in parameters if each.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _moving_average(recipe: Recipe) -> Callable[[Any, Any, Any], None]:
    def update(averaged: Any, current: Any, steps: Any) -> None:  # noqa: ANN401 - lists of tensors, as torch has them
        if averaged[0].is_floating_point():
            get_ema_multi_avg_fn(recipe.average_at(int(steps)))(averaged, current, steps)
        else:  # counts and indices
            torch._foreach_copy_(averaged, current)

    return update
