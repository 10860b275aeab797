"""The loop: the same bits after an interruption, averages as their formula has them, and what ends it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from pictures import paint
from safetensors.torch import load_file
from torch import Tensor

from mpvit.config import ModelConfig, StageConfig
from mpvit.errors import MpvitError, UsageError
from mpvit.training import loop
from mpvit.training.data import Data, open_data
from mpvit.training.loop import Interrupted, Machine, train
from mpvit.training.processes import accelerator_for
from mpvit.training.recipe import RECIPES, Recipe, changed
from mpvit.training.results import Epoch, Step
from mpvit.training.run import Run
from mpvit.training.settings import Settings
from mpvit.training.views import mixed

NETWORK = ModelConfig((StageConfig(2, 2, 8, 2, 1),), num_classes=2, drop_path=0.2)
RECIPE = changed(RECIPES["deit"], {"size": 32, "epochs": 3, "batch": 8, "rate": 0.1, "warmup": 1})

Watch = Callable[[Step | Epoch], None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(str(paint(tmp_path_factory.mktemp("data") / "fruit", {"apple": 20, "pear": 20})))


def begin(folder: Path, data: Data, recipe: Recipe = RECIPE) -> Run:
    settings = Settings(
        data=data.where,
        fingerprint=data.fingerprint,
        damaged=(),
        classes=data.classes,
        model="small",
        network=asdict(NETWORK),
        recipe_name="deit",
        recipe=recipe,
        versions={},
    )
    return Run.begin(folder, settings)


def silent(_: Step | Epoch) -> None:
    pass


def learn(run: Run, data: Data, watch: Watch = silent, machine: Machine = Machine()) -> list[Epoch]:  # noqa: B008 - frozen
    recipe = run.settings.recipe
    return train(run, data, accelerator_for(recipe, "cpu"), machine, watch)


def weights(run: Run) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(run.weights)
    return found


def test_a_run_stopped_anywhere_ends_in_the_same_bits(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = begin(tmp_path / "whole", data)
    history = learn(whole, data)
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert history[-1].step == 3 * 4
    stopped = begin(tmp_path / "stopped", data)
    for step in (1, 3, 4, 7, 11):

        def ended(self: loop.Loop, _: bool, at: int = step) -> bool:  # noqa: FBT001
            return self.step == at

        monkeypatch.setattr(loop.Loop, "_any", ended)
        with pytest.raises(Interrupted):
            learn(Run.open(stopped.folder), data)
        monkeypatch.undo()
        state = stopped.load()
        assert state is not None
        assert state.step == step
    again = learn(Run.open(stopped.folder), data)
    same = ("epoch", "step", "rate", "loss", "accuracy", "held_out_loss", "held_out_correct")
    assert [[getattr(each, name) for name in same] for each in again] == [
        [pytest.approx(getattr(each, name), rel=1e-12) for name in same] for each in history
    ]
    assert whole.weights.read_bytes() == stopped.weights.read_bytes()
    first, second = whole.load(), stopped.load()
    assert first is not None
    assert second is not None
    assert all(torch.equal(value, second.network[name]) for name, value in first.network.items())
    assert learn(Run.open(stopped.folder), data) == again


def test_the_log_and_the_weights_say_what_came_of_it(tmp_path: Path, data: Data) -> None:
    run = begin(tmp_path / "run", data, changed(RECIPE, {"epochs": 2}))
    seen: list[Step | Epoch] = []
    history = learn(run, data, seen.append)
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert lines == [asdict(epoch) for epoch in history]
    assert [each for each in seen if isinstance(each, Epoch)] == history
    assert history[-1].held_out_images == data.held_out.pictures
    assert history[0].rate == pytest.approx(run.settings.recipe.rate_at(3, 4))


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path, data: Data) -> None:
    """Without what depends on a part's pictures alone, batch norm, so over one step of a frozen norm: see the rates."""
    still = {"mixup": 0, "cutmix": 0, "epochs": 1, "smoothing": 0}
    whole = begin(tmp_path / "whole", data, changed(RECIPE, still))
    parts = begin(tmp_path / "parts", data, changed(RECIPE, still | {"accumulate": 2}))
    first, second = learn(whole, data)[-1], learn(parts, data)[-1]
    assert (first.step, second.step) == (4, 4)
    assert second.loss == pytest.approx(first.loss, rel=0.05)


