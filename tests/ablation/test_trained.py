"""What a row is worth: runs of every row and seed, their intervals against SciPy's, and studies that go on."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from commandline import COMMAND, call, environment, rows
from hypothesis import given
from hypothesis import strategies as st
from image_folders import SMALL_NETWORK, paint
from scipy.stats import ttest_1samp

from mpvit.training.metrics import compare
from mpvit.training.study import study_recipe

SHARES = st.lists(st.integers(0, 100).map(lambda number: number / 100), min_size=2, max_size=6)


@given(
    SHARES.flatmap(lambda own: st.tuples(st.just(own), st.lists(st.sampled_from(own), min_size=len(own), max_size=len(own))))
)
def test_intervals_are_students_paired_by_seed(pair: tuple[list[float], list[float]]) -> None:
    own, baseline = pair
    found = compare(own, baseline, 100)
    differences = [one - other for one, other in zip(own, baseline, strict=True)]
    if len(set(differences)) == 1:
        assert found.delta_half == pytest.approx(0, abs=1e-12)
        return
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found.delta_half is not None
    assert (found.delta - found.delta_half, found.delta + found.delta_half) == pytest.approx(tuple(expected))
    assert (found.verdict == "no difference seen") == (expected.low <= 0 <= expected.high)


@pytest.mark.parametrize(
    ("own", "baseline", "verdict"),
    [
        ((0.9, 0.91, 0.92), (0.8, 0.81, 0.82), "better"),
        ((0.8, 0.81, 0.82), (0.9, 0.91, 0.925), "worse"),
        ((0.9, 0.8, 0.85), (0.85, 0.85, 0.85), "no difference seen"),
        ((0.9,), (0.1,), "one seed: no interval"),
    ],
)
def test_the_words_follow_from_the_interval(own: tuple[float, ...], baseline: tuple[float, ...], verdict: str) -> None:
    assert compare(own, baseline, 1000).verdict == verdict


WORDS = ("ablate", "paths=1,2,3", "--config", "net.toml", "--train", "fruit", "--recipe", "small", "--epochs", "1")
MORE = ("--set", "batch=8", "--seeds", "2", "--threads", "1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    paint(tmp_path / "fruit", {"apple": 20, "pear": 20})
    (tmp_path / "net.toml").write_text(SMALL_NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_trains_every_row_from_every_seed_and_keeps_it(here: Path) -> None:
    found = rows(call(*WORDS, *MORE, "-o", "study", "--format", "json"))
    assert [row["values"] for row in found] == [{"paths": "2"}, {"paths": "1"}, {"paths": "2"}, {"paths": "3"}]
    assert {(row["seeds"], row["images"]) for row in found} == {(2, 8)}
    assert found[0]["accuracies"] == found[2]["accuracies"]  # the same network is trained once
    assert (found[2]["delta_accuracy"], found[2]["verdict"]) == (0, "no difference seen")
    runs = sorted(str(path.parent.relative_to(here / "study")) for path in (here / "study").rglob("config.json"))
    assert runs == [f"{row}/seed-{seed}" for row in ("baseline", "paths=1", "paths=3") for seed in (0, 1)]
    for run in runs:
        assert len((here / "study" / run / "log.jsonl").read_text().splitlines()) == 1
    last = json.loads((here / "study" / "paths=3" / "seed-1" / "log.jsonl").read_text().splitlines()[-1])
    assert found[3]["accuracies"][1] == last["held_out_correct"] / 8
    assert {"rows.json", "rows.md", "ablations.json", "cost_accuracy.svg"} <= {path.name for path in (here / "study").iterdir()}
    before = {path: path.stat().st_mtime_ns for path in (here / "study").rglob("last.ckpt")}
    assert rows(call(*WORDS, *MORE, "-o", "study", "--format", "json")) == found
    assert {path: path.stat().st_mtime_ns for path in (here / "study").rglob("last.ckpt")} == before
    for words, said in ((("--epochs", "3"), "recipe differs"), (("--recipe", "deit"), "recipe differs")):
        done = call(*WORDS, *MORE, *words, "-o", "study")
        assert done.code == 2
        assert said in done.err


@pytest.mark.slow
def test_jobs_come_to_the_same_and_a_kill_loses_nothing(here: Path) -> None:
    expected = rows(call(*WORDS, *MORE, "-o", "one", "--format", "json"))
    line = [COMMAND, *WORDS, *MORE, "--jobs", "2", "-o", "two", "--format", "json"]
    with subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL) as process:
        while not list((here / "two").rglob("last.ckpt")):
            time.sleep(0.1)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):  # they end with it, and write no more
        time.sleep(0.1)
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=True)
    found: list[dict[str, object]] = json.loads(done.stdout)["results"]
    for row in (*found, *expected):
        row.pop("train_seconds")  # what the clock said
    assert found == expected


@pytest.mark.slow
def test_one_study_holds_rows_as_they_are_and_matched(here: Path) -> None:
    again = (*WORDS, *MORE, "--seeds", "1", "-o", "study", "--format", "json")
    plain, matched = rows(call(*again)), rows(call(*again, "--match", "macs", "--knob", "mlp-ratio"))
    assert [row["values"] for row in matched] == [row["values"] for row in plain]
    assert matched[0]["accuracies"] == plain[0]["accuracies"]  # the baseline is trained once
    assert matched[1]["macs"] != plain[1]["macs"]
    assert matched[1]["verdict"] == "one seed: no interval"
    assert "accuracy" not in matched[3]  # no MLP is narrow enough: refused
    names = {path.name for path in (here / "study").iterdir()}
    assert {"baseline", "paths=1", "paths=1,same-macs", "paths=3", "rows.json", "rows_same_macs.json"} <= names


BAD = {
    "--train nowhere": "is not a folder",
    "--train fruit --seeds 0": "seeds = 0",
    "--train fruit --jobs 0": "jobs = 0",
    "--train fruit --epochs 0": "epochs = 0",
    "--train fruit --measure": "--train with --measure",
    "--train fruit --device tpu": "--device 'tpu'",
    "--train fruit --dtype bfloat16": "--set dtype=bfloat16",
    "--train fruit --match latency": "--match latency with --train",
    "--train fruit --size 32x64": "only square images can be trained on",
    "--train fruit --set mixup": "NAME=VALUE",
    "--train fruit -o net.toml": "cannot make the folder",
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("words", BAD)
def test_bad_input_ends_in_one_clear_line(words: str) -> None:
    done = call("ablate", "paths=1", "--config", "net.toml", "--threads", "1", "--recipe", "small", *words.split())
    assert done.code == 2
    assert done.out == ""
    assert BAD[words] in done.err
    assert "Traceback" not in done.err


def test_the_recipe_of_a_study_has_the_size_that_was_asked_for() -> None:
    def size(asked: tuple[int, int] | None = None, **settings: object) -> int:
        return study_recipe("digits", settings=settings, size=asked)[1].size

    assert [size(), size(size="64"), size((48, 48)), size((48, 48), size="64")] == [32, 64, 48, 48]


def test_a_study_trains_for_a_share_of_the_epochs_unless_it_is_told_how_many() -> None:
    whole = study_recipe("digits")[1].epochs
    assert study_recipe("digits", share=4)[1].epochs == whole // 4
    assert study_recipe("digits", settings={"epochs": 3}, share=4)[1].epochs == 3
