"""The README shows what the commands really print, and its examples are real."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from mpvit import VARIANTS
from mpvit.config import config_from_dict
from mpvit_cli.main import COMMANDS, main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"```console\n\$ (.*)\n((?:.*\n)*?)```", README)


@pytest.mark.parametrize(("command", "shown"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_a_sample_is_the_real_output(
    command: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", shlex.split(command))
    assert main() == 0
    assert capsys.readouterr().out == shown


def test_every_command_shown_exists_or_is_said_not_to() -> None:
    shown = set(re.findall(r"mpvit ([a-z-]+) ", README)) - {"flops"}
    missing = shown - COMMANDS.keys()
    assert all(re.search(rf"mpvit {command} .*not there yet", README) for command in missing)
    assert COMMANDS.keys() <= shown | {"flops"}


def test_the_configuration_shown_is_the_first_stage_of_xsmall() -> None:
    (text,) = re.findall(r"```toml\n((?:.*\n)*?)```", README)
    config, xsmall = config_from_dict(tomllib.loads(text)), VARIANTS["xsmall"].config
    assert config.stages == xsmall.stages[:1]
    assert (config.in_channels, config.num_classes) == (xsmall.in_channels, xsmall.num_classes)


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    reasons = README.partition("## Dependencies")[2]
    names = [re.split(r"[>=; ]", requirement)[0] for requirement in project["dependencies"]]
    names += project["optional-dependencies"]["dev"]
    assert [name for name in names if name not in reasons] == []
