"""The training loop: the same bits after an interruption, averages as in their formula, and errors that end a run."""

import json
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import forked
import pytest
import torch
from image_folders import paint
from mask_folders import FOUR_STAGES, SQUARES, draw_squares
from safetensors.torch import load_file
from torch import Tensor

from mpvit.architecture.config import ModelConfig, StageConfig, config_from_dict
from mpvit.dense import SEGMENTERS, build, get_segmenter
from mpvit.errors import MpvitError, UsageError
from mpvit.network import NamedNetwork
from mpvit.training import trainer
from mpvit.training.data import open_data
from mpvit.training.data.splits import Data
from mpvit.training.distributed import training_accelerator
from mpvit.training.mixup import mix
from mpvit.training.recipe import RECIPES, Recipe, override
from mpvit.training.results import Epoch, Step
from mpvit.training.run import Checkpoint, Run, RunConfig
from mpvit.training.trainer import Interrupted, RunOptions, Trainer, train

CONFIG = ModelConfig((StageConfig(2, 2, 8, 2, 1),), num_classes=2, drop_path=0.2)
NETWORK = NamedNetwork("small", CONFIG)
RECIPE = override(RECIPES["deit"], {"size": 32, "epochs": 3, "batch": 4, "rate": 0.1, "warmup": 1})
SEGMENT = override(RECIPES["segment-small"], {"size": 32, "epochs": 3, "batch": 8, "rate": 0.5, "warmup": 0})

