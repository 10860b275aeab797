"""``mpvit`` as a person starts it: in this process, in one of its own with its output piped, or on a terminal."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from mpvit_cli.main import main

COMMAND = str(Path(sys.executable).with_name("mpvit"))

_DISTURBING = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONIOENCODING", "PYTHONPATH", "PYTHONWARNINGS"}

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Escape sequences that colour, move or hide."""


Variables = Mapping[str, str]


class Outcome(NamedTuple):
    """How a run ended: its exit code and what it wrote. On a terminal both streams are in ``out``."""

    code: int
    out: str
    err: str = ""


def environment(variables: Variables | None = None) -> dict[str, str]:
    """This process's environment without what would change the command's behaviour, and with ``variables``."""
    plain = {k: v for k, v in os.environ.items() if k not in _DISTURBING and not k.startswith("MPVIT_")}
    return {**plain, "TERM": "xterm-256color", **(variables or {})}


def call(*arguments: str, variables: Variables | None = None) -> Outcome:
    """Run in this process, which saves Python's start."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["mpvit", *arguments]),
        patch.dict(os.environ, environment(variables), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main()
    return Outcome(code, out.getvalue(), err.getvalue())


def run(
    *arguments: str, command: tuple[str, ...] = (COMMAND,), cwd: Path | None = None, variables: Variables | None = None
) -> Outcome:
    """Run with both streams piped."""
    done = subprocess.run(
        [*command, *arguments], capture_output=True, encoding="utf-8", check=False, cwd=cwd, env=environment(variables)
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_on_terminal(*arguments: str, columns: int, variables: Variables | None = None) -> Outcome:
    """Run with all streams on a terminal of ``columns`` columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))  # rows, columns, no pixels
    with subprocess.Popen(
        [COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(variables), start_new_session=True
    ) as process:
        os.close(theirs)
        written = _read_to_end(ours)
    os.close(ours)
    return Outcome(process.returncode, written.decode().replace("\r\n", "\n"))


def rows(done: Outcome, code: int = 0) -> list[dict[str, Any]]:
    """The results of an answer in JSON, which must hold nothing that is no JSON."""
    assert done.code == code, done.err
    found: list[dict[str, Any]] = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["results"]
    return found


def shown(text: str) -> list[str]:
    """The lines that a person sees: without escape sequences."""
    return _CONTROL.sub("", text).splitlines()


def _read_to_end(handle: int) -> bytes:
    blocks = []
    try:
        while block := os.read(handle, 65536):
            blocks.append(block)
    except OSError:  # how Linux says that the other side of a terminal is closed
        pass
    return b"".join(blocks)
