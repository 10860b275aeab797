"""``python -m tests.benchmarks [NAME…]``: measure, print the table, and write it to reports/ where all of them ran."""

import sys
from collections.abc import Callable
from pathlib import Path

from mpvit import timing
from mpvit.errors import UsageError, unknown_name
from mpvit.render import render

from . import closed_form, networks, processes
from .plan import Benchmark
from .report import Measured, document

BENCHMARKS: dict[str, Callable[[], Benchmark]] = {
    "closed_form": closed_form.variants,
    "image_size": closed_form.sizes,
    "ablation_grid": closed_form.grid,
    "search": closed_form.search,
    "against_fvcore": processes.against_fvcore,
    "start": processes.start,
    "fused": networks.fused,
}
"""Each benchmark by name; a new one is a function in a file of this folder and a line here."""

REPORTS = Path(__file__).parent.parent.parent / "reports"


def main(names: list[str]) -> None:
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
    result = document(" ".join(["python -m tests.benchmarks", *names]), measured)
    text = render(result, "markdown")
    sys.stdout.write(text)
    if not names:
        (REPORTS / "benchmarks.md").write_text(f"# Benchmarks\n\n{text}", encoding="utf-8")
        (REPORTS / "benchmarks.json").write_text(render(result, "json"), encoding="utf-8")


try:
    main(sys.argv[1:])
except UsageError as error:
    sys.stderr.write(f"Error: {error}\n")
    sys.exit(error.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
