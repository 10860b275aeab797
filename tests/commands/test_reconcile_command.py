"""``mpvit reconcile`` as a person uses it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commandline import COMMAND, call, run, run_on_terminal

from mpvit.errors import MpvitError
from mpvit.tools import ToolCount, get_tool
from mpvit.tools.thop import TOOL

USER_MODULE = """
import sys
from threading import Lock
from torch import nn
from torch.nn import functional

class Plain(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Linear(3, width)
    def forward(self, x):
        return functional.relu(self.layer(x))

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(3, 5, batch_first=True)
    def forward(self, x):
        return self.layer(x)[0]

class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("no way")

class Locked(Plain):
    def __init__(self):
        super().__init__()
        self.lock = Lock()

def text(): return "hello"
def leave(): sys.exit(7)
number = 3
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_models.py").write_text(USER_MODULE)
    (tmp_path / "leaving.py").write_text("import sys; sys.exit(5)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "their_models", raising=False)


def rows(out: str) -> dict[str, dict[str, object]]:
    return {row["tool"]: row for row in json.loads(out)["results"]}


def test_the_numbers_that_people_get_come_out() -> None:
    outcome = call("reconcile", "--variant", "xsmall", "--layout", "published", "--format", "json")
    found = rows(outcome.out)
    assert outcome.code == 0
    assert [found[tool]["macs"] for tool in ("fvcore", "thop", "torchinfo")] == [2_971_396_560, 4_700_317_184, 523_254_056]
    assert found["torch"]["printed"] == "5900431872 FLOPs"


@pytest.mark.slow
def test_live_counts_stand_beside_the_rules(tmp_path: Path) -> None:
    outcome = call("reconcile", "--variant", "tiny", "--size", "64x96", "--live", "--format", "json", "--plot", "waterfall.svg")
    found = rows(outcome.out)
    assert outcome.code == 0
    live = {tool: row for tool, row in found.items() if row["installed_version"]}
    assert len(live) >= 7
    assert all((row["residual_macs"], row["residual_params"] or 0) == (0, 0) for row in live.values())
    assert (tmp_path / "waterfall.svg").read_text().startswith("<?xml")


def test_any_network_is_explained() -> None:
    outcome = call(
        "reconcile", "--model", "their_models:Plain", "--arg", "width=6", "--input", "2x5x3", "--live", "--format", "json"
    )
    assert outcome.code == 0, outcome.err
    found = rows(outcome.out)
    assert found["torch"]["exact_macs"] == 2 * 5 * 3 * 6
    assert found["torchinfo"]["macs"] == found["torchinfo"]["live_macs"] == 2 * (3 * 6 + 6)


def test_a_network_that_cannot_be_copied_is_explained() -> None:
    outcome = call("reconcile", "--model", "their_models:Locked", "--input", "2x5x3", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert rows(outcome.out)["fvcore"]["macs"] == 2 * 5 * 3 * 4


def test_what_a_rule_does_not_explain_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule without its terms leaves all by which the tool differs."""
    monkeypatch.setattr("mpvit.tools.thop.TOOL", replace(TOOL, rule=lambda _: ()))
    outcome = call("reconcile", "--model", "their_models:Recurrent", "--input", "2x5x3", "--live", "--tool", "thop")
    assert outcome.code == 3
    assert "MACs of thop are not explained" in outcome.err
    assert "Residual" in outcome.out


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("tools", ["thop,torchinfo", "torch"])
def test_tables_fit_the_window(width: int, tools: str) -> None:
    outcome = run_on_terminal("reconcile", "--variant", "tiny", "--tool", tools, columns=width)
    assert outcome.code == 0
    assert max(len(line) for line in outcome.out.splitlines() if "─" in line) <= width


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--variant", "xs"], 2, "unknown variant 'xs'"),
        (["--tool", "thopp"], 2, "did you mean 'thop'?"),
        (["--layout", "mine"], 2, "unknown layout 'mine'"),
        (["--plot", "a.txt"], 2, "must end in .svg, .png, .pdf"),
        (["--size", "0"], 2, "from 1 to 999999999"),
        (["--attention", "linformer", "--size", "256"], 2, "its parameters are for 3136"),
        (["--arg", "a=1"], 2, "--arg: needs --model"),
        (["--model", "nowhere:X"], 2, "cannot import nowhere"),
        (["--model", "leaving:X"], 1, "cannot import leaving: SystemExit: 5"),
        (["--model", "their_models"], 2, "must be package.module:name"),
        (["--model", "their_models:Plane"], 2, "did you mean 'Plain'?"),
        (["--model", "their_models:number"], 2, "number is int, must be a class or a function"),
        (["--model", "their_models:text"], 2, "makes str, must be a torch.nn.Module"),
        (["--model", "their_models:leave"], 1, "SystemExit: 7"),
        (["--model", "their_models:Failing"], 1, "failed on 1×3×224×224: RuntimeError: no way"),
        (["--model", "their_models:Plain", "--arg", "3"], 2, "must be name=value"),
        (["--model", "their_models:Plain", "--arg", "depth=3"], 1, "unexpected keyword argument 'depth'"),
        (["--model", "their_models:Plain", "--input", "2xq"], 2, "must be whole numbers of at least 1"),
        (["--model", "their_models:Plain", "--input", "2x3:float99"], 2, "unknown dtype 'float99'"),
        (["--model", "their_models:Plain", "--variant", "tiny"], 2, "--variant with --model"),
        (["--model", "their_models:Plain", "--layout", "published"], 2, "a model has its own names"),
        (["--output", "/dev/full", "--format", "json"], 1, "cannot write '/dev/full'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_one_line(arguments: list[str], code: int, complaint: str) -> None:
    outcome = call("reconcile", *arguments)
    assert outcome.code == code
    assert complaint in outcome.err
    errors = [line for line in outcome.err.splitlines() if line.startswith(("Error: ", "Traceback"))]
    assert len(errors) == 1


def test_a_tool_that_fails_is_a_row_unless_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> ToolCount:
        raise MpvitError("not today")

    monkeypatch.setattr("mpvit.tools.torch_flop_counter.TOOL", replace(get_tool("torch"), run=failing))
    words = ("reconcile", "--model", "their_models:Plain", "--input", "2x3", "--live", "--format", "json")
    every, named = call(*words), call(*words, "--tool", "torch")
    assert (every.code, named.code) == (0, 1)
    assert rows(every.out)["torch"]["error"] == rows(named.out)["torch"]["error"] == "torch failed: not today"


def test_an_interrupted_run_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> ToolCount:
        raise KeyboardInterrupt

    monkeypatch.setattr("mpvit.tools.fvcore.TOOL", replace(get_tool("fvcore"), run=interrupted))
    outcome = call("reconcile", "--variant", "tiny", "--size", "32", "--live", "--tool", "torch,fvcore", "--format", "json")
    found = rows(outcome.out)
    assert outcome.code == 130
    assert (found["torch"]["residual_macs"], found["fvcore"]["live_macs"]) == (0, None)


@pytest.mark.slow
def test_a_fresh_process_prints_data_alone_to_stdout() -> None:
    arguments = ("reconcile", "--variant", "tiny", "--size", "32", "--live", "--tool", "thop,torchinfo", "--format", "csv")
    outcome = run(*arguments, command=(COMMAND,))
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].startswith("model,")
    assert len(outcome.out.splitlines()) == 3
