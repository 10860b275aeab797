"""``mpvit search`` as a person meets it: the candidates, the file they are saved in, the figure, and what it refuses."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import call, run_on_terminal, shown
from image_folders import paint

from mpvit.architecture.config import load_config
from mpvit.benchmark import measure as benchmark
from mpvit.counting import count
from mpvit.search.examine import Batch, examine
from mpvit.search.space import stages_text
from mpvit.search.study import SearchStudy
from mpvit_cli.commands import search
from mpvit_cli.options.values import parse_amount, parse_seconds

TINY_SPACE = ("--width", "8,16", "--layers", "1", "--heads", "2", "--mlp-ratio", "2", "--size", "32")
XSMALL = ("--paths", "2/3/3/3", "--layers", "1/2/4/1", "--width", "64/128/192/256", "--mlp-ratio", "4")
LIMITS = ("--max-macs", "3G", "--max-params", "11M")


def rows(out: str, table: str) -> list[dict[str, Any]]:
    return [row for row in json.loads(out)["results"] if row["table"] == table]


def test_candidates_are_within_the_limits_and_the_published_beside_them() -> None:
    outcome = call("search", *LIMITS, "--format", "json")
    candidates = rows(outcome.out, "candidates")
    (space,) = rows(outcome.out, "space")
    assert outcome.code == 0
    assert [row["rank"] for row in candidates] == list(range(1, 21))
    assert all(row["macs"] <= 3_000_000_000 and row["params"] <= 11_000_000 for row in candidates)
    assert min(row["params"] for row in candidates) / 11e6 > 10_573_448 / 11e6  # each uses more of them than xsmall
    assert (space["networks"], space["max_macs"], space["criterion"]) == (space["examined"], 3_000_000_000, "budget")
    assert [row["macs"] for row in rows(outcome.out, "front")] == sorted(row["macs"] for row in rows(outcome.out, "front"))
    published = {
        row["model"]: (row["params"], row["top1_percent"], row["top5_percent"]) for row in rows(outcome.out, "published")
    }
    assert published == {
        "tiny": (5_843_736, 78.210, 94.270),
        "xsmall": (10_573_448, 80.896, 95.352),
        "small": (22_892_400, 82.960, 96.154),
        "base": (74_845_976, 84.292, 96.820),
    }


def test_no_other_row_has_an_accuracy_not_even_that_of_the_same_network() -> None:
    outcome = call("search", *XSMALL, *LIMITS, "--format", "json")
    (candidate,) = rows(outcome.out, "candidates")
    assert (candidate["macs"], candidate["params"]) == (2_971_396_560, 10_573_448)
    for row in json.loads(outcome.out)["results"]:
        has = {name for name in row if "top" in name or "accuracy" in name}
        assert has == ({"top1_percent", "top5_percent", "accuracy_source"} if row["table"] == "published" else set())
    table = call("search", *XSMALL, *LIMITS).out
    assert [line.split()[0] for line in table.splitlines() if "80.896" in line] == ["xsmall"]


@pytest.mark.parametrize("pick", [None, 2])
def test_what_is_saved_is_a_network_of_every_command(pick: int | None, tmp_path: Path) -> None:
    file = tmp_path / "found.toml"
    picked = () if pick is None else ("--pick", str(pick))
    outcome = call("search", *LIMITS, "--top", "3", "--format", "json", "--save", str(file), *picked)
    expected = rows(outcome.out, "candidates")[(pick or 1) - 1]
    assert f"wrote {file}: #{pick or 1}, paths {expected['paths']}" in outcome.err
    (counted,) = json.loads(call("flops", "--config", str(file), "--format", "json").out)["results"]
    assert [counted[name] for name in ("macs", "params", "activations")] == [
        expected[name] for name in ("macs", "params", "activations")
    ]


def test_a_search_in_csv() -> None:
    outcome = call("search", *XSMALL, *LIMITS, "--format", "csv")
    found = {row["table"]: row for row in csv.DictReader(io.StringIO(outcome.out))}
    assert (found["candidates"]["macs"], found["candidates"]["dim"]) == ("2971396560", "64/128/192/256")
    assert "This does not predict accuracy" in outcome.err


def test_a_size_and_a_convention_are_counted_by() -> None:
    words = ("--criterion", "macs", "--size", "800x1280", "--convention", "matmul", "--format", "json")
    (candidate,) = rows(call("search", *XSMALL, *words).out, "candidates")
    assert candidate["macs"] == count("xsmall", (800, 1280), convention="matmul").macs


@pytest.mark.parametrize("columns", [80, 200])
def test_the_tables_fit_the_window(columns: int) -> None:
    lines = shown(run_on_terminal("-q", "search", *LIMITS, columns=columns).out)
    assert max(map(len, lines)) <= columns
    assert any("10 994 264  2/3/2/2" in line for line in lines) == (columns == 80)
    assert sum(re.match(r" ?\d+  ", line) is not None for line in lines) == 20


def test_a_figure(tmp_path: Path) -> None:
    assert call("search", *LIMITS, "--plot", str(tmp_path / "front.svg")).code == 0
    picture = (tmp_path / "front.svg").read_text()
    assert picture.startswith("<?xml")
    for text in ("Pareto front: most parameters for the MACs", "at most 3 000 000 000 MACs"):
        assert f"<!-- {text}" in picture


# ── interrupted ─────────────────────────────────────────────────────────────────────────────────────────────────────


def cut_short(after: int) -> Callable[[SearchStudy], Iterator[Batch]]:
    def batches(study: SearchStudy) -> Iterator[Batch]:
        for number, batch in enumerate(examine(study)):
            if number == after:
                raise KeyboardInterrupt
            yield batch

    return batches


def test_an_interrupt_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search, "examine", cut_short(20))
    outcome = call("search", *LIMITS, "--format", "json", "--save", str(tmp_path / "a.toml"), "--max-latency", "1s")
    (space,) = rows(outcome.out, "space")
    assert outcome.code == 130
    assert 0 < space["examined"] < space["networks"]
    assert len(rows(outcome.out, "candidates")) == 20
    assert "latency_s" not in rows(outcome.out, "candidates")[0]
    assert json.loads(outcome.out)["notes"][0].startswith("Interrupted: ")
    assert (tmp_path / "a.toml").read_text().count("[[stages]]") == 4


def test_an_interrupt_before_anything_was_found_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search, "examine", cut_short(1))
    words = ("--max-macs", "1k", "--save", str(tmp_path / "a.toml"), "--plot", str(tmp_path / "a.png"))
    outcome = call("search", *words)
    assert outcome.code == 130
    assert "Interrupted" in outcome.err
    assert not (tmp_path / "a.toml").exists()
    monkeypatch.setattr(search, "examine", cut_short(0))
    assert (call("search", *words).code, call("search", *words).out) == (130, "")


def test_an_interrupt_while_measuring_keeps_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = benchmark.measure_networks

    def one(study: Any) -> Iterator[Any]:  # noqa: ANN401 - passed through
        yield next(whole(study))
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "measure_networks", one)
    words = ("--max-macs", "1G", "--top", "3", "--max-latency", "9s", "--min-time", "0.01", "--format", "json")
    outcome = call("search", *TINY_SPACE, *words)
    assert outcome.code == 130
    assert [row.get("latency_s", 0) > 0 for row in rows(outcome.out, "candidates")] == [True, False, False]
    assert [row["within_max_latency"] for row in rows(outcome.out, "candidates")] == [True, None, None]


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-macs", "900M"], "none of the 506 880 networks is within 900 000 000 MACs: the nearest has 927 478 104 MACs"),
        ([*XSMALL, "--max-params", "10M"], "the nearest has 2 971 396 560 MACs and 10 573 448 parameters, 1.06 × max params"),
        ([*XSMALL, "--max-params", "10M"], "paths 2/3/3/3, layers 1/2/4/1, width 64/128/192/256, MLP ratio 4/4/4/4"),
    ],
)
def test_nothing_within_the_limits_says_what_is_nearest(words: list[str], said: str) -> None:
    outcome = call("search", *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert said in outcome.err
    assert [line.split(":")[0] for line in outcome.err.splitlines()] == ["Error", "Hint"]


@pytest.mark.slow
def test_candidates_are_timed_and_held_against_the_latency(tmp_path: Path) -> None:
    words = (*TINY_SPACE, "--max-macs", "1G", "--top", "2", "--min-time", "0.01", "--threads", "1")
    outcome = call("search", *words, "--max-latency", "9s", "--format", "json", "--save", str(tmp_path / "a.toml"))
    assert outcome.code == 0
    assert json.loads(outcome.out)["environment"]["threads"] == 1
    for row in rows(outcome.out, "candidates"):
        assert 0 < row["latency_q1_s"] <= row["latency_s"] <= row["latency_q3_s"]
        assert row["within_max_latency"] is True
    assert any("2 of 2 candidates were measured" in note for note in json.loads(outcome.out)["notes"])
    too_slow = call("search", *words, "--max-latency", "1us")
    assert too_slow.code == 1
    assert too_slow.out.count("✗") == 2
    assert "Error: none of the 2 candidates measured is within 0.001 ms: the fastest, #" in too_slow.err


# ── what it refuses ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "amount"),
    [("3G", 3 * 10**9), ("2.5g", 2_500_000_000), ("11M", 11 * 10**6), ("1.2345k", 1234), ("300000", 300_000), ("1T", 10**12)],
)
def test_amounts_are_read(text: str, amount: int) -> None:
    assert parse_amount("--max-macs", text) == amount


@pytest.mark.parametrize(("text", "seconds"), [("20ms", 0.02), ("1.5s", 1.5), ("800us", 8e-4), (" 3 MS ", 3e-3)])
def test_latencies_are_read(text: str, seconds: float) -> None:
    assert parse_seconds("--max-latency", text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "criterion 'budget': must have a limit"),
        (["--max-macs", "three"], "--max-macs 'three': must be a number of at least 1, with k, M, G or T"),
        (["--max-macs", "-3G"], "--max-macs '-3G': must be"),
        (["--max-macs", "0.1"], "--max-macs '0.1': must be a number of at least 1"),
        (["--max-params", "1e9"], "--max-params '1e9': must be"),
        (["--max-params", "inf"], "--max-params 'inf': must be"),
        (["--max-params", ""], "--max-params '': must be"),
        ([*LIMITS, "--max-latency", "20"], "--max-latency '20': must be a number above 0 and a unit: us, ms, s"),
        ([*LIMITS, "--max-latency", "0ms"], "--max-latency '0ms': must be a number above 0"),
        ([*LIMITS, "--max-latency", "5ms", "--device", "gpu"], "device 'gpu'"),
        ([*LIMITS, "--paths", "2,3,3,3"], "commas join the choices of one stage, / the stages: 2/2,3/2,3/2,3"),
        ([*LIMITS, "--paths", "2/3"], "--paths '2/3': 2 stages, must be one list for all or 4"),
        ([*LIMITS, "--width", "64,x"], "--width 'x': must be a whole number of at least 1"),
        ([*LIMITS, "--width", "256/128/64/32"], "every choice has a stage narrower than the one before"),
        ([*LIMITS, "--heads", "7"], "dim = 128: must be divisible by heads = 7"),
        ([*LIMITS, "--mlp-ratio", "nan"], "--mlp-ratio 'nan': must be a number above 0"),
        ([*LIMITS, "--paths", "9" * 5000], "must be a whole number of at least 1"),
        ([*LIMITS, "--criterion", "macz"], "did you mean 'macs'?"),
        ([*LIMITS, "--top", "0"], "top = 0: must be from 1"),
        ([*LIMITS, "--top", "2.5"], "must be a whole number"),
        ([*LIMITS, "--pick", "2"], "--pick 2: needs --save"),
        ([*LIMITS, "--pick", "21", "--save", "a.toml"], "--pick 21: must be from 1 to --top 20"),
        ([*LIMITS, "--plot", "a.bmp"], "must end in"),
        ([*LIMITS, "--size", "0"], "--size '0'"),
        ([*LIMITS, "--convention", "thop"], "unknown convention 'thop'"),
        ([*LIMITS, "--format", "xml"], "unknown format 'xml'"),
    ],
)
def test_bad_input_ends_in_one_clear_line(words: list[str], said: str) -> None:
    outcome = call("search", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith("Error:")]) == 1
    assert "Traceback" not in outcome.err


TRAINED = ("search", *TINY_SPACE, "--paths", "1", "--train", "fruit", "--recipe", "small", "--set", "batch=8", "--threads", "1")


@pytest.fixture
def fruit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return paint(tmp_path / "fruit", {"apple": 20, "pear": 20})


@pytest.mark.usefixtures("fruit")
def test_trained_candidates_are_ranked_by_what_they_come_to(tmp_path: Path) -> None:
    words = (*TRAINED, "--max-macs", "1M", "--top", "2", "--seeds", "2", "--epochs", "1", "--save", "best.toml")
    outcome = call(*words, "-o", "study", "--format", "json")
    assert outcome.code == 0, outcome.err
    first, second = rows(outcome.out, "candidates")
    assert first["accuracy"] >= second["accuracy"]
    assert {first["rank_by_criterion"], second["rank_by_criterion"]} == {1, 2}
    assert second["delta_accuracy"] == pytest.approx(second["accuracy"] - first["accuracy"])
    assert first["accuracies"] == [json.loads(log.read_text())["held_out_correct"] / 8 for log in logs(tmp_path, first)]
    saved = load_config(tmp_path / "best.toml")
    assert (saved.num_classes, stages_text(saved, "dim")) == (2, first["dim"])  # counted as it is trained
    live = count(saved, 32, counter="fvcore")
    assert (live.macs, live.params) == (first["macs"], first["params"])
    notes = " ".join(json.loads(outcome.out)["notes"])
    assert "the accuracy after 1 epochs on fruit (a small budget, the recipe small has 20 by default" in notes
    assert json.loads((tmp_path / "study" / "rows.json").read_text())["results"] == json.loads(outcome.out)["results"]


def logs(folder: Path, row: dict[str, Any]) -> list[Path]:
    found = [run for run in (folder / "study").iterdir() if f"width-{row['dim']}".replace("/", "-") in run.name]
    assert len(found) == 1
    return sorted(found[0].glob("seed-*/log.jsonl"))


@pytest.mark.parametrize("words", ["--seeds 2", "--epochs 1", "--recipe small", "--set batch=8", "--jobs 2"])
@pytest.mark.parametrize("command", ["search --max-macs 3G", "ablate paths"])
def test_how_to_train_is_refused_where_nothing_is(command: str, words: str) -> None:
    outcome = call(*command.split(), *words.split())
    assert outcome.code == 2
    assert f"Error: {words.split(maxsplit=1)[0]}: needs --train" in outcome.err


@pytest.mark.usefixtures("fruit")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "0"), "seeds = 0"),
        (("--epochs", "0"), "epochs = 0"),
        (("--set", "rate=much"), "rate = 'much'"),
        (("--recipe", "tall"), "'tall'"),
        (("--size", "32x64"), "only square images can be trained on"),
        (("--pick", "6", "--save", "x.toml"), "must be from 1 to --top 5"),
        (("-o", "fruit/apple/000.png"), "cannot make the folder"),
    ],
)
def test_what_cannot_be_trained_is_one_line(words: tuple[str, ...], said: str) -> None:
    outcome = call(*TRAINED, "--max-macs", "1M", *words)
    assert (outcome.code, said in outcome.err, outcome.err.count("Error")) == (2, True, 1)
