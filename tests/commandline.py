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
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType
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


def run(*arguments: str, command: tuple[str, ...] = (), cwd: Path | None = None, variables: Variables | None = None) -> Outcome:
    """Run with both streams piped: ``mpvit`` in a fork of this process, another ``command`` in a process of its own."""
    if command:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, encoding="utf-8", check=False, cwd=cwd, env=environment(variables)
        )
        return Outcome(done.returncode, done.stdout, done.stderr)
    with TemporaryFile() as out, TemporaryFile() as err:
        code = wait(fork(*arguments, out=out.fileno(), err=err.fileno(), cwd=cwd, variables=variables))
        written = [os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0).decode() for stream in (out, err)]
    return Outcome(code, *written)


def run_on_terminal(*arguments: str, columns: int, variables: Variables | None = None) -> Outcome:
    """Run in a fork of this process, with all streams on a terminal of ``columns`` columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))  # rows, columns, no pixels
    process = fork(*arguments, out=theirs, err=theirs, variables=variables)
    os.close(theirs)
    written = _read_to_end(ours)
    os.close(ours)
    return Outcome(wait(process), written.decode().replace("\r\n", "\n"))


def fork(*arguments: str, out: int, err: int, cwd: Path | None = None, variables: Variables | None = None) -> int:
    """Run in a fork of this process, which saves Python's start, on the given file descriptors; return its process number.

    A descriptor of a terminal becomes its controlling terminal. The streams have the encoding that
    Python would give them, and are flushed at the end.
    """
    _import_command_line()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn if another thread runs
        process = os.fork()
    if process:
        return process
    code = 1
    try:
        if os.isatty(out):
            os.login_tty(out)
        else:
            os.dup2(out, 1)
            os.dup2(err, 2)
        os.closerange(3, 1024)
        os.environ.clear()
        os.environ.update(environment(variables))
        os.chdir(cwd or Path.cwd())
        sys.argv, sys.modules["__main__"] = ["mpvit", *arguments], ModuleType("__main__")  # the name of the program
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        sys.stdin, sys.stdout, sys.stderr = (open(each, mode, encoding=encoding) for each, mode in enumerate("rww"))  # noqa: PTH123, SIM115
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as end:
        sys.stdout.flush()
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        os._exit(code)


@cache
def _import_command_line() -> None:
    """Import once what each fork needs."""
    call("flops", "--variant", "tiny")
    call("--help")


def wait(process: int) -> int:
    """Wait for a fork's end and return its exit code; a signal as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


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
