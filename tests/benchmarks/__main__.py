"""``python -m tests.benchmarks [NAME…] [--output FOLDER]``: measure, print the table, and write it there if asked to."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path

from mpvit.errors import MpvitError, unknown_name
from mpvit.files import write_atomically
from mpvit.measurement import timing
from mpvit.render import render

from . import closed_form, networks, processes
from .plan import Benchmark
from .report import Measured, document

BENCHMARKS: dict[str, Callable[[], Benchmark]] = {
    "closed_form": closed_form.variants,
    "image_size": closed_form.sizes,
    "tasks": closed_form.tasks,
    "ablation_grid": closed_form.grid,
    "search": closed_form.search,
    "against_fvcore": processes.against_fvcore,
    "start": processes.start,
    "fused": networks.fused,
}
"""Each benchmark by name; a new one is a function in a file of this folder and a line here."""


def measure(names: Sequence[str]) -> dict[str, Measured]:
    """Run the benchmarks of these names, or all."""
    for name in names:
        if name not in BENCHMARKS:
            raise unknown_name("benchmark", name, BENCHMARKS)
    measured = {}
    for name in names or BENCHMARKS:
        sys.stderr.write(f"{name}…\n")
        plan = BENCHMARKS[name]()
        times = timing.run(plan.cases, min_time_s=plan.min_time_s, min_samples=plan.min_samples, memory=False)
        if any(time.interrupted for time in times):
            raise KeyboardInterrupt
        measured[name] = Measured(plan, times)
    return measured


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line asks for."""
    parser = ArgumentParser(prog="python -m tests.benchmarks", description="Measure speed as ratios within one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write benchmarks.md and benchmarks.json there")
    asked = parser.parse_args(arguments)
    result = document(" ".join(["python -m tests.benchmarks", *asked.names]), measure(asked.names))
    text = render(result, "markdown")
    sys.stdout.write(text)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        write_atomically(asked.output / "benchmarks.md", f"# Benchmarks\n\n{text}".encode())
        write_atomically(asked.output / "benchmarks.json", render(result, "json").encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MpvitError as error:
        sys.stderr.write(f"Error: {error}\nHint: {error.hint}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
