"""A network of ten billion parameters, 40 GB, is counted in the memory of a small one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LARGE = """
import torch
from torch import nn
class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 100)]
        self.layers = nn.ModuleList(nn.Linear(10_000, 10_000, bias=False) for _ in range(100))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
"""

# Not getrusage: its peak is handed down from the process that started this one, which is as large as all tests before it.
MEASURED = r"""
import json, re, sys
from pathlib import Path
from mpvit_cli.main import main
code = main()
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([code, int(peak[1])]), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "field", "figure"),
    [
        (["layers"], "macs", 2 * 10**10),
        (["memory"], "params_bytes", 4 * 10**10),
        (["reconcile", "--live", "--tool", "torch"], "live_macs", 2 * 10**10),
        (["reconcile", "--live", "--tool", "thop"], "live_macs", 2 * 10**10),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_ten_billion_parameters_take_no_memory(command: list[str], field: str, figure: int, tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text(LARGE)
    words = [*command, "--model", "large.py:Large", "--input", "2x10000", "--format", "json"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    code, kibibytes = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert json.loads(done.stdout)["results"][0][field] == figure
    assert kibibytes < 2**20  # 1 GiB
