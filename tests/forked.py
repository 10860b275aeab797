"""``mpvit`` in processes that train, and may be killed: each is forked from a server that has imported everything.

``commandline.run`` forks this process, where torch trains no more once a test has trained in it.
"""

import os
import resource
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from commandline import Outcome, environment

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("mpvit_cli.application", "mpvit_cli.commands.train", "mpvit_cli.commands.eval", "mpvit.training.trainer"),
        *("mpvit.plots.training", "mpvit.tables.training", "mpvit.tables.evaluation", "matplotlib.backends.backend_svg"),
        *("torchmetrics.classification", "torch._dynamo", "torch.distributed.tensor", "torch.onnx"),
    ]
)


@dataclass(frozen=True)
class Running:
    """A process, and the files that it writes to instead of standard output and standard error."""

    process: ForkServerProcess
    out: Path
    err: Path

    def wait_for(self, text: str) -> None:
        """Return when the process has written ``text`` to standard error, or has ended."""
        while text not in self.err.read_text() and self.process.is_alive():
            time.sleep(0.005)

    def end(self) -> Outcome:
        self.process.join()
        assert self.process.exitcode is not None
        return Outcome(self.process.exitcode, self.out.read_text(), self.err.read_text())


def start(
    folder: Path, *words: str, variables: Mapping[str, str] | None = None, name: str = "0", largest: int | None = None
) -> Running:
    """Start ``mpvit`` in a folder; no file may grow beyond ``largest`` bytes. ``name`` tells several processes apart."""
    running = Running(
        _CONTEXT.Process(target=_run, args=(folder, words, environment(variables), name, largest)),
        *(folder / f".{name}.{stream}" for stream in ("out", "err")),
    )
    for path in (running.out, running.err):
        path.write_text("")
    running.process.start()
    return running


def run(folder: Path, *words: str, processes: int = 1, largest: int | None = None) -> list[Outcome]:
    """Run ``mpvit`` in a folder, in as many processes as ``torchrun`` would start it in."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    started = []
    for rank in map(str, range(processes)):
        variables = {**shared, "LOCAL_WORLD_SIZE": str(processes), "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
        started.append(start(folder, *words, variables=variables, name=rank, largest=largest))
    return [each.end() for each in started]


def _run(folder: Path, words: tuple[str, ...], variables: dict[str, str], name: str, largest: int | None) -> None:
    from mpvit_cli.main import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(f".{name}.{stream}", os.O_WRONLY | os.O_APPEND), number)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    sys.argv = ["mpvit", *words]
    sys.exit(main())