Report = Callable[[Step | Epoch], None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """16 training images: 4 steps per epoch."""
    return open_data(str(paint(tmp_path_factory.mktemp("data") / "fruit", {"apple": 10, "pear": 10})))


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(str(draw_squares(tmp_path_factory.mktemp("data") / "squares", {"train": 16, "val": 4})), masked=True)


def create(folder: Path, data: Data, recipe: Recipe = RECIPE, network: NamedNetwork = NETWORK) -> Run:
    return Run.create(folder, RunConfig.of(data, network, "deit", recipe))


def segmenter(task: str = "segformer") -> NamedNetwork:
    return NamedNetwork("four", config_from_dict(FOUR_STAGES), task=get_segmenter(task, 1))


def silent(_: Step | Epoch) -> None:
    pass


def run_to_end(run: Run, data: Data, report: Report = silent) -> list[Epoch]:
    return train(run, data, training_accelerator(run.config.recipe, "cpu"), RunOptions(), report)


class Finished(NamedTuple):
    """A run that was trained to its end."""

    run: Run
    history: list[Epoch]
    reports: list[Step | Epoch]


@pytest.fixture(scope="module")
def whole(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run without interruption, logged for TensorBoard; no test changes it."""
    run, reports = create(tmp_path_factory.mktemp("finished") / "run", data), list[Step | Epoch]()
    accelerator = training_accelerator(run.config.recipe, "cpu", run.folder)
    return Finished(run, train(run, data, accelerator, RunOptions(), reports.append), reports)


def weights(run: Run) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(run.weights)
    return found


# ── interruptions ───────────────────────────────────────────────────────────────────────────────────────────────────


def interrupted_at(steps: Collection[int], run: Run, data: Data) -> Iterator[Checkpoint]:
    """Interrupt a run, by the signal of Ctrl-C, after each of these steps in turn, and yield its checkpoint."""
    for step in steps:

        def interrupt(progress: Step | Epoch, at: int = step) -> None:
            if isinstance(progress, Step) and (progress.epoch - 1) * progress.steps + progress.step == at:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted):
            run_to_end(Run.open(run.folder), data, interrupt)
        checkpoint = Checkpoint.load(run.checkpoint)
        assert checkpoint is not None
        yield checkpoint


def figures(history: list[Epoch]) -> list[dict[str, object]]:
    """All figures but the speed, and the overlap that a classifier does not have."""
    left_out = ("images_per_s", "overlap")
    return [{name: value for name, value in asdict(epoch).items() if name not in left_out} for epoch in history]


def test_a_run_interrupted_anywhere_ends_in_the_same_bits(tmp_path: Path, data: Data, whole: Finished) -> None:
    assert [epoch.epoch for epoch in whole.history] == [1, 2, 3]
    assert whole.history[-1].step == 3 * 4
    stopped = create(tmp_path / "stopped", data)
    steps = (1, 3, 4, 7, 11)
    assert [checkpoint.step for checkpoint in interrupted_at(steps, stopped, data)] == list(steps)
    (stopped.folder / ".last.ckpt.k1ll3d").write_bytes(b"half a checkpoint")
    again = run_to_end(Run.open(stopped.folder), data)
    assert not list(stopped.folder.glob(".*"))
    for one, other in zip(figures(again), figures(whole.history), strict=True):
        assert one == pytest.approx(other, rel=1e-12)
    assert whole.run.weights.read_bytes() == stopped.weights.read_bytes()
    first, second = Checkpoint.load(whole.run.checkpoint), Checkpoint.load(stopped.checkpoint)
    assert first is not None
    assert second is not None
    assert all(torch.equal(value, second.network[name]) for name, value in first.network.items())
    assert run_to_end(Run.open(stopped.folder), data) == again


def test_a_segmenter_interrupted_anywhere_ends_in_the_same_bits(tmp_path: Path, squares: Data) -> None:
    recipe = override(SEGMENT, {"epochs": 2, "flip": 0.5, "resized_crop": 0.5})
    whole, stopped = (create(tmp_path / name, squares, recipe, segmenter()) for name in ("whole", "stopped"))
    history = run_to_end(whole, squares)
    assert [checkpoint.step for checkpoint in interrupted_at((1, 3), stopped, squares)] == [1, 3]
    again = run_to_end(Run.open(stopped.folder), squares)
    same = ("step", "held_out_loss", "held_out_correct", "overlap", "accuracy")
    assert [[getattr(each, name) for name in same] for each in again] == [
        [getattr(each, name) for name in same] for each in history
    ]
    assert whole.weights.read_bytes() == stopped.weights.read_bytes()


@pytest.mark.slow
def test_a_segmenter_that_was_killed_ends_in_the_same_bytes(tmp_path: Path) -> None:
    draw_squares(tmp_path / "squares", {"train": 16, "val": 4})
    (tmp_path / "four.toml").write_text(SQUARES)
    here = ("--workers", "0", "--threads", "1", "--save-every", "2")
    how = ("--config", "four.toml", "--recipe", "segment-small", "--size", "32", "--batch", "4", "--epochs", "8", *here)
    first = ("train", "--task", "segformer", "squares", *how)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert forked.run(tmp_path, *first, "-o", "whole")[0].code == 0
    running = forked.start(tmp_path, *first, "-o", "killed")
    while not (killed / "log.jsonl").exists():
        time.sleep(0.01)
    running.process.kill()
    running.process.join()
    assert len((killed / "log.jsonl").read_text().splitlines()) < 8
    assert forked.run(tmp_path, "train", "--resume", "killed", *here)[0].code == 0
    assert (whole / "weights.safetensors").read_bytes() == (killed / "weights.safetensors").read_bytes()


# ── results ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_log_and_the_reports_have_the_results(data: Data, whole: Finished) -> None:
    lines = [json.loads(line) for line in (whole.run.folder / "log.jsonl").read_text().splitlines()]
    assert lines == [asdict(epoch) for epoch in whole.history]
    assert [each for each in whole.reports if isinstance(each, Epoch)] == whole.history
    assert whole.history[-1].held_out_images == len(data.held_out)
    assert whole.history[0].rate == pytest.approx(whole.run.config.recipe.rate_at(3, 4))


def test_tensorboard_gets_the_figures_of_each_epoch(whole: Finished) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(whole.run.folder / "tensorboard")).Reload()
    for name in ("rate", "loss", "accuracy", "held_out_loss", "held_out_accuracy", "images_per_s"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(epoch.epoch, pytest.approx(getattr(epoch, name), rel=1e-6)) for epoch in whole.history]


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path) -> None:
    """Without mixing, as only batch norm then depends on the other images of a part, and over a few steps."""
    data = open_data(str(paint(tmp_path / "fruit", {"apple": 20, "pear": 20})))
    recipe = override(RECIPE, {"mixup": 0, "cutmix": 0, "epochs": 1, "smoothing": 0, "batch": 8})
    whole = create(tmp_path / "whole", data, recipe)
    parts = create(tmp_path / "parts", data, override(recipe, {"accumulate": 2}))
    first, second = run_to_end(whole, data)[-1], run_to_end(parts, data)[-1]
    assert (first.step, second.step) == (4, 4)
    assert second.loss == pytest.approx(first.loss, rel=0.05)


def test_the_average_is_its_formula(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """W' := d W' + (1 - d) W with d = min(decay, (1 + n) / (10 + n)) after n averages, the first being a copy."""
    seen: list[Tensor] = []
    before = Trainer.train_part

    def watched(self: Trainer, images: Tensor, targets: Tensor, part: int) -> bool:
        ended = before(self, images, targets, part)
        seen.append(self.network.head.weight.detach().clone())
        return ended

    monkeypatch.setattr(Trainer, "train_part", watched)
    run = create(tmp_path / "run", data, override(RECIPE, {"epochs": 2, "average": 0.3}))
    run_to_end(run, data)
    expected = seen[0].double()
    for step, value in enumerate(seen[1:], 1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(weights(run)["head.weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_ends_it_with_the_last_good_checkpoint(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path / "run", data)

    def spoilt(images: Tensor, targets: Tensor, recipe: Recipe, step: int, part: int) -> object:
        return mix(images * (float("nan") if step >= 6 else 1), targets, recipe, step, part)

    monkeypatch.setattr(trainer, "mix", spoilt)
    with pytest.raises(MpvitError, match="not finite any more, at step 7 in epoch 2") as caught:
        run_to_end(run, data)
    assert "smaller learning rate" in caught.value.hint
    checkpoint = Checkpoint.load(run.checkpoint)
    assert checkpoint is not None
    assert (checkpoint.step, len(checkpoint.history)) == (4, 1)
    assert all(value.isfinite().all() for value in checkpoint.network.values())


def test_norms_and_biases_have_no_weight_decay() -> None:
    with torch.device("meta"):
        from mpvit import build_model

        network = build_model(CONFIG)
    decaying, others = (group["params"] for group in trainer.parameter_groups(network, 0.05))
    names = {id(value): name for name, value in network.named_parameters()}
    assert all("norm" in names[id(each)] or names[id(each)].endswith("bias") for each in others)
    assert not any("norm" in names[id(each)] or names[id(each)].endswith("bias") for each in decaying)
    assert len(decaying) + len(others) == len(names)


# ── segmenters ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_segmenter_learns_in_seconds(tmp_path: Path, squares: Data) -> None:
    recipe = override(SEGMENT, {"epochs": 6, "batch": 4, "rate": 2, "average": 0.5})
    history = run_to_end(create(tmp_path / "run", squares, recipe, segmenter()), squares)
    overlaps = [epoch.overlap.miou for epoch in history if epoch.overlap]
    assert len(overlaps) == 6
    assert overlaps[0] < 0.5
    assert overlaps[-1] > 0.7
    assert history[-1].loss < history[0].loss / 3


@pytest.mark.slow
@pytest.mark.parametrize("task", SEGMENTERS)
def test_every_segmenter_learns(task: str, tmp_path: Path, squares: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrower than published: only the number of channels differs."""
    monkeypatch.setattr(f"mpvit.dense.{task.replace('-', '_')}.CHANNELS", 64)
    recipe = override(SEGMENT, {"epochs": 10, "batch": 4, "rate": 0.5, "average": 0.5})
    history = run_to_end(create(tmp_path / "run", squares, recipe, segmenter(task)), squares)
    assert history[-1].loss < history[0].loss / 2


@pytest.mark.parametrize("task", SEGMENTERS)
def test_a_fused_backbone_gives_the_same_logits(task: str) -> None:
    from mpvit.dense.torch_network import fuse_backbone

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(config_from_dict(FOUR_STAGES), get_segmenter(task, 3)).eval()
    x = torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(fuse_backbone(network)(x), network(x), rtol=1e-4, atol=1e-4)
    assert type(network.backbone).__name__ == "MPViT"


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_not_started_over_another(tmp_path: Path, data: Data) -> None:
    create(tmp_path / "run", data)
    with pytest.raises(UsageError, match="holds a run already"):
        create(tmp_path / "run", data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "last.ckpt is damaged"),
        (lambda path: path.write_bytes(b""), "last.ckpt is damaged"),
        (lambda path: path.write_bytes(b"hello"), "last.ckpt is damaged: it is not a complete checkpoint"),
        (lambda path: path.write_bytes(b"abc"), "last.ckpt is damaged"),
        (lambda path: torch.save({"format": 2}, path), "last.ckpt is damaged"),
        (lambda path: torch.save([1], path), "last.ckpt is damaged"),
        (lambda path: torch.save({"format": 99}, path), "another version"),
    ],
    ids=["cut", "empty", "text", "letters", "lacking", "list", "version"],
)
def test_a_damaged_checkpoint_is_one_line(
    damage: Callable[[Path], object], words: str, tmp_path: Path, whole: Finished
) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(whole.run.checkpoint.read_bytes())
    damage(path)
    with pytest.raises(MpvitError, match=words) as caught:
        Checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert "remove" in caught.value.hint


def test_a_checkpoint_of_another_network_is_one_line(tmp_path: Path, whole: Finished, data: Data) -> None:
    config = (whole.run.folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"dim": 8', '"dim": 16').replace('"epochs": 3', '"epochs": 4'))
    (tmp_path / "last.ckpt").write_bytes(whole.run.checkpoint.read_bytes())
    with pytest.raises(MpvitError, match="is of another network"):
        run_to_end(Run.open(tmp_path), data)


@pytest.mark.parametrize(
    ("text", "error"), [("{}", MpvitError), ("", MpvitError), ('{"data": 1}', MpvitError), (None, UsageError)]
)
def test_a_damaged_configuration_is_one_line(text: str | None, error: type[MpvitError], tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(error) as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_does_not_resume_with_other_images(tmp_path: Path) -> None:
    folder = paint(tmp_path / "fruit", {"apple": 6, "pear": 6})
    run = create(tmp_path / "run", open_data(str(folder)))
    (folder / "apple" / "000.png").unlink()
    with pytest.raises(MpvitError, match="have changed since"):
        run.open_data()
