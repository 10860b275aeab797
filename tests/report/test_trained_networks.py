"""Trained studies in the report, and views of the paths of trained weights."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commandline import call
from scipy.stats import ttest_1samp, ttest_rel
from trained_studies import BASELINE, SHARES, trained

from mpvit.ablation.saved import FILE, read_study, save
from mpvit.plots.accuracy import cost_accuracy_figure
from mpvit.tables.accuracy import conclusions

WEIGHTS = Path("src/mpvit/data/digits-nano.safetensors")


def first_screen(report: Path) -> str:
    return (report / "report.md").read_text(encoding="utf-8").partition("\n## What paths are worth")[0]


def test_the_first_screen_says_what_a_path_is_worth_as_t_tests_have_it(with_study: Path) -> None:
    text = first_screen(with_study)
    assert "one-path was trained with 3 seeds per row for 5 epochs of digits: 1 437 training images in 10 classes" in text
    assert "10 classes, 360 held-out images." in text
    said = {"better": "2", "worse": "4", "no difference seen": "3"}
    for verdict, paths in said.items():
        test = ttest_rel(SHARES[paths], BASELINE)
        low, high = test.confidence_interval(0.95)
        assert {"better": low > 0, "worse": high < 0, "no difference seen": low <= 0 <= high}[verdict]
        points = f"{50 * (low + high):+.2f} ± {50 * (high - low):.2f}".replace("-", "−")
        assert f"{verdict}: paths {paths} ({points})" in text
        assert points in text.partition("| Difference")[2].partition("\n")[0]
    assert text.index("better") < text.index("worse") < text.index("no difference")


def test_unmatched_and_matched_rows_share_a_table(with_study: Path, study: Path) -> None:
    text = first_screen(with_study)
    assert text.count("one-path was trained with 3 seeds") == 1
    assert "| Same budget: top-1 (% ± 95 % interval) |" in text
    macs = [row.cost.macs if row.cost else None for row in read_study(study)[0].ablation.rows]
    line = next(line for line in text.partition("What a path is worth")[2].splitlines() if line.startswith("| Multiply-adds"))
    assert [int(cell.replace(" ", "")) for cell in line.split("|")[2:-1]] == macs


@pytest.mark.slow
def test_adding_a_study_to_a_report_gives_the_report_made_with_it(with_study: Path, study: Path, tmp_path: Path) -> None:
    assert call("report", "--study", str(study), "-o", str(tmp_path)).code == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in with_study.iterdir()}
    assert (tmp_path / "report.md").read_bytes() == (with_study / "report.md").read_bytes()


def test_the_command_in_it_trains_that_study(with_study: Path, all_variants: Path) -> None:
    text = (with_study / "report.md").read_text(encoding="utf-8")
    assert text != (all_variants / "report.md").read_text(encoding="utf-8")
    (plain, matched) = [shlex.split(line) for line in text.splitlines() if line.startswith("mpvit ablate paths=1,2,3,4 ")]
    assert " ".join(plain[3:-2]) == (
        "--config one-path.toml --train digits --recipe small --size 32 --seeds 3 --epochs 5 --set batch=32"
    )
    assert matched[-6:-2] == ["--match", "macs", "--knob", "width"]


def test_a_study_replaces_only_the_same_study(tmp_path: Path) -> None:
    for match in ("none", "macs", "none"):
        save(trained(tmp_path, match))
    assert [each.ablation.study.match for each in read_study(tmp_path)] == ["macs", "none"]


def test_the_figure_has_each_network_once_with_its_interval(study: Path) -> None:
    plain, matched = (each.ablation for each in read_study(study))
    (axes,) = cost_accuracy_figure(plain, "digits").axes
    bars = {container.get_label(): container for container in axes.containers}
    assert sorted(map(str, bars)) == ["1 (baseline)", "2", "3", "4"]
    (line, _, (segments,)) = bars["2"]
    mean, half = interval(SHARES["2"])
    assert sorted(segments.get_segments()[0][:, 1]) == pytest.approx([100 * (mean - half), 100 * (mean + half)])
    assert plain.rows[1].cost
    assert list(line.get_xdata()) == [plain.rows[1].cost.macs / 1e6]
    (axes,) = cost_accuracy_figure(matched, "digits").axes
    assert axes.get_xlabel() == "paths"  # their multiply-adds are the same


@pytest.mark.parametrize(
    ("study", "place", "paths", "shown"),
    [
        ("reports/scales", 0, "1234", "reports/report/report.md"),
        ("reports/scales", 1, "1234", "reports/report/report.md"),
        ("reports/scales_longer", 0, "123", "reports/scales_longer/rows.md"),
    ],
)
def test_the_conclusions_of_a_recorded_study_follow_from_its_accuracies(study: str, place: int, paths: str, shown: str) -> None:
    found = read_study(Path(study))[place]
    page = Path("docs/ablate.md").read_text(encoding="utf-8")
    (sentence,) = conclusions(found.ablation)
    assert sentence[1:] in Path(shown).read_text(encoding="utf-8")
    rows = found.ablation.rows
    assert [(row.values["paths"], found.seeds) for row in rows] == [(number, 5) for number in paths]
    baseline = rows[0].accuracy
    for row in rows:
        assert row.accuracy
        assert baseline
        mean, half = interval(row.accuracy.shares)
        assert f"{100 * mean:.1f} ± {100 * half:.1f}" in page
        if row is rows[0]:
            continue
        mean, half = interval([own - other for own, other in zip(row.accuracy.shares, baseline.shares, strict=True)])
        assert f"{100 * mean:+.1f} ± {100 * half:.1f}".replace("-", "−") in page
        verdict = "no difference seen" if abs(mean) <= half else "better" if mean > 0 else "worse"
        points = f"{100 * mean:+.2f} ± {100 * half:.2f}".replace("-", "−")
        assert f"paths {row.values['paths']} ({points})" in sentence.partition(f"{verdict}: ")[2].partition(";")[0]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of Student's interval, as SciPy has them."""
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    return float(low + high) / 2, float(high - low) / 2


