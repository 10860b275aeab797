"""``mpvit report`` as a person uses it: one page that needs nothing else, drawn from its JSON."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest
from commandline import Outcome, call, run
from published import PUBLISHED, grouped

from mpvit.architecture.variants import VARIANTS
from mpvit.benchmark import measure
from mpvit.errors import UsageError
from mpvit.report import collect
from mpvit.report.saved import from_json, read_report, to_json

NUMBER = re.compile(r"\d{1,3}(?: \d{3})+")
"""A whole number of at least four digits, as people write it."""

FIGURES = {"paths.svg", "reconcile.svg", "attention.svg"}
FILES = {"report.json", "report.html", "report.md", *FIGURES}

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """What a page is made of: its tags and attributes, and the words outside figures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.open += tag in {"svg", "style"}

    def handle_endtag(self, tag: str) -> None:
        self.open -= tag in {"svg", "style"}

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.attributes if each == name]


@pytest.fixture(scope="module")
def page(all_variants: Path) -> Page:
    return Page(all_variants / "report.html")


def own_network(path: Path) -> str:
    """Write a small network; heads allow no other width for it but the double."""
    path.write_text("num_classes = 5\n[[stages]]\npaths = 2\nlayers = 1\ndim = 16\nheads = 4\nmlp_ratio = 2\n")
    return str(path)


class Mixed(NamedTuple):
    """A report about a variant and a network of one's own, made in a process that fails if it has imported torch."""

    outcome: Outcome
    folder: Path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    folder = tmp_path_factory.mktemp("mixed")
    own_network(folder / "mine.toml")
    words = ("--variant", "tiny", "--config", "mine.toml", "--size", "64x96", "-o", ".")
    return Mixed(run("report", *words, command=(sys.executable, "-c", FAILS_WITH_TORCH), cwd=folder), folder)


