"""``mpvit ablate`` as a person meets it: the figures, the grid, the figure, and what it refuses."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import call, run_on_terminal, shown

from mpvit.ablation.results import Row
from mpvit.ablation.study import AblationStudy, each_row
from mpvit_cli.commands import ablate


def test_a_path_sweep_in_json() -> None:
    outcome = call("ablate", "paths", "--variant", "xsmall", "--values", "1,2,3,4", "--format", "json")
    rows = json.loads(outcome.out)["results"]
    assert outcome.code == 0
    assert [row["values"]["paths"] for row in rows] == ["2/3/3/3", "1", "2", "3", "4"]
    assert [row["params"] for row in rows] == [10_573_448, 4_000_328, 7_319_688, 10_639_048, 13_958_408]
    assert {row["step_params"] for row in rows[2:]} == {3_319_360}
    assert rows[1]["input_shape"] == [1, 3, 224, 224]


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("1,2/3/3/3", ["1", "2/3/3/3"]),
        ("2,3,3,3", ["2/3/3/3"]),  # no list of values has one twice
        ("1; 2, 3, 3, 3;4", ["1", "2/3/3/3", "4"]),
    ],
)
def test_a_count_for_each_stage(given: str, values: list[str]) -> None:
    rows = json.loads(call("ablate", "paths", "--values", given, "--format", "json").out)["results"]
    assert [row["values"]["paths"] for row in rows[1:]] == values
    assert {row["delta_params"] for row in rows if row["values"]["paths"] == "2/3/3/3"} == {0}


def test_a_grid_in_csv() -> None:
    outcome = call("ablate", "paths=1,2", "local", "--values", "off", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [(row["values.paths"], row["values.local"]) for row in rows] == [("2/3/3/3", "on"), ("1", "off"), ("2", "off")]
    assert int(rows[2]["macs"]) - int(rows[1]["macs"]) == int(rows[2]["step_macs"])


def test_matched_rows_say_how_near_they_are() -> None:
    outcome = call("ablate", "paths=1", "--match", "macs", "--format", "json")
    _, row = json.loads(outcome.out)["results"]
    assert abs(row["macs"] / 2_971_396_560 - 1) == pytest.approx(abs(row["matched_off"]))
    assert abs(row["matched_off"]) <= 0.01
    assert row["knob"] == "width"


def test_under_a_segmenter_an_edit_costs_what_it_does_in_the_backbone() -> None:
    """The baseline is the published UperNet on small, 51.59 M and 942.94 G; the head costs the same in every row."""
    asked = ("ablate", "paths", "--variant", "small", "--format", "json")
    rows = json.loads(call(*asked, "--task", "upernet").out)["results"]
    alone = json.loads(call(*asked, "--size", "512x2048", "--convention", "published-dense").out)["results"]
    assert (rows[0]["params"] / 1e6, rows[0]["macs"] / 1e9) == pytest.approx((51.59, 942.94), abs=0.005)
    for row, other in zip(rows, alone, strict=True):
        assert row["values"] == other["values"]
        assert (row["input_shape"], row["task"]) == ([1, 3, 512, 2048], "upernet")
        for figure in ("params", "macs", "activations"):
            assert row[f"delta_{figure}"] == other[f"delta_{figure}"]
            assert row[f"{figure}_by_part"]["head"] == rows[0][f"{figure}_by_part"]["head"]
        assert row["training_peak_bytes"] is None
        assert "one value per channel" in row["training_error"]  # one image, which UperNet pools to one position
    matched = json.loads(call(*asked, "--task", "mask-rcnn", "--size", "640", "--match", "macs").out)["results"]
    assert all(abs(row["macs"] / matched[0]["macs"] - 1) <= 0.01 for row in matched)
    table = call("ablate", "paths", "--task", "retinanet", "--size", "64")
    assert "retinanet on xsmall, input 1×3×64×64" in table.out
    (memory,) = json.loads(
        call("memory", "--task", "retinanet", "--variant", "xsmall", "--size", "64", "--format", "json").out
    )["results"]
    baseline = json.loads(call("ablate", "paths", "--task", "retinanet", "--size", "64", "--format", "json").out)["results"][0]
    for figure in ("saved_activation_bytes", "peak_bytes"):
        assert baseline[figure.replace("peak", "training_peak")] == memory[figure]
    assert "Peak" in table.out


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits_the_window(columns: int) -> None:
    lines = shown(run_on_terminal("ablate", "paths", columns=columns).out)
    assert "2/3/3/3 (baseline)  10 573 448" in "\n".join(lines)
    tables = [line for line in lines if not line.startswith(("The first", "Δ"))]
    assert max(map(len, tables)) <= columns


def test_a_figure_and_a_measurement(tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text("num_classes = 5\n[[stages]]\npaths = 2\nlayers = 1\ndim = 16\nheads = 4\nmlp_ratio = 2\n")
    words = ("--config", str(config), "--size", "32", "--measure", "--min-time", "0.01", "--plot", str(tmp_path / "a.svg"))
    outcome = call("ablate", "heads=2,3", *words, "--format", "json", "-o", str(tmp_path / "a.json"))
    assert outcome.code == 0
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    base, two, three = json.loads((tmp_path / "a.json").read_text())["results"]
    assert base["latency_s"] > 0 < two["latency_over_baseline"]
    assert (
        two["training_peak_bytes"] - base["training_peak_bytes"] == two["delta_training_peak_bytes"]
    )  # beside the measured peak
    assert "divisible by heads = 3" in three["error"]


def test_an_interrupt_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(study: AblationStudy) -> Iterator[Row]:
        rows = each_row(study)
        yield next(rows)
        yield next(rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(ablate, "each_row", cut_short)
    outcome = call("ablate", "paths", "--format", "json")
    assert outcome.code == 130
    assert len(json.loads(outcome.out)["results"]) == 2
    assert "Interrupted: 1 of 4 rows." in json.loads(outcome.out)["notes"]


def test_the_environment_names_the_variant_and_a_file_goes_before_it(tmp_path: Path) -> None:
    tiny = {"MPVIT_VARIANT": "tiny"}
    config = tmp_path / "mine.toml"
    config.write_text("num_classes = 5\n[[stages]]\npaths = 2\nlayers = 1\ndim = 16\nheads = 4\nmlp_ratio = 2\n")
    assert [
        json.loads(call("ablate", "paths=1", *words, "--format", "json", variables=tiny).out)["results"][0]["model"]
        for words in ([], ["--variant", "small"], ["--config", str(config)])
    ] == ["tiny", "small", "mine"]


def test_what_cannot_be_trained_is_counted() -> None:
    outcome = call("ablate", "paths=1", "--size", "32")
    assert outcome.code == 0
    assert "60 891 620" in outcome.out
    assert "Not trainable: batch 1 with a feature map of 1x1: batch norm cannot train on one value per channel" in outcome.err


def test_some_refused_rows_exit_with_0_and_all_with_1() -> None:
    assert call("ablate", "heads=3,4").code == 0
    refused = call("ablate", "heads=3,5")
    assert refused.code == 1
    assert "must be divisible by heads = 3" in refused.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pathz"], "did you mean 'paths'?"),
        ([], "Missing argument"),
        (["paths="], "paths: '': must be a whole number"),
        (["paths=1,,2"], "paths: '': must be a whole number"),
        (["paths=-1"], "'-1': must be a whole number of at least 1"),
        (["paths=1e3"], "'1e3': must be a whole number"),
        (["paths", "paths=2"], "axis 'paths' twice"),
        (["paths=1", "--values", "2"], "belongs to no axis"),
        (["attention=sofmax"], "did you mean 'softmax'?"),
        (["mlp-ratio=nan"], "must be a number above 0"),
        (["width=²x"], "must be a number above 0"),
        (["local=maybe"], "must be one of on, off"),
        (["resolution=2x2x2"], "must be one side, or HEIGHTxWIDTH"),
        (["paths", "--knob", "width"], "--knob width: needs --match"),
        (["paths", "--task", "upernets"], "unknown task 'upernets'"),
        (["paths", "--task", "upernet", "--measure"], "--task with --measure"),
        (["paths", "--task", "upernet", "--train", "digits"], "--task with --train"),
        (["paths", "--task", "upernet", "--variant", "digits-nano"], "upernet on a network of 2 stages"),
        (["paths", "--match", "latency"], "must be measured"),
        (["width", "--match", "macs"], "would undo the axis"),
        (["paths", "--size", "0"], "--size '0'"),
        (["paths", "--plot", "a.bmp"], "must end in"),
        (["paths", "heads", "mlp-ratio", "--plot", "a.png"], "a figure of 65 rows"),
        (["paths", "--variant", "tiny", "--config", "x.toml"], "choose one of them"),
        (["paths", "--variant", "tinny"], "did you mean 'tiny'?"),
        (["paths", "--measure", "--device", "gpu"], "device 'gpu'"),
    ],
)
def test_bad_input_ends_in_one_clear_line(words: list[str], said: str) -> None:
    outcome = call("ablate", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith("Error:")]) == 1
    assert "Traceback" not in outcome.err
