"""The loop: one process or many, on the CPU or GPUs, by accelerate; whatever is random comes from ``training.seed_of``."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from mpvit.dense import build
from mpvit.errors import MpvitError
from mpvit.model.network import MPViT
from mpvit.training import seed_of
from mpvit.training.evaluation import Found, batches, evaluate
from mpvit.training.processes import interruptible, synced
from mpvit.training.results import Epoch, Step
from mpvit.training.run import Run, State
from mpvit.training.views import IGNORED, Changed, Order, mixed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from accelerate import Accelerator

    from mpvit.training.data import Data
    from mpvit.training.pixels import PixelsFound
    from mpvit.training.recipe import Recipe
    from mpvit.training.settings import Settings

AUXILIARY = 0.4
"""Of the loss of an auxiliary head (Zhao et al., CVPR 2017, arXiv:1612.01105, section 4.1)."""

_LOOKS = 20
"""How often the loss is looked at in an epoch: each look waits for the device."""


class Machine(NamedTuple):
    """What a run takes of the machine; none of it changes what comes out but for rounding.

    Attributes:
        workers: processes that read pictures, for each process that trains.
        compiled: whether torch compiles the network.
        save_every: steps between checkpoints within an epoch; 0 for one an epoch.
    """

    workers: int = 0
    compiled: bool = False
    save_every: int = 0


class Interrupted(KeyboardInterrupt):
    """Somebody ended the run between two steps; the checkpoint holds all that was done."""


def train(
    run: Run, data: Data, accelerator: Accelerator, machine: Machine, watch: Callable[[Step | Epoch], None]
) -> list[Epoch]:
    """Train what ``run`` says from where it stands to its end, and return its epochs; ``watch`` sees how it goes.

    Raises ``MpvitError`` where the loss is no number any more, the checkpoint then being the last good one, and
    ``Interrupted`` where somebody ends it.
    """
    recipe = run.settings.recipe
    state = run.load()
    loop = Loop(run, data, accelerator, machine, watch)
    if state:
        loop.restore(state)
    with interruptible() as interrupted, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Grad strides do not match")  # of depthwise kernels, one channel wide
        while len(loop.history) < recipe.epochs:
            loop.epoch(interrupted)
    accelerator.end_training()
    return loop.history


class Loop:
    """What a run holds while it trains. The parts of a step stand in ``learn``, those of an epoch in ``epoch``."""

    def __init__(
        self, run: Run, data: Data, accelerator: Accelerator, machine: Machine, watch: Callable[[Step | Epoch], None]
    ) -> None:
        """Stand at the beginning of ``run``."""
        self.run, self.data, self.accelerator, self.machine, self.watch = run, data, accelerator, machine, watch
        self.recipe = recipe = run.settings.recipe
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(recipe.seed, "weights"))
            network = _network(run.settings)
        self.average = AveragedModel(network, multi_avg_fn=_averaging(recipe), use_buffers=True).to(accelerator.device)
        if accelerator.num_processes > 1:
            network = synced(network, accelerator.device)
        if machine.compiled:
            network.compile()
        self.order = Order(data.train.pictures, recipe.batch, recipe.seed)
        views = Changed(data.train, recipe, run.settings.preprocessing)
        batch = min(recipe.batch // recipe.accumulate, data.train.pictures)
        loader = DataLoader(
            views, batch, sampler=self.order, num_workers=machine.workers, persistent_workers=machine.workers > 0
        )
        optimizer = torch.optim.AdamW(groups(network, recipe.weight_decay), lr=recipe.peak_rate)
        self.network, self.optimizer, self.loader = accelerator.prepare(network, optimizer, loader)
        self.history: list[Epoch] = []
        self.step = self.seen = 0
        self.loss = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        self.correct, self.answers = (torch.zeros((), dtype=torch.int64, device=accelerator.device) for _ in range(2))

    def restore(self, state: State) -> None:
        """Stand where a checkpoint stood."""
        try:
            self.accelerator.unwrap_model(self.network).load_state_dict(state.network)
            self.average.load_state_dict(state.average)
            self.optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).strip().replace("\n", " ")
            raise MpvitError(
                f"the checkpoint of {self.run.folder} is of another network: {reason[:200]}",
                hint="its config.json was changed: put it back, or begin another run",
            ) from None
        self.step, self.seen, self.history = state.step, state.seen, state.history
        if self.accelerator.is_main_process:  # the others count from here on: sums are over all processes
            self.loss.fill_(state.loss)
            self.correct.fill_(state.correct)
            self.answers.fill_(state.answers)

    def epoch(self, interrupted: Sequence[int]) -> None:
        """Learn from every picture once, look at those held out, and write down how far that is."""
        recipe, steps = self.recipe, self.order.steps
        self.order.epoch, self.order.start = len(self.history), self.step - len(self.history) * steps
        began, before = time.perf_counter(), self.seen
        self.network.train()
        for index, (images, targets) in enumerate(batches(self.loader)):
            if not self.learn(images, targets, index % recipe.accumulate):
                continue
            done = self.step - len(self.history) * steps
            if done % max(steps // _LOOKS, 1) == 0:  # in all processes at the same step
                loss, accuracy = self._so_far()
                rate = (self.seen - before) / (time.perf_counter() - began)
                self.watch(Step(len(self.history) + 1, recipe.epochs, done, steps, loss, accuracy, rate))
            if self._any(bool(interrupted)):
                self.save()
                raise Interrupted
            if self.machine.save_every and self.step % self.machine.save_every == 0 and done < steps:
                self.save()
        seconds = time.perf_counter() - began
        loss, accuracy = self._so_far()
        average = self.average.module.eval()
        found = self._held_out(average)
        self.history.append(
            Epoch(
                epoch=len(self.history) + 1,
                step=self.step,
                rate=recipe.rate_at(self.step - 1, steps),
                loss=loss,
                accuracy=accuracy,
                held_out_loss=found.loss,
                held_out_correct=found.correct,
                held_out_images=self.data.held_out.pictures,
                images_per_s=(self.seen - before) / seconds,
                overlap=found.overlap,
            )
        )
        self.seen = 0
        for each in (self.loss, self.correct, self.answers):
            each.zero_()
        self.save()
        if self.accelerator.is_main_process:
            self.run.save_epoch(average, self.data, self.history)  # type: ignore[arg-type]
        self.watch(self.history[-1])

    def _held_out(self, network: nn.Module) -> Found | PixelsFound:
        """Return what a network in evaluation mode says of the pictures held out."""
        return evaluate(
            network,
            self.data.held_out,
            self.run.settings.preprocessing,
            self.accelerator,
            classes=len(self.data.classes),
            batch=self.recipe.batch,
            workers=self.machine.workers,
        )

    def learn(self, images: Tensor, targets: Tensor, part: int) -> bool:
        """Learn from a part of a batch, 0 the first; tell whether that ends a step of the optimizer."""
        recipe, accelerator = self.recipe, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate_at(self.step, self.order.steps)
        # what the network itself draws, as which layers it leaves out
        torch.manual_seed(seed_of(recipe.seed, "network", self.step, part, accelerator.process_index))
        with accelerator.accumulate(self.network):
            batch = mixed(images, targets, recipe, self.step, part)
            with accelerator.autocast():
                answers = self.network(batch.images)
            # a head that learns beside the main one, as UperNet's, comes second
            logits, *others = answers if isinstance(answers, tuple) else (answers,)
            loss = batch.loss(logits.float(), recipe.smoothing)
            for other in others:
                loss = loss + AUXILIARY * batch.loss(other.float(), recipe.smoothing)
            accelerator.backward(loss)
            if accelerator.sync_gradients and recipe.clip:
                accelerator.clip_grad_norm_(self.network.parameters(), recipe.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        likely = batch.targets if batch.share <= 1 / 2 else batch.others
        self.loss += loss.detach() * len(images)
        self.correct += (logits.detach().argmax(1) == likely).sum()
        self.answers += (likely != IGNORED).sum()
        self.seen += len(images) * accelerator.num_processes
        if not accelerator.sync_gradients:
            return False
        self.step += 1
        self.average.update_parameters(accelerator.unwrap_model(self.network))
        return True

    def _so_far(self) -> tuple[float, float]:
        """Return the mean loss and the accuracy of this epoch over all processes; raise where the loss is no number."""
        sums = self.accelerator.reduce(torch.stack((self.loss, self.correct.double(), self.answers.double())))
        loss, correct, answers = map(float, sums)
        loss /= self.seen
        if not math.isfinite(loss):
            epoch = len(self.history) + 1
            raise MpvitError(
                f"the loss is no number any more, at step {self.step} in epoch {epoch}",
                hint=f"{self.run.folder} keeps its last good checkpoint; begin another run with a smaller --lr",
            )
        return loss, correct / max(answers, 1)

    def _any(self, asked: bool) -> bool:  # noqa: FBT001 - reads as a question
        """Tell whether any process was asked to stop, the same answer in all of them."""
        if self.accelerator.num_processes == 1:
            return asked
        return bool(self.accelerator.reduce(torch.tensor(int(asked), device=self.accelerator.device)))

    def save(self) -> None:
        """Write how far the run is; a loss that is no number is never written."""
        sums = (self.loss, self.correct, self.answers)
        if self.seen:
            self._so_far()
            sums = tuple(self.accelerator.reduce(each) for each in sums)
        loss, correct, answers = sums
        if self.accelerator.is_main_process:
            network: dict[str, Any] = self.accelerator.unwrap_model(self.network).state_dict()
            state = State(
                step=self.step,
                network=network,
                average=self.average.state_dict(),
                optimizer=self.optimizer.state_dict(),
                loss=float(loss),
                correct=int(correct),
                answers=int(answers),
                seen=self.seen,
                history=self.history,
            )
            self.run.save(state)
        self.accelerator.wait_for_everyone()


def _network(settings: Settings) -> nn.Module:
    """Return the classifier or the segmenter that a run trains, freshly initialised."""
    task = settings.segmenter
    return build(settings.config, task) if task else MPViT(settings.config)


def groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups: weights decay, norms and biases, of one axis, do not."""
    decaying = [each for each in network.parameters() if each.requires_grad and each.ndim > 1]
    others = [each for each in network.parameters() if each.requires_grad and each.ndim <= 1]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _averaging(recipe: Recipe) -> Callable[[Any, Any, Any], None]:
    def average(averaged: Any, current: Any, steps: Any) -> None:  # noqa: ANN401 - lists of tensors, as torch has them
        if averaged[0].is_floating_point():
            get_ema_multi_avg_fn(recipe.average_at(int(steps)))(averaged, current, steps)
        else:  # counts and indices
            torch._foreach_copy_(averaged, current)

    return average
