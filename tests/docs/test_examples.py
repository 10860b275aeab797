"""What README.md and docs/ show is real: every block of code of a page is run, in order, in a folder of its own."""

import doctest
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commandline import call
from pages import DOCS, README, ROOT, blocks, named
from PIL import Image

from mpvit import VARIANTS
from mpvit.architecture.config import load_config, save_config
from mpvit.export.openvino import unreported
from mpvit.prediction.pretrained import shipped_weights
from mpvit.training.data import open_data
from mpvit_cli.main import COMMANDS

PAGES = [README, *DOCS]

unreported("openvino")  # before a page imports it, which would tell Intel

LONG = re.compile(r"--counter analytic,torch|--live|mpvit report|--train digits|--dynamic|small\.onnx|--fused")
"""Commands of more than some seconds, which only `make slow` runs."""

NOT_RUN = re.compile(
    r"mpvit bench|--measure|--numerics|--max-latency|imagenet|train photos|photos\.xml|train scales|train --task|segmenter/|"
    r"mpvit train digits|--weights run/|mpvit predict (cat|photo)(?!.*--random-init)"
)
"""Commands that measure this machine, download, or need what is not here: only their options are read.

``tests/training/test_shipped.py`` runs those that train digits.
"""


class Reader(NamedTuple):
    """Somebody who tries the examples of a page: what Python has named so far, and whether the long ones are waited for."""

    page: Path
    patient: bool
    names: dict[str, Any]


def test_the_pages_are_found() -> None:
    assert {"README.md", "docs/README.md", "docs/counting.md"} <= {named(page) for page in PAGES}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader has: a folder with pictures, a network's file and the weights that come along."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (320, 240), "teal").save("cat.jpg")
    save_config(VARIANTS["tiny"].config, Path("mine.toml"))
    held_out = open_data("digits").held_out
    held_out.read(99).save("digit.png")
    shutil.copy(shipped_weights("digits-nano"), "digits-nano.safetensors")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_examples_of_a_page_are_real(page: Path) -> None:
    _assert_examples_hold(Reader(page, patient=False, names={}))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(LONG.search(block.text) for block in blocks(page))], ids=named)
def test_the_long_examples_of_a_page_are_real(page: Path) -> None:
    _assert_examples_hold(Reader(page, patient=True, names={}))


def test_every_command_has_an_example() -> None:
    text = "".join(block.text for page in PAGES for block in blocks(page))
    assert [command for command in COMMANDS if f"mpvit {command} " not in text] == []


# ── one kind of block each ──────────────────────────────────────────────────────────────────────────────────────────


def _assert_examples_hold(reader: Reader) -> None:
    for block in blocks(reader.page):
        place = f"{named(reader.page)}:{block.line}"
        assert block.language in RUN, f"{place}: a block must be one of {', '.join(RUN)}"
        RUN[block.language](reader, block.text, place)


def _sample(reader: Reader, text: str, place: str) -> None:
    """A command behind "$ ", and all that it prints."""
    first, _, shown = text.partition("\n")
    command = re.fullmatch(r"\$ mpvit (.*)", first)
    assert command, f"{place}: must start with $ mpvit"
    if reader.patient or not LONG.search(first):
        code, out, err = call(*shlex.split(command[1]))
        assert (code, out) == (0, shown), f"{place}: {err}"


def _commands(reader: Reader, text: str, place: str) -> None:
    """A command a line, whose output is not shown."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        variables = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        program, *arguments = words[len(variables) :]
        if program == "mpvit":
            unread = NOT_RUN.search(line) or (LONG.search(line) and not reader.patient)
            code, _, err = call(*arguments, *(["--help"] if unread else []), variables=variables)
            assert code == 0, f"{place}: {line}: {err}"
        elif program == "torchrun":  # tests/training/test_processes.py starts several
            assert arguments[:4] == ["--nproc-per-node", "2", "-m", "mpvit_cli"], place
            assert call(*arguments[4:], "--help").code == 0, place
        elif program == "make":
            assert f"\n{arguments[0]}: " in (ROOT / "Makefile").read_text(encoding="utf-8"), place
        else:  # tests/test_package.py installs
            assert (program, *arguments) == ("pip", "install", "--constraint", "constraints.txt", "."), place


def _script(reader: Reader, text: str, place: str) -> None:
    """Python; under a first line "# name.py" it is that file too."""
    if name := re.match(r"# (\w+\.py)\n", text):
        Path(name[1]).write_text(text, encoding="utf-8")
    exec(compile(text, place, "exec"), reader.names)  # noqa: S102 - the project's own page


def _dialogue(reader: Reader, text: str, place: str) -> None:
    """Python behind ">>>", and what it answers."""
    test = doctest.DocTestParser().get_doctest(text, {}, place, place, 0)
    test.globs = reader.names  # not a copy: later blocks go on with what this one names
    said: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False).failed == 0, "".join(said)


def _configuration(_reader: Reader, text: str, place: str) -> None:
    """The first stage of xsmall; it is mine.toml to the commands below it."""
    Path("mine.toml").write_text(text, encoding="utf-8")
    xsmall = VARIANTS["xsmall"].config
    assert load_config(Path("mine.toml")) == replace(xsmall, stages=xsmall.stages[:1], drop_path=0.0), place


RUN: dict[str, Callable[[Reader, str, str], None]] = {
    "console": _sample,
    "sh": _commands,
    "python": _script,
    "pycon": _dialogue,
    "toml": _configuration,
}
"""How each language of a block is tried."""
