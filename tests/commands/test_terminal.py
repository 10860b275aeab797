"""What a person sees around the answer: width, colour, pipes, interrupts, tracebacks, variables, completion."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from commandline import COMMAND, Outcome, call, environment, fork, run, run_on_terminal, shown, wait
from published import PUBLISHED, grouped

from mpvit import __version__
from mpvit.architecture.variants import NETWORKS
from mpvit.render import FORMATS

MODULE = (sys.executable, "-m", "mpvit_cli")
COLOR = re.compile(r"\x1b\[(?:\d+;)*(?:[34][0-8]|9[0-7]|10[0-7])(?:;\d+)*m")


# ── width ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def missing(variant: str, text: str) -> list[str]:
    """The published integers that ``text`` does not hold whole; what may go in a narrow window must be named there."""
    params, macs, activations = PUBLISHED[variant]
    required = {grouped(params), grouped(macs)}
    optional = {"FLOPs = 2 MACs": grouped(2 * macs), "Activations": grouped(activations)}
    named = " ".join(re.findall(r"not shown in \d+ columns: (.{0,90})", " ".join(text.split())))
    required |= {figure for header, figure in optional.items() if header not in named}
    return sorted(figure for figure in required if figure not in text)


@pytest.mark.parametrize(
    ("by", "columns"),
    [
        *[("total", columns) for columns in (200, 80, 60, 36)],
        *[("stage", columns) for columns in (80, 40)],
        *[("layer", columns) for columns in (200, 60, 40)],
    ],
)
def test_a_table_fits_the_window_and_loses_no_digit(by: str, columns: int) -> None:
    code, out, _ = run_on_terminal("-q", "flops", "--variant", "xsmall,base", "--by", by, columns=columns)
    lines = shown(out)
    text = "\n".join(lines)
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert (missing("xsmall", text), missing("base", text)) == ([], [])
    assert "xsmall" in text
    assert "base" in text
    if columns == 200 or (columns, by) == (80, "total"):
        assert "not shown" not in text
    if by == "total":
        assert text.count("✓") == 2


def test_a_long_name_is_folded_and_loses_nothing(tmp_path: Path) -> None:
    name = "a_network_with_a_name_that_is_longer_than_any_window_of_sixty_columns_can_be"
    (tmp_path / f"{name}.toml").write_text("[[stages]]\npaths = 2\nlayers = 1\ndim = 512\nheads = 8\nmlp_ratio = 4\n")
    arguments = ["-q", "flops", "--config", str(tmp_path / f"{name}.toml")]
    macs = call(*arguments, "--format", "csv").out.splitlines()[1].split(",")[6]
    lines = shown(run_on_terminal(*arguments, columns=60).out)
    assert max(map(len, lines)) <= 60
    assert grouped(int(macs)) in "\n".join(lines)
    assert name in "".join(line.partition("  ")[0].strip() for line in lines)


def test_a_layer_keeps_its_name_in_a_narrow_window() -> None:
    lines = shown(run_on_terminal("-q", "flops", "--variant", "tiny", "--by", "layer", columns=60).out)
    joined = "".join(line.partition("  ")[0].strip() for line in lines)
    assert "stages.3.paths.2.layers.0.attention.qkv" in joined


@pytest.mark.parametrize("arguments", [(), ("--by", "layer")])
def test_what_is_piped_is_never_cut_nor_coloured(arguments: tuple[str, ...]) -> None:
    code, out, err = run("flops", *arguments)
    assert code == 0
    assert "\x1b" not in out + err
    assert "not shown" not in out + err
    assert [figure for variant in PUBLISHED for figure in missing(variant, out)] == []
    if arguments:
        assert max(map(len, out.splitlines())) > 100


@pytest.mark.parametrize("columns", [80, 40])
def test_notes_break_between_words(columns: int) -> None:
    code, out, _ = run_on_terminal("flops", "--variant", "tiny", columns=columns)
    lines = [line.strip() for line in shown(out)]
    note = "1 MAC (multiply-add) = 2 FLOPs; the paper and fvcore print MACs as FLOPs."
    first = next(index for index, line in enumerate(lines) if line.startswith("1 MAC"))
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert " ".join(lines[first:]).startswith(note)


@pytest.mark.parametrize("command", [(), ("flops",), ("predict",), ("ablate",)], ids=" ".join)
def test_a_flag_stands_without_a_value_in_the_help(command: tuple[str, ...]) -> None:
    text = call(*command, "--help").out
    assert "--help" in text
    assert "bool" not in text


# ── colour and signs ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "variables", "coloured"),
    [
        ([], {}, True),
        (["--no-color"], {}, False),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"MPVIT_NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
    ],
)
def test_colour(options: list[str], variables: dict[str, str], *, coloured: bool) -> None:
    outcome = run_on_terminal(*options, "flops", "--variant", "tiny", columns=80, variables=variables)
    assert outcome.code == 0
    assert bool(COLOR.search(outcome.out)) is coloured
    assert "1 654 163 812✓" in "\n".join(shown(outcome.out))


def test_help_has_no_colour_where_none_is_wanted() -> None:
    assert COLOR.search(run_on_terminal("flops", "--help", columns=80).out)
    assert not COLOR.search(run_on_terminal("flops", "--help", columns=80, variables={"NO_COLOR": "1"}).out)
    assert not COLOR.search(run_on_terminal("--no-color", "flops", "--help", columns=80).out)
    assert not COLOR.search(run_on_terminal("--no-color", "--help", columns=80).out)


@pytest.mark.parametrize("arguments", [["flops"], ["flops", "--help"], ["flops", "--variant", "größe"]])
def test_a_terminal_that_has_no_more_than_ascii(arguments: list[str]) -> None:
    code, out, err = run(*arguments, command=(COMMAND,), variables={"PYTHONIOENCODING": "ascii"})
    assert code == (2 if "größe" in arguments else 0)
    assert (out + err).isascii()
    assert "Traceback" not in err
    if arguments == ["flops"]:
        assert "2 971 396 560*" in out
    if code:
        assert err.startswith(r"Error: unknown variant 'gr\xf6\xdfe'")


# ── pipes and interrupts ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words", [*(f"flops --variant tiny --by layer --format {form}" for form in FORMATS), "layers --variant tiny --format json"]
)
def test_a_reader_may_leave_early(words: str) -> None:
    """The answer is longer than a pipe holds, so that the command is still writing when its reader goes."""
    code, err = _with_reader(lambda pipe: os.read(pipe, 10), "-q", *words.split())
    assert (code, err) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["flops", "--variant", "x"]])
def test_nobody_listens_at_all(arguments: list[str]) -> None:
    assert "Traceback" not in _with_reader(lambda _: None, *arguments)[1]


def _with_reader(read: Callable[[int], object], *arguments: str) -> tuple[int, str]:
    """Run with a reader who leaves after ``read``; return the exit code and what went to standard error."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    with TemporaryFile() as err:
        process = fork(*arguments, out=theirs, err=err.fileno())
        os.close(theirs)
        read(ours)
        os.close(ours)
        code = wait(process)
        return code, os.pread(err.fileno(), 100_000, 0).decode()


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_a_stream_that_is_not_open(closed: str) -> None:
    wanted = [run("-c", f'"$0" {arguments} {closed}', COMMAND, command=("sh",)) for arguments in ("flops", "flops --variant x")]
    assert [outcome.code for outcome in wanted] == [0, 2]
    assert "Traceback" not in "".join(outcome.err for outcome in wanted)


