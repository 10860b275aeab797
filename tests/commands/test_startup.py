"""Closed-form answers start fast because they import nothing heavy: what a fresh process has loaded when it is done."""

import json
import sys
from pathlib import Path

import pytest
from commandline import run
from PIL import Image

from mpvit.render import FORMATS

HEAVY = {"torch", "numpy", "matplotlib", "einops", "fvcore", "thop", "PIL", "safetensors"}

COMMAND = """
import sys
from mpvit_cli.main import main
sys.argv[0] = "mpvit"
main()
"""

LOADED = """
import sys
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def heavy_after(code: str, *arguments: str) -> set[str]:
    """The heavy packages that a fresh process has imported after it ran ``code``."""
    outcome = run(*arguments, command=(sys.executable, "-c", code + LOADED))
    assert outcome.code == 0
    return HEAVY & set(outcome.err.splitlines()[-1].split())


CLOSED_FORM = [
    ["--version"],
    ["--help"],
    ["flops", "--help"],
    ["predict", "--help"],
    ["export", "--help"],
    *[["flops", "--format", form] for form in FORMATS],
    ["flops", "--variant", "tiny", "--check", "--by", "layer"],
    ["flops", "--variant", "xsmal"],
    ["flops", "--task", "all", "--check"],
    ["flops", "--task", "all", "--by", "part", "--format", "json"],
    ["compare-attn", "--tokens", "3136"],
    ["memory", "--budget", "24GiB"],
    ["memory", "--variant", "tiny", "--dtype", "bfloat16", "--format", "json"],
    ["ablate", "--help"],
    ["ablate", "paths=2", "attention", "--match", "macs"],
    ["ablate", "local", "--format", "json"],
    ["search", "--help"],
    ["search", "--max-macs", "3G", "--max-params", "11M"],
    ["search", "--max-macs", "2G", "--criterion", "macs", "--format", "json"],
    ["reconcile", "--help"],
    ["reconcile", "--variant", "all", "--layout", "published"],
    ["paths", "--help"],
    ["paths", "--view", "geometry", "--variant", "xsmall"],
    ["layers", "--help"],
    ["layers", "--task", "mask-rcnn", "--variant", "tiny", "--format", "json"],
    ["memory", "--task", "semantic-fpn", "--variant", "tiny"],
    ["reconcile", "--task", "retinanet", "--variant", "tiny"],
    ["compare-attn", "--task", "upernet"],
    ["layers", "--backward", "--sort", "bytes"],
    ["layers", "--variant", "tiny", "--format", "json"],
]

ONE_AFTER_ANOTHER = """
import json
import sys
from mpvit_cli.main import main
*commands, heavy = map(json.loads, sys.argv[1:])
for command in commands:
    sys.argv = ["mpvit", *command]
    main()
    found = [name for name in heavy if name in sys.modules]
    assert not found, (command, found)
"""


def test_closed_form_answers_import_nothing_heavy() -> None:
    """In one process, as what is imported stays imported: the first command that does is named."""
    arguments = [json.dumps(command) for command in [*CLOSED_FORM, sorted(HEAVY)]]
    outcome = run(*arguments, command=(sys.executable, "-c", ONE_AFTER_ANOTHER))
    assert outcome.code == 0, outcome.err[-400:]


@pytest.mark.parametrize(
    "code", ["import mpvit", "import mpvit; assert mpvit.count('xsmall').agrees", "import mpvit; dir(mpvit)"]
)
def test_nor_does_the_library(code: str) -> None:
    assert heavy_after(code) == set()


def test_a_command_imports_no_other() -> None:
    code = (
        COMMAND
        + "assert [name for name in sys.modules if name.startswith('mpvit_cli.commands.')] == ['mpvit_cli.commands.flops']"
    )
    assert heavy_after(code, "flops") == set()


def test_what_needs_a_network_does() -> None:
    """The tests above would notice."""
    assert {"torch", "einops"} <= heavy_after("import mpvit; mpvit.build_model")


def test_predict_loads_no_compiler_of_torch(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    code = COMMAND + "assert not {'sympy', 'torch._dynamo', 'onnx'} & sys.modules.keys()"
    assert "torch" in heavy_after(code, "predict", str(tmp_path / "black.png"), "--variant", "digits-nano")