FAILS_WITH_TORCH = (
    "import sys; from mpvit_cli.main import main; sys.argv[0] = 'mpvit'; code = main(); "
    "sys.exit(code or ('torch' in sys.modules) * 9)"
)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_needs_nothing_else(all_variants: Path, page: Page) -> None:
    text = (all_variants / "report.html").read_text(encoding="utf-8")
    assert set(files(all_variants)) == FILES
    assert not {"script", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert page.values("src") == []
    assert all(value.startswith("#") or value == "data:," for value in page.values("href"))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert re.findall(r"url\((?!#)", text) == []
    assert not re.search(r"@import|https?:", text)


def test_each_name_in_the_page_is_given_once_and_every_reference_has_one(all_variants: Path, page: Page) -> None:
    names = page.values("id")
    inside = re.findall(r"url\(#([^)]+)\)", (all_variants / "report.html").read_text(encoding="utf-8"))
    assert len(names) == len(set(names))
    assert {value[1:] for value in page.values("href") if value.startswith("#")} | set(inside) <= set(names)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_the_published_integers_are_in_it(page: Page, all_variants: Path, variant: str) -> None:
    figures = {grouped(figure) for figure in PUBLISHED[variant]}
    assert figures <= set(NUMBER.findall("\n".join(page.words)))
    assert figures <= set(NUMBER.findall((all_variants / "report.md").read_text(encoding="utf-8")))


def test_every_number_of_the_markdown_is_in_the_page(page: Page, all_variants: Path) -> None:
    exact = page.values("title")  # the first screen's figures are rounded, their titles are not
    inside = set(NUMBER.findall("\n".join([*page.words, *exact])))
    assert set(NUMBER.findall((all_variants / "report.md").read_text(encoding="utf-8"))) <= inside


def test_the_numbers_of_the_json_are_in_both(page: Page, all_variants: Path) -> None:
    rows = json.loads((all_variants / "report.json").read_text(encoding="utf-8"))["results"]
    figures = {grouped(row[name]) for row in rows if row["table"] == "counts" for name in ("params", "macs", "activations")}
    figures |= {grouped(row["macs"]) for row in rows if row["table"] == "attention"}
    assert len(figures) > 20
    assert figures <= set(NUMBER.findall("\n".join(page.words)))
    assert figures <= set(NUMBER.findall((all_variants / "report.md").read_text(encoding="utf-8")))


def test_the_papers_detectors_are_in_it_with_what_no_convention_explains(page: Page) -> None:
    assert {"84 635 428", "482 146 812 160", "943✓", "1 185✗"} <= {word.strip() for word in page.words}
    assert "10 of 10 params and 9 of 10 MACs" in " ".join(page.words)


@pytest.mark.parametrize(
    ("variant", "params", "first_macs"),
    [
        ("tiny", (2_320_776, 4_105_776, 5_890_776, 7_675_776), 0.718),
        ("xsmall", (4_000_328, 7_319_688, 10_639_048, 13_958_408), 1.198),
        ("small", (8_187_280, 15_572_640, 22_958_000, 30_343_360), 1.815),
    ],
)
def test_the_path_sweeps_are_those_that_fvcore_counts(
    all_variants: Path, page: Page, variant: str, params: tuple[int, ...], first_macs: float
) -> None:
    """Recorded from fvcore on networks with 1 to 4 paths in every stage."""
    found = read_report(all_variants)
    ablation = found.paths[found.models.index(variant)]
    assert [row.cost.params for row in ablation.rows if row.cost] == list(params)
    assert ablation.rows[0].cost
    assert round(ablation.rows[0].cost.macs / 1e9, 3) == first_macs
    assert {grouped(number) for number in params} <= set(NUMBER.findall("\n".join(page.words)))


def test_the_first_screen_answers_what_a_variant_and_a_path_cost(all_variants: Path) -> None:
    text = (all_variants / "report.html").read_text(encoding="utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    assert [word in header for word in ("10.6 M", "2.97 G", "22.0 M", "224×224", "3.32 M", "991 M", "33 %")] == [True] * 7
    for widths in ("104/200/304/408", "72/152/224/312", "64/128/176/240", "56/112/152/208"):
        assert f'title="{widths}"' in header


def test_published_accuracies_stand_beside_the_variants_with_their_source(all_variants: Path, page: Page) -> None:
    """As the authors published them; at another size there are none."""
    top1, top5 = ("78.21 %", "80.896 %", "82.96 %", "84.292 %"), ("94.27 %", "95.352 %", "96.154 %", "96.82 %")
    text = (all_variants / "report.md").read_text(encoding="utf-8")
    assert f"| Top-1 (accuracy, published) | {' | '.join(top1)} |" in text
    assert f"| Top-5 (accuracy, published) | {' | '.join(top5)} |" in text
    assert {*top1, *top5} <= set(page.values("title"))
    assert "arXiv:2112.11010" in "".join(page.words)


def test_it_says_what_patches_cover(all_variants: Path) -> None:
    text = (all_variants / "report.md").read_text(encoding="utf-8")
    assert "3×3 and 5×5 in stage 2; 3×3, 7×7 and 11×11 in stages 3, 4 and 5 (positions of the stage's input)" in text


@pytest.mark.slow
def test_a_network_of_ones_own_has_no_published_accuracy_whatever_its_name(tmp_path: Path) -> None:
    tiny = own_network(tmp_path / "tiny.toml")
    assert call("report", "--config", tiny, "-o", str(tmp_path)).code == 0
    assert "accuracy, published" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    mine = own_network(tmp_path / "mine.toml")
    assert call("report", "--variant", "base", "--config", mine, "-o", str(tmp_path)).code == 0
    assert "| Top-1 (accuracy, published) | 84.292 % | – |" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("networks", [["--variant", "tiny"], ["--config", "mine.toml"]], ids=" ".join)
def test_the_commands_of_one_network_make_its_tables_again(
    networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own_network(tmp_path / "mine.toml")
    assert call("report", *networks, "--size", "64x96", "-o", str(tmp_path)).code == 0
    assert_commands_make_tables_again(tmp_path, sections=7 if "tiny" in networks else 6)


def test_the_commands_in_it_make_its_tables_again(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mixed.folder)
    assert_commands_make_tables_again(mixed.folder, sections=7)


def assert_commands_make_tables_again(folder: Path, sections: int) -> None:
    """Without a published network there is a section less: nothing is published of other networks' detectors."""
    text = (folder / "report.md").read_text(encoding="utf-8")
    found = text.split("\n## ")[2:-1]
    assert len(found) == sections
    assert "accuracy, published" not in text
    for section in found:
        tables = "\n".join(line for line in section.splitlines() if line.startswith("|"))
        (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        again = [call(*shlex.split(command)[1:], "--format", "markdown") for command in commands.splitlines()]
        assert {outcome.code for outcome in again} <= {0, 1}  # 1 where no row can meet the budget
        assert NUMBER.findall(tables)
        assert set(NUMBER.findall(tables)) <= set(NUMBER.findall("".join(outcome.out for outcome in again)))


# ── drawn from its JSON ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_is_what_its_json_says(all_variants: Path) -> None:
    text = (all_variants / "report.json").read_text(encoding="utf-8")
    assert to_json(from_json(text)) == text
    assert from_json(text).counts[0].published == VARIANTS["tiny"].published


def test_the_recorded_report_is_read_back_to_the_byte() -> None:
    text = (Path(__file__).parents[2] / "reports" / "report" / "report.json").read_text(encoding="utf-8")
    assert to_json(from_json(text)) == text


def test_from_draws_the_same_bytes_and_counts_nothing(
    with_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("counted again")

    for name in ("collect", "ablate", "count_network", "explain", "trace_network", "sweep"):
        monkeypatch.setattr(collect, name, refuse)
    shutil.copy(with_study / "report.json", tmp_path)
    assert call("report", "--from", str(tmp_path)).code == 0
    assert files(tmp_path) == files(with_study)


def test_it_is_drawn_from_the_numbers_in_the_json(all_variants: Path, tmp_path: Path) -> None:
    before = "All figures are the published integers"
    assert before in (all_variants / "report.md").read_text(encoding="utf-8")
    text = (all_variants / "report.json").read_text(encoding="utf-8")
    (tmp_path / "report.json").write_text(text.replace("22892400", "22892401", 1), encoding="utf-8")
    assert call("report", "--from", str(tmp_path), "-o", str(tmp_path / "again")).code == 0
    again = files(tmp_path / "again")
    assert "22 892 401" in Page(tmp_path / "again" / "report.html").words
    assert before not in again["report.md"].decode()
    assert {name: again[name] for name in FIGURES} == {name: files(all_variants)[name] for name in FIGURES}


def test_without_measuring_no_torch(mixed: Mixed) -> None:
    assert mixed.outcome.code == 0, mixed.outcome.err


@pytest.mark.slow
def test_drawing_it_again_needs_no_torch(all_variants: Path, tmp_path: Path) -> None:
    words = ("report", "--from", ".", "-o", str(tmp_path))
    assert run(*words, command=(sys.executable, "-c", FAILS_WITH_TORCH), cwd=all_variants).code == 0


# ── measured ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_measured_it_has_latency_and_a_roofline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "MIN_TIME_S", 0.02)
    first = tmp_path / "measured"
    assert call("report", "--variant", "tiny", "--size", "64", "--measure", "-o", str(first)).code == 0
    assert set(files(first)) == FILES | {"bench.svg"}
    rows = [
        row for row in json.loads((first / "report.json").read_text(encoding="utf-8"))["results"] if row["table"] == "times"
    ]
    assert [(row["mode"], row["timed"]["measurement"]["dtype"]) for row in rows] == [("plain", "float32"), ("fused", "float32")]
    assert "Latency and roofline" in Page(first / "report.html").words
    assert call("report", "--from", str(first), "-o", str(tmp_path / "again")).code == 0
    assert files(tmp_path / "again") == files(first)


def test_interrupted_it_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> Iterator[tuple[()]]:
        yield ()
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "measure_networks", interrupted)
    mine = own_network(tmp_path / "mine.toml")
    assert call("report", "--config", mine, "--measure", "-o", str(tmp_path / "page")).code == 130
    assert set(files(tmp_path / "page")) == FILES
    text = (tmp_path / "page" / "report.md").read_text(encoding="utf-8")
    assert "of its own scale, 3×3 and 5×5 in stage 2 (positions" in text


# ── wrong input ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-o", "file"], 2, "is not a folder"),
        (["-o", "file/below"], 2, "is not a folder"),
        (["--variant", "tiny", "--size", "64", "-o", "/proc/nowhere/report"], 1, "cannot make the folder"),
        (["--variant", "xsmal"], 2, "unknown variant 'xsmal'"),
        (["--size", "0"], 2, "--size '0'"),
        (["--from", "nowhere"], 2, "No such file"),
        (["--from", "file"], 2, "Not a directory"),
        (["--from", "empty"], 2, "No such file"),
        (["--from", "empty", "--size", "32"], 2, "--size with --from"),
        (["--config", "nowhere.toml"], 2, "cannot read"),
        (["--from", "empty", "--config", "nowhere.toml"], 2, "--config with --from"),
        (["--from", "empty", "--measure"], 2, "--measure with --from"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = call("report", *arguments)
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.err.startswith("Error: ")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "empty"}
    assert list((tmp_path / "empty").iterdir()) == []
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "not JSON, or cut off"),
        (lambda _: "", "not JSON, or cut off"),
        (lambda _: "[" * 100_000, "not JSON, or cut off"),
        (lambda text: text.replace('"params": 5843736', '"params": NaN', 1), "not JSON, or cut off"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 99'), "schema_version = 99: must be 1"),
        (lambda text: text.replace('"command": "report"', '"command": "flops"'), "not a result of mpvit report"),
        (lambda text: text.replace('"params": 5843736', '"params": "many"', 1), "got `str` - at `$.counts[0].params`"),
        (lambda text: text.replace('"table": "counts"', '"table": "beans"', 1), "must have a table of"),
        (lambda text: text.replace('"counter": "analytic",', "", 1), "missing required field `counter` - at `$.counts[0]`"),
        (lambda text: text.replace('"table": "met"', '"table": "sweep"', 1), "missing required field"),
        (
            lambda text: text.replace('"training_peak_bytes"', '"peak_bytes"', 1),
            "holds what this version of mpvit does not write",
        ),
        (lambda text: text.replace('"heads": 8', '"heads": 7', 1), "dim = 64: must be divisible by heads = 7"),
        (
            lambda _: '{"schema_version": 1, "command": "report", "environment": {}, "results": []}',
            "missing required field `counts`",
        ),
    ],
)
def test_damaged_json_is_refused_with_its_place(all_variants: Path, change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(UsageError) as refused:
        from_json(change((all_variants / "report.json").read_text(encoding="utf-8")))
    assert said in str(refused.value)


# ── in a browser ────────────────────────────────────────────────────────────────────────────────────────────────────

FRAME = """<html style="color-scheme: light dark"><body style="margin: 0">
<iframe src="page.html" style="border: 0; width: WIDTHpx; height: 900px"></iframe>
<script>onmessage = (e) => { document.body.innerHTML = "<pre>" + e.data + "</pre>"; };</script></body></html>"""
"""A window as narrow as a telephone: the browser's own is never less than 500 pixels wide."""

PROBE = """<script>onload = () => {
const cut = [...document.querySelectorAll("table, figure svg")].filter((e) => {
  const box = e.closest(".scroll");
  const inside = box.getBoundingClientRect().right <= innerWidth + 1;
  return !inside || (e.getBoundingClientRect().width > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "auto");
});
const style = getComputedStyle(document.body);
parent.postMessage(JSON.stringify({
  width: innerWidth, page: document.documentElement.scrollWidth, cut: cut.length,
  tables: document.querySelectorAll("table").length,
  loaded: performance.getEntriesByType("resource").map((e) => e.name), ink: style.color, paper: style.backgroundColor,
}), "*");
};</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)], ids=["light", "dark"])
def test_in_a_browser_nothing_is_loaded_or_cut(
    all_variants: Path, tmp_path: Path, width: int, scheme: int, *, dark: bool
) -> None:
    page = (all_variants / "report.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}"]
    options += [f"--blink-settings=preferredColorScheme={scheme}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    options += ["--virtual-time-budget=5000", "--window-size=1400,1000", "--dump-dom", frame.as_uri()]
    done = subprocess.run([str(CHROMIUM), *options], capture_output=True, check=False, encoding="utf-8", timeout=60)
    (found,) = re.findall(r"<pre>(.*)</pre>", done.stdout)
    seen = json.loads(found)
    assert seen["tables"] > 20
    assert (seen["width"], seen["page"], seen["cut"], seen["loaded"]) == (width, width, 0, [])
    ink, paper = (sum(map(int, re.findall(r"\d+", seen[name]))) for name in ("ink", "paper"))
    assert (ink > paper) == dark
    assert abs(ink - paper) > 500
