"""Each kind of network that people bring is counted, or gives one line that says which and why."""

import json
import shutil
from pathlib import Path

import pytest
from commandline import call

from mpvit_cli.options.user_model import complete_input, complete_model

KINDS = "kinds_of_network"
FILE = Path(__file__).parents[1] / f"{KINDS}.py"

pytestmark = pytest.mark.filterwarnings("ignore:.*(weight_norm|torch.jit|torch.ao|torch.quantize|lazy|Lazy|flex_attention).*")


def answer(command: str, name: str, *words: str) -> list[dict[str, object]]:
    outcome = call(command, "--model", f"{KINDS}:{name}", *(words or ("--input", "2x4")), "--format", "json")
    assert outcome.code == 0, outcome.err
    rows: list[dict[str, object]] = json.loads(outcome.out)["results"]
    return rows


COUNTED = {
    "Plain": (2 * 4 * 4, 20),
    "DropPath": (2 * 4 * 4, 20),
    "ReadsItsWeights": (2 * 4 * 4, 20),
    "Talking": (2 * 4 * 4, 20),
    "DataDependent": (2 * 4 * 4 + 2 * (2 * 4), 20),
    "Lazy": (2 * 4 * 4, 28),
    "OldWeightNorm": (2 * 4 * 4, 24),
    "ReturnsOutput": (2 * 4 * 4, 20),
    "HoldsALock": (2 * 4 * 4, 20),
    "compiled": (2 * 4 * 4, 20),
    "holds_compiled": (2 * 4 * 4, 20),
    "compiled_in_place": (2 * 4 * 4, 20),
}
"""MACs and parameters, by hand."""


@pytest.mark.parametrize("name", COUNTED)
def test_kinds_of_networks_are_counted(name: str) -> None:
    root = answer("layers", name)[0]
    assert (root["macs"], root["params"]) == COUNTED[name]


@pytest.mark.parametrize("name", COUNTED)
def test_kinds_of_networks_are_trained(name: str) -> None:
    (row,) = answer("memory", name)
    assert (row["params"], row["gradient_bytes"]) == (COUNTED[name][1], 4 * COUNTED[name][1])


@pytest.mark.parametrize("name", [name for name in COUNTED if name != "HoldsALock"])
def test_torchs_counter_agrees_on_meta_and_on_the_cpu(name: str) -> None:
    (row,) = answer("reconcile", name, "--input", "2x4", "--live", "--tool", "torch")
    assert row["live_macs"] == COUNTED[name][0]


REFUSED = {
    "scripted": (
        1,
        (
            "kinds_of_network:scripted is a scripted or traced module: its calls run in torch's interpreter, "
            "which cannot be traced"
        ),
    ),
    "holds_traced": (
        1,
        (
            "layer '0' (TopLevelTracedModule) of kinds_of_network:holds_traced is a scripted or traced module: its calls run "
            "in torch's interpreter, which cannot be traced"
        ),
    ),
    "quantized": (
        1,
        (
            "layer '0' (Linear) of kinds_of_network:quantized is quantized: it multiplies packed whole numbers, "
            "which no convention counts"
        ),
    ),
    "Flex": (
        1,
        ("kinds_of_network:Flex failed on 2×4: it calls flex_attention, which takes a function: no counter can look into that"),
    ),
    "Raising": (1, "kinds_of_network:Raising failed on 2×4: OwnError: mine"),
    "Leaving": (1, "kinds_of_network:Leaving failed on 2×4: SystemExit: 3"),
    "exits": (1, "model 'kinds_of_network:exits' failed: SystemExit: 3"),
    "raises": (1, "model 'kinds_of_network:raises' failed: OwnError: mine"),
    "Inner": (
        1,
        (
            "kinds_of_network:Inner failed on 2×4 in layer 'blocks.1.1' (Linear on 2×5): RuntimeError: mat1 and mat2 shapes "
            "cannot be multiplied (2x5 and 4x5)"
        ),
    ),
    "Named": (2, "the forward of kinds_of_network:Named, called on 2×4: missing a required argument: 'pixels'"),
}
"""The exit code, and the line."""