@pytest.mark.parametrize("imported", ["mpvit.errors", "fvcore.nn.jit_analysis"])
def test_an_interrupt_ends_quietly_with_130(imported: str) -> None:
    """Python is told to say what it imports: the interrupt comes when it starts, or when fvcore is about to count."""
    arguments = [sys.executable, "-X", "importtime", "-m", "mpvit_cli", "flops", "--counter", "fvcore", "--variant", "base"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stderr:
            if imported in line:
                break
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr if not line.startswith("import time:")]
        assert (process.stdout.read(), said) == ("", [])
    assert process.returncode == 130


# ── what is said ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "variables", "traceback"),
    [
        ([], {}, False),
        (["-v"], {}, True),
        (["--verbose"], {}, True),
        ([], {"MPVIT_DEBUG": "1"}, True),
        ([], {"MPVIT_DEBUG": "0"}, False),
        ([], {"MPVIT_DEBUG": ""}, False),
    ],
)
@pytest.mark.parametrize(
    "arguments", [["flops", "--variant", "huge"], ["flops", "--batch", "x"], ["flops", "-o", "/missing/costs.md"]]
)
def test_a_traceback_only_where_one_is_asked_for(
    arguments: list[str], options: list[str], variables: dict[str, str], *, traceback: bool
) -> None:
    code, out, err = call(*options, *arguments, variables=variables)
    assert (code, out) == (1 if "-o" in arguments else 2, "")
    assert err.startswith("Traceback (most recent call last):") is traceback
    assert sum(line.startswith("Error: ") for line in err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "variables"),
    [(["-q"], {}), (["--quiet"], {}), ([], {"MPVIT_QUIET": "1"})],
    ids=["-q", "--quiet", "MPVIT_QUIET"],
)
def test_quiet_leaves_the_answer_and_the_errors(options: list[str], variables: dict[str, str], tmp_path: Path) -> None:
    assert call(*options, "flops", variables=variables) == Outcome(0, call("flops").out, "")
    assert call(*options, "flops", "-o", str(tmp_path / "costs.md"), variables=variables) == Outcome(0, "", "")
    assert call(*options, "flops", "--variant", "x", variables=variables).err.startswith("Error: unknown variant 'x'")


