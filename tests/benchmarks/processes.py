"""Whole processes, from the shell's point of view: Python's start, imports, the work and the exit."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from .plan import Benchmark, Ratio

MPVIT = str(Path(sys.executable).with_name("mpvit"))
FLOPS = (MPVIT, "flops", "--variant", "xsmall")

BY_FVCORE = """
import torch
from fvcore.nn import FlopCountAnalysis
import mpvit

model = mpvit.build_model("xsmall").eval()
print(FlopCountAnalysis(model, torch.zeros(1, 3, 224, 224)).total())
"""


def against_fvcore() -> Benchmark:
    """The command against a script that runs fvcore on the same network; both print 2 971 396 560."""
    ours, theirs = "mpvit flops --variant xsmall", "a script that runs fvcore"
    cases = {ours: partial(_run, *FLOPS), theirs: partial(_run, sys.executable, "-c", BY_FVCORE)}
    return Benchmark(cases, (Ratio(ours, theirs, at_most=0.1),), min_samples=7)


def start() -> Benchmark:
    """What a person waits for before anything happens."""
    torch, nothing = "python -c 'import torch'", "python -c pass"
    cases = {
        "mpvit --help": partial(_run, MPVIT, "--help"),
        "mpvit flops --variant xsmall": partial(_run, *FLOPS),
        "mpvit compare-attn --tokens 3136": partial(_run, MPVIT, "compare-attn", "--tokens", "3136"),
        torch: partial(_run, sys.executable, "-c", "import torch"),
        nothing: partial(_run, sys.executable, "-c", "pass"),
    }
    ratios = [Ratio(of, to) for of in list(cases)[:3] for to in (torch, nothing)]
    return Benchmark(cases, tuple(ratios), min_samples=11)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
