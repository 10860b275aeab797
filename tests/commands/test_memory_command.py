"""``mpvit memory`` as a person meets it: the figures, the formats, and what it refuses."""

import csv
import io
import json

import pytest
from commandline import call

from mpvit.tables.number_text import bytes_text
from mpvit_cli.options.values import parse_bytes


def test_the_recorded_figure_in_json() -> None:
    outcome = call("memory", "--variant", "tiny", "--budget", "24GiB", "--format", "json")
    answer = json.loads(outcome.out)
    (row,) = answer["results"]
    assert (outcome.code, answer["command"]) == (0, "memory")
    assert row["params_bytes"] == row["gradient_bytes"] == 4 * 5_843_736
    assert row["saved_activation_bytes"] == 114_651_792
    parts = ("params_bytes", "gradient_bytes", "optimizer_bytes", "saved_activation_bytes", "transient_bytes")
    assert row["peak_bytes"] == sum(row[part] for part in parts)
    assert row["largest_batch"] == 197


def test_the_table_says_it_in_both_forms() -> None:
    outcome = call("memory", "--variant", "tiny", "--budget", "24GiB")
    assert "saved activations  114 651 792  109.34 MiB" in outcome.out
    assert "largest batch in 24.00 GiB: 197" in outcome.out
    assert "exact" in outcome.err


def test_every_variant_by_default() -> None:
    outcome = call("memory", "--format", "csv", "--optimizer", "sgd")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [row["model"] for row in rows] == ["tiny", "xsmall", "small", "base"]
    assert {row["optimizer_bytes"] for row in rows} == {"0"}


def test_a_budget_that_one_sample_breaks_is_shown_and_exits_with_1() -> None:
    outcome = call("memory", "--variant", "tiny", "--budget", "100MB", "--format", "json")
    (row,) = json.loads(outcome.out)["results"]
    assert outcome.code == 1
    assert (row["largest_batch"], row["error"]) == (None, "budget of 100000000 bytes: one sample takes 212970320")


def test_a_network_of_ones_own() -> None:
    words = ("--model", "models:PlainVit", "--input", "2x3x32x32", "--format", "json")
    (row,) = json.loads(call("memory", *words).out)["results"]
    assert (row["params"], row["batch"]) == (15_010, 2)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--budget", "lots"], 2, "'lots': must be a number and a unit"),
        (["--budget", "-5GiB"], 2, "must be a number and a unit"),
        (["--budget", "1e3"], 2, "must be a number and a unit"),
        (["--budget", ""], 2, "must be a number and a unit"),
        (["--budget", "0"], 2, "must be at least 1"),
        (["--dtype", "float16"], 2, "did you mean 'bfloat16'?"),
        (["--optimizer", "adamx"], 2, "did you mean 'adam'?"),
        (["--variant", "tinny"], 2, "did you mean 'tiny'?"),
        (["--size", "32", "--variant", "tiny"], 2, "batch norm cannot train on one value per channel"),
        (["--batch", "0"], 2, "must be at least 1"),
        (["--input", "1x3"], 2, "--input: needs --model"),
        (["--model", "torch.nn:Identity", "--batch", "3"], 2, "--batch with --model"),
        (["--model", "nope:X"], 2, "cannot import nope"),
        (["--model", "torch.nn:Identity", "--input", "2x3"], 1, "failed in training: no output depends"),
        (["--model", "torch.nn:Linear", "--arg", "in_features=3", "--arg", "out_features=3", "--input", "2x4"], 1, "failed"),
        (["--format", "xml"], 2, "unknown format 'xml'"),
        (["--variant", "tiny", "-o", "/nonexistent/memory.json"], 1, "cannot write"),
    ],
)
def test_bad_input_ends_in_one_clear_line(words: list[str], code: int, said: str) -> None:
    outcome = call("memory", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith("Error:")]) == 1
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("24GiB", 24 * 2**30), ("80 gb", 80 * 10**9), ("1.5KiB", 1536), ("512MiB", 2**29), ("7", 7), ("7 bytes", 7)],
)
def test_a_budget_is_read_exactly(text: str, nbytes: int) -> None:
    assert parse_bytes("--budget", text) == nbytes


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (2**30, "1.00 GiB"), (2**50, "1024.00 TiB")]
)
def test_bytes_as_people_read_them(nbytes: int, text: str) -> None:
    assert bytes_text(nbytes) == text