@pytest.mark.parametrize("command", ["layers", "memory", "reconcile"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_networks_are_named_with_the_reason(name: str, command: str) -> None:
    outcome = call(command, "--model", f"{KINDS}:{name}", "--input", "2x4")
    code, line = REFUSED[name]
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.splitlines()[0] == f"Error: {line}"
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("command", [["layers"], ["memory"], ["reconcile", "--live", "--tool", "torch,thop"]], ids=" ".join)
def test_output_of_user_code_goes_to_stderr(command: list[str]) -> None:
    outcome = call(*command, "--model", f"{KINDS}:Talking", "--input", "2x4", "--format", "json")
    assert json.loads(outcome.out)["results"]
    assert "from the factory\n" in outcome.err
    assert "from the forward\n" in outcome.err


def test_verbose_tells_how_a_network_is_made() -> None:
    words = ("layers", "--model", f"{KINDS}:ReadsItsWeights", "--input", "2x4")
    said = "its factory needs the values of its parameters, so they were made"
    assert said in call("-v", *words).err
    assert said not in call(*words).err


@pytest.mark.parametrize("kind", ["LSTM", "EmbeddingBag"])
def test_verbose_tells_what_runs_on_the_cpu(kind: str) -> None:
    sizes, shape = (("input_size=3", "hidden_size=5"), "2x5x3") if kind == "LSTM" else (("10", "4"), "2x5:int64")
    names = ("", "") if kind == "LSTM" else ("num_embeddings=", "embedding_dim=")
    arguments = [word for name, size in zip(names, sizes, strict=True) for word in ("--arg", name + size)]
    assert "runs on the CPU" in call("-v", "memory", "--model", f"torch.nn:{kind}", *arguments, "--input", shape).err


def test_an_interrupt_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt")
    assert call("layers", "--model", f"{tmp_path / 'interrupted.py'}:Net").code == 130


def test_a_file_can_import_the_modules_next_to_it(tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path / "a neighbour.py")
    (tmp_path / "neighbour.py").write_text("WIDTH = 7")
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nimport neighbour\ndef net(): return nn.Linear(4, neighbour.WIDTH)\n"
    )
    outcome = call("layers", "--model", f"{tmp_path / 'nets.py'}:net", "--input", "2x4", "--format", "json")
    assert json.loads(outcome.out)["results"][0]["macs"] == 2 * 4 * 7
    assert call("layers", "--model", f"{tmp_path / 'a neighbour.py'}:Plain", "--input", "2x4").code == 0


@pytest.mark.parametrize(
    ("words", "macs"),
    [
        (["--input", "pixels=3x4"], 3 * 4 * 4),
        (["--input", "tokens=3:int64", "--input", "pixels=3x4"], 3 * 4 * 4),
        (["--input", "pixels=3x4", "--input", "tokens=3:int64"], 3 * 4 * 4),
        (["--input", "3:int64", "--input", "pixels=3x4"], 3 * 4 * 4),
    ],
    ids=str,
)
def test_inputs_by_name_reach_the_network_and_every_tool(words: list[str], macs: int) -> None:
    assert answer("layers", "Named", *words)[0]["macs"] == macs
    assert answer("memory", "Named", *words)[0]["params"] == 60
    rows = answer("reconcile", "Named", *words, "--live")
    ran = {row["tool"]: row["live_macs"] for row in rows if row["installed_version"]}
    assert (ran["torch"], ran["fvcore"], ran["thop"], ran["calflops"]) == (macs, macs, macs, macs)


def test_the_hint_names_a_missing_argument() -> None:
    outcome = call("layers", "--model", f"{KINDS}:Named", "--input", "2:int64")
    assert outcome.err.splitlines()[1] == "Hint: add an input: pixels=SHAPE"


def test_the_shell_completes_files_their_networks_and_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text("raise SystemExit\nclass Net: ...\ndef narrow(): ...\ndef _own(): ...\n")
    (tmp_path / "network").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete_model("ne") == ["nets.py:", "network/"]
    assert complete_model("nets.py:") == ["nets.py:Net", "nets.py:narrow"]
    assert complete_model("nets:n") == ["nets:narrow"]
    assert complete_model("nowhere:n") == complete_input("tokens=1x1") == []
    assert complete_input("tokens=1x128:int") == ["tokens=1x128:int64", "tokens=1x128:int32"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([f"{KINDS}:Named", "--input", "pixel=2x4"], 2, "unknown argument of the forward of kinds_of_network:Named 'pixel'"),
        ([f"{KINDS}:Named", "--input", "pixels=2x4", "--input", "pixels=2x4"], 2, "must be given once"),
        ([f"{KINDS}:Named", "--input", "pixels=2x4", "--input", "2:int64"], 2, "must come before the named ones"),
        ([f"{KINDS}:Plain", "--input", "2x4", "--input", "2x4"], 2, "too many positional arguments"),
        ([f"{KINDS}:Plain", "--input", "a b=2x4"], 2, "cannot be the name of an argument"),
        ([f"{KINDS}:Plain", "--input", "=2x4"], 2, "cannot be the name of an argument"),
        ([f"{KINDS}:Plain", "--input", "x="], 2, "must be whole numbers of at least 1"),
        ([f"{KINDS}:Plain", "--input", "2x4:"], 2, "unknown dtype ''"),
        ([f"{KINDS}:Plain", "--input", "0x4"], 2, "must be whole numbers of at least 1"),
        (["missing.py:Plain"], 2, "there is no file 'missing.py'"),
        (["no/such:Plain"], 2, "cannot import no/such"),
        ([".:Plain"], 1, "cannot import ."),
        ([f"{FILE}:Plane"], 2, "did you mean 'Plain'?"),
        ([f"{FILE}:"], 2, "must be package.module:name or file.py:name"),
        ([f"{KINDS}:Plain", "--arg", f"width={'[' * 5000}"], 1, "failed: TypeError"),
    ],
    ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else None,
)
def test_wrong_options_get_one_line(words: list[str], code: int, said: str) -> None:
    outcome = call("layers", "--model", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith(("Error: ", "Traceback"))]) == 1


UGLY_FILES = {
    "syntax": ("def (", "SyntaxError: invalid syntax"),
    "leaving": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "own": ("class E(BaseException): pass\nraise E('mine')", "E: mine"),
    "speechless": ("class E(Exception):\n  def __str__(self): raise ValueError\nraise E", ": E"),
    "deep": ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
    "importing": ("import no_such_package_at_all", "ModuleNotFoundError: No module named 'no_such_package_at_all'"),
    "null": ("\0", "SyntaxError: source code string cannot contain null bytes"),
}


@pytest.mark.parametrize("name", UGLY_FILES)
def test_a_file_that_cannot_be_imported_gets_one_line(name: str, tmp_path: Path) -> None:
    text, said = UGLY_FILES[name]
    (tmp_path / "ugly.py").write_text(text)
    outcome = call("layers", "--model", f"{tmp_path / 'ugly.py'}:Net")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines()[0].endswith(said) or said in outcome.err.splitlines()[0]
    assert "Traceback" not in outcome.err