@pytest.mark.slow
def test_the_views_of_paths_are_those_of_mpvit_paths(tmp_path: Path) -> None:
    done = call("report", "--variant", "tiny", "--weights", str(WEIGHTS), "-o", str(tmp_path))
    assert done.code == 0, done.err
    saved = {
        row["view"]: row for row in json.loads((tmp_path / "report.json").read_text())["results"] if row["table"] == "sights"
    }
    for view in ("fields", "contribution", "similarity", "attention"):
        alone = call("paths", "--view", view, "--weights", str(WEIGHTS), "--format", "json")
        results: list[dict[str, Any]] = json.loads(alone.out)["results"]
        assert saved[view]["results"] == results
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 3 + 4
    assert "digits, held out: 360 of 32×32 pixels" in page
    assert call("report", "--from", str(tmp_path), "-o", str(tmp_path / "again")).code == 0
    assert (tmp_path / "again" / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--study", "nowhere"), 2, "cannot read 'nowhere/ablations.json': No such file"),
        (("--study", "cut"), 2, "'cut/ablations.json' is not a result of trained ablations"),
        (("--study", "other"), 2, "'other/ablations.json' is not a result of trained ablations: Expected `array`"),
        (("--data", "digits"), 2, "--data digits: needs --weights"),
        (("--weights", "nowhere.safetensors"), 1, "nowhere.safetensors"),
        (("--weights", "text.safetensors"), 1, "text.safetensors"),
        (("--weights", str(WEIGHTS.resolve()), "--data", "nowhere"), 2, "data 'nowhere': is not a folder"),
        (("--study", "cut", "--from", "report"), 2, "'cut/ablations.json' is not a result of trained ablations"),
        (("--from", "report"), 2, "cannot read 'report/report.json'"),
    ],
)
def test_wrong_input_ends_in_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    for name, text in {"cut": "[{", "other": '{"a": 1}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(text)
    (tmp_path / "text.safetensors").write_text("no weights")
    monkeypatch.chdir(tmp_path)
    networks = () if "--from" in words else ("--variant", "tiny")
    done = call("report", *networks, *words, "-o", "page")
    assert (done.code, done.err.count("Error: ")) == (code, 1)
    assert said in done.err
    assert not (tmp_path / "page").exists()