@pytest.mark.parametrize(
    ("variables", "arguments", "expected"),
    [
        ({}, ["--format", "json"], ("tiny xsmall small base", 224)),
        ({"MPVIT_FORMAT": "json"}, [], ("tiny xsmall small base", 224)),
        ({"MPVIT_FORMAT": "csv"}, ["--format", "json"], ("tiny xsmall small base", 224)),
        ({"MPVIT_FORMAT": "json", "MPVIT_SIZE": "320"}, [], ("tiny xsmall small base", 320)),
        ({"MPVIT_FORMAT": "json", "MPVIT_SIZE": "wrong"}, ["--size", "64"], ("tiny xsmall small base", 64)),
        ({"MPVIT_FORMAT": "json", "MPVIT_VARIANT": "tiny"}, [], ("tiny", 224)),
        ({"MPVIT_FORMAT": "json", "MPVIT_VARIANT": "tiny,base"}, [], ("tiny base", 224)),
        ({"MPVIT_FORMAT": "json", "MPVIT_VARIANT": "tiny"}, ["--variant", "small"], ("small", 224)),
    ],
)
def test_a_variable_stands_in_for_an_option(variables: dict[str, str], arguments: list[str], expected: tuple[str, int]) -> None:
    results = json.loads(call("flops", *arguments, variables=variables).out)["results"]
    assert (" ".join(row["model"] for row in results), results[0]["input_shape"][3]) == expected


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [("MPVIT_FORMAT", "yaml", "unknown format 'yaml'"), ("MPVIT_SIZE", "-", "'-'"), ("MPVIT_QUIET", "perhaps", "MPVIT_QUIET")],
)
def test_a_wrong_variable_is_wrong_usage(variable: str, value: str, named: str) -> None:
    code, out, err = call("flops", variables={variable: value})
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert named in err


# ── ways in ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    assert run("flops", command=MODULE, cwd=tmp_path) == run("flops", command=(COMMAND,)) == run("flops")
    assert run("flops", "--variant", "x", command=MODULE).code == 2


@pytest.mark.parametrize("command", [(COMMAND,), MODULE], ids=["mpvit", "python -m mpvit_cli"])
def test_version(command: tuple[str, ...]) -> None:
    assert run("--version", command=command) == Outcome(0, f"mpvit {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["flops", "--help"], ["flops", "-h"]])
def test_help_says_the_exit_codes(arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert "0 done, 1 the work failed, 2 wrong usage, 3 a check does not hold, 130 interrupted" in said


def test_the_bare_command_shows_its_help() -> None:
    bare = run()
    assert (bare.code, bare.err) == (2, "")
    assert bare.out.strip() == run("--help").out.strip()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mpvit fl", ["flops"]),
        ("mpvit flops --variant ", ["all", *NETWORKS]),
        ("mpvit flops --variant x", ["xsmall"]),
        ("mpvit flops --format j", ["json"]),
        ("mpvit flops --counter t", ["torch", "thop", "torchinfo"]),
        ("mpvit flops --by l", ["layer"]),
        ("mpvit flops --convention m", ["matmul"]),
        ("mpvit flops --task se", ["segformer", "semantic-fpn"]),
        ("mpvit flops --by p", ["part", "path"]),
        ("mpvit ablate paths --task u", ["upernet"]),
        ("mpvit flops --chec", ["--check"]),
    ],
)
def test_the_shell_completes_names(typed: str, offered: list[str]) -> None:
    """Called as the script that ``mpvit --show-completion bash`` prints calls it."""
    words = len(typed.split()) - (not typed.endswith(" "))
    outcome = run(variables={"COMP_WORDS": typed, "COMP_CWORD": str(words), "_MPVIT_COMPLETE": "complete_bash"})
    assert outcome == Outcome(0, "".join(f"{name}\n" for name in offered), "")


def test_the_completion_script_calls_what_is_tested_above() -> None:
    script = run("--show-completion", "bash").out
    assert {"COMP_WORDS", "COMP_CWORD", "_MPVIT_COMPLETE=complete_bash"} <= set(
        re.findall(r"[A-Z_]+(?:=complete_bash)?", script)
    )