def test_the_average_is_its_formula(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """W' := d W' + (1 - d) W with d = min(decay, (1 + n) / (10 + n)) after n averages, the first being a copy."""
    seen: list[Tensor] = []
    before = loop.Loop.learn

    def watched(self: loop.Loop, images: Tensor, targets: Tensor, part: int) -> bool:
        ended = before(self, images, targets, part)
        seen.append(self.network.head.weight.detach().clone())
        return ended

    monkeypatch.setattr(loop.Loop, "learn", watched)
    run = begin(tmp_path / "run", data, changed(RECIPE, {"epochs": 2, "average": 0.3}))
    learn(run, data)
    expected = seen[0].double()
    for step, value in enumerate(seen[1:], 1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(weights(run)["head.weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_no_number_ends_it_with_the_last_good_checkpoint(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path / "run", data)

    def spoilt(images: Tensor, targets: Tensor, recipe: Recipe, step: int, part: int) -> object:
        return mixed(images * (float("nan") if step >= 6 else 1), targets, recipe, step, part)

    monkeypatch.setattr(loop, "mixed", spoilt)
    with pytest.raises(MpvitError, match="no number any more, at step 7 in epoch 2") as caught:
        learn(run, data)
    assert "smaller --lr" in caught.value.hint
    state = run.load()
    assert state is not None
    assert (state.step, len(state.history)) == (4, 1)
    assert all(value.isfinite().all() for value in state.network.values())


def test_norms_and_biases_do_not_decay() -> None:
    with torch.device("meta"):
        from mpvit import build_model

        network = build_model(NETWORK)
    decaying, others = (group["params"] for group in loop.groups(network, 0.05))
    names = {id(value): name for name, value in network.named_parameters()}
    assert all("norm" in names[id(each)] or names[id(each)].endswith("bias") for each in others)
    assert not any("norm" in names[id(each)] or names[id(each)].endswith("bias") for each in decaying)
    assert len(decaying) + len(others) == len(names)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_not_begun_over_another(tmp_path: Path, data: Data) -> None:
    begin(tmp_path / "run", data)
    with pytest.raises(UsageError, match="holds a run already"):
        begin(tmp_path / "run", data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "last.ckpt is damaged"),
        (lambda path: path.write_bytes(b""), "last.ckpt is damaged"),
        (lambda path: path.write_bytes(b"no checkpoint at all"), "last.ckpt is damaged"),
        (lambda path: torch.save({"format": 2}, path), "last.ckpt is damaged"),
        (lambda path: torch.save([1], path), "last.ckpt is damaged"),
        (lambda path: torch.save({"format": 99}, path), "another version"),
    ],
    ids=["cut", "empty", "text", "lacking", "list", "version"],
)
def test_a_damaged_checkpoint_is_one_line(damage: Callable[[Path], object], words: str, tmp_path: Path, data: Data) -> None:
    run = begin(tmp_path / "run", data, changed(RECIPE, {"epochs": 1}))
    learn(run, data)
    damage(run.folder / "last.ckpt")
    with pytest.raises(MpvitError, match=words) as caught:
        run.load()
    assert "\n" not in str(caught.value)
    assert "remove" in caught.value.hint


def test_a_checkpoint_of_another_network_is_one_line(tmp_path: Path, data: Data) -> None:
    run = begin(tmp_path / "run", data, changed(RECIPE, {"epochs": 1}))
    learn(run, data)
    config = (run.folder / "config.json").read_text()
    (run.folder / "config.json").write_text(config.replace('"dim": 8', '"dim": 16').replace('"epochs": 1', '"epochs": 2'))
    with pytest.raises(MpvitError, match="is of another network"):
        learn(Run.open(run.folder), data)


@pytest.mark.parametrize(
    ("text", "error"), [("{}", MpvitError), ("", MpvitError), ('{"data": 1}', MpvitError), (None, UsageError)]
)
def test_a_damaged_configuration_is_one_line(text: str | None, error: type[MpvitError], tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(error) as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_pictures_that_have_changed_are_not_gone_on_with(tmp_path: Path) -> None:
    folder = paint(tmp_path / "fruit", {"apple": 6, "pear": 6})
    run = begin(tmp_path / "run", open_data(str(folder)))
    (folder / "apple" / "000.png").unlink()
    with pytest.raises(MpvitError, match="have changed since"):
        run.require(open_data(str(folder)))
