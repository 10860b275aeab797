import csv
import io
import json
import math
import re

import pytest
from commandline import call
from rich.table import Table as RichTable

from mpvit.errors import UsageError
from mpvit.render import FORMATS, render
from mpvit.render.terminal import render as render_terminal
from mpvit.tables import Column, Compared, Document, Table
from mpvit.tables.number_text import milliseconds

COLUMNS = (Column("Name|er"), Column("MACs", numeric=True), Column("Derived", numeric=True, optional=True))
ROWS = (("a_b & c|d", 1_234_567, Compared(999, agrees=False)), ("×", None, 0.5))
DOCUMENT = Document(
    "flops",
    ({"model": "a", "input_shape": [1, 3], "by_kind": {"conv": 7}, "ok": True}, {"model": "b", "error": None}),
    (Table("100% of it", COLUMNS, ROWS, footer=("total", 1_234_567, None)),),
    ("a note",),
)


def test_json_is_one_object_at_full_precision() -> None:
    content = json.loads(render(DOCUMENT, "json"))
    assert content["schema_version"] == 1
    assert content["results"] == [dict(row) for row in DOCUMENT.results]
    assert content["environment"].keys() >= {"mpvit", "python", "torch", "device", "threads", "dtype"}


def test_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        render(Document("flops", ({"macs": math.nan},), ()), "json")


def test_csv_flattens_mappings_and_joins_shapes() -> None:
    rows = list(csv.DictReader(io.StringIO(render(DOCUMENT, "csv"))))
    assert rows == [
        {"model": "a", "input_shape": "1x3", "by_kind.conv": "7", "ok": "true", "error": ""},
        {"model": "b", "input_shape": "", "by_kind.conv": "", "ok": "", "error": ""},
    ]


def test_markdown_keeps_its_columns_whatever_a_cell_holds() -> None:
    lines = [line for line in render(DOCUMENT, "markdown").splitlines() if line.startswith("|")]
    assert lines[2] == r"| a_b & c\|d | 1 234 567 | 999✗ |"
    assert {line.replace(r"\|", "").count("|") for line in lines} == {4}


def test_latex_escapes_what_it_would_obey() -> None:
    text = render(DOCUMENT, "latex")
    assert r"a\_b \& c|d & 1\,234\,567 & 999$\times$ \\" in text
    assert r"$\times$ & -- & 0.5000 \\" in text
    assert text.count(r"\midrule") == 2
    assert text.startswith("% 100% of it\n")


@pytest.mark.parametrize(
    "words",
    [
        "ablate paths --match macs",
        "search --max-macs 600M --paths 2 --layers 1,2 --size 64 --top 2",
        "compare-attn",
        "layers --variant tiny",
        "memory --variant tiny --budget 24GiB",
        "reconcile --variant tiny",
    ],
)
def test_latex_needs_no_sign_that_pdflatex_lacks(words: str) -> None:
    text = call(*words.split(), "--format", "latex").out
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert code.count(r"\begin{tabular}") >= 1
    assert code.isascii()
    assert not re.search(r"[0-9] [0-9]{3}\b", code)  # a number's groups stay together


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, None), (0.0123456, "12.3"), (0.9996, "1000"), (1.2345, "1230"), (12.345, "12300")]
)
def test_milliseconds_have_three_digits_and_no_exponent(seconds: float | None, text: str | None) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize(("width", "columns"), [(None, 3), (80, 3), (20, 2), (5, 2)])
def test_a_narrow_window_does_without_optional_columns_and_says_so(width: int | None, columns: int) -> None:
    title, table, *said = render_terminal(DOCUMENT, width)
    assert str(title) == "100% of it"
    assert isinstance(table, RichTable)
    assert len(table.columns) == columns
    assert [str(line) for line in said] == [f"not shown in {width} columns: Derived"] * (columns < 3)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown format 'yaml'"):
        render(DOCUMENT, "yaml")
    assert set(FORMATS) == {"table", "json", "csv", "markdown", "latex"}
