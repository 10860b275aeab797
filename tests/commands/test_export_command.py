"""``mpvit export``, and what ``predict`` and ``eval`` do with its files and with those of others."""

import io
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from chosen import chosen
from commandline import call, rows
from exports import METADATA, SMALL, foreign, network
from PIL import Image

from mpvit import imports
from mpvit.export import SUFFIXES

CONFIG = "num_classes = 2\n[[stages]]\npaths = 1\nlayers = 1\ndim = 8\nheads = 2\nmlp_ratio = 1\n"
MINE = "export --random-init --config mine.toml --size 32"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").convert("RGB").save("cat.png")
    Image.radial_gradient("L").convert("RGB").resize((50, 70)).save("dog.png")
    (tmp_path / "mine.toml").write_text(CONFIG)
    return tmp_path


# ── exporting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_custom_network_is_exported_and_compared_with_torch(folder: Path) -> None:
    found = rows(call(*shlex.split(f"{MINE} --batch 2 -o a.pt2 --format json")))
    assert [(row["table"], row["target"], row["input_shape"], row["dtype"]) for row in found] == [
        ("differences", "pt2", [2, 3, 32, 32], "float32")
    ]
    assert found[0]["absolute_difference"] <= 1e-5
    assert found[0]["bytes"] == (folder / "a.pt2").stat().st_size
    names = call("predict", "cat.png", "--weights", "a.pt2", "--format", "json")
    assert {row["class_name"] for row in rows(names)} == {"class 0", "class 1"}


def test_nothing_is_written_if_the_engine_differs_from_torch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvit.export.convert.TOLERANCES", {"float16": 0.0})
    done = call(*shlex.split(f"{MINE} --dtype float16 -o a.pt2"))
    assert done.code == 1
    assert re.match(
        r"Error: torch .* on 1×3×32×32, float16: its logits are .* from torch's, more than 0: not written\n", done.err
    )
    assert not (folder / "a.pt2").exists()


UGLY = {
    "": ("no file to write to", "name one with -o"),
    "-o a.bin": ("'a.bin': must end in .onnx, .xml, .pt2", "--to"),
    "-o a.onnx --to onxx": ("unknown target 'onxx'", "'onnx'"),
    "-o a.onnx --to openvino": ("'a.onnx' with --to openvino: must end in .xml", ""),
    "-o a.onnx --dtype bfloat16": ("unknown dtype 'bfloat16'", "'float16'"),
    "-o a.onnx --dynamic batch,sise": ("unknown dynamic 'sise'", "'size'"),
    "-o a.onnx --batch 0": ("batch = 0: must be at least 1", ""),
    "-o a.onnx --size 0": ("a side must be from 1", ""),
    "-o a.onnx --dtype int8": ("--dtype int8: needs images", "--data"),
    "-o a.pt2 --dtype int8 --data digits": ("dtype int8 with target pt2: torch has no quantiser of its own", "onnx, openvino"),
    "-o a.onnx --random-init --weights b.pth": ("--random-init with --weights b.pth", ""),
    "-o a.onnx --config mine.toml": ("--config mine.toml: needs --random-init", ""),
    "-o a.onnx --random-init --variant tinny": ("unknown variant 'tinny'", "'tiny'"),
    "-o a.onnx --variant digits-nano --data digits --size 32x64": ("size = 32×64 with data: must be square", ""),
    "-o a.onnx --variant digits-nano --data digits --dtype int8 --calibration 0": (
        "calibration = 0: must be at least 1",
        "256",
    ),
    "-o a.onnx --variant digits-nano --data nowhere --dtype int8": ("data 'nowhere': is not a folder", ""),
}


@pytest.mark.parametrize("options", UGLY)
def test_invalid_options_give_one_line_and_a_hint(options: str, folder: Path) -> None:
    said, hint = UGLY[options]
    done = call("export", *options.split())
    assert done.code == 2
    assert done.out == ""
    error, *rest = done.err.splitlines()
    assert error.startswith("Error: ")
    assert said in error
    assert hint in "".join(rest)
    assert len(rest) <= 1
    assert sorted(path.name for path in folder.iterdir()) == ["cat.png", "dog.png", "mine.toml"]


@pytest.mark.parametrize(("suffix", "library"), [(".onnx", "onnxscript"), (".xml", "openvino")])
def test_a_missing_library_gives_the_command_that_installs_it(
    suffix: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "find_spec", lambda name: None if name == library else find_spec(name))
    done = call("export", "--variant", "digits-nano", "-o", f"a{suffix}")
    assert done.code == 1
    assert done.err == (f"Error: {library} is not installed\nHint: pip install 'mpvit[export]' installs it\n")


@pytest.mark.parametrize("target", ["no/folder/a.pt2", "taken.pt2"])
def test_a_failed_write_leaves_nothing(target: str, folder: Path) -> None:
    (folder / "taken.pt2").mkdir()
    done = call(*shlex.split(f"{MINE} -o {target}"))
    assert done.code == 1
    assert f"cannot write '{target}'" in done.err or f"cannot write '{folder / target}'" in done.err
    assert sorted(path.name for path in folder.iterdir()) == ["cat.png", "dog.png", "mine.toml", "taken.pt2"]


# ── predicting ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", chosen(SUFFIXES, ".xml"))
def test_an_exported_file_predicts_what_its_weights_predict(suffix: str, exported: Path) -> None:
    answers = [
        rows(call(*f"predict cat.png dog.png cat.png --weights {exported / name} --format json".split()))
        for name in ("small.safetensors", f"small{suffix}")
    ]
    for wanted, given in zip(*answers, strict=True):
        assert [given[name] for name in ("image", "rank", "class_index", "class_name")] == [
            wanted[name] for name in ("image", "rank", "class_index", "class_name")
        ]
        assert given["class_name"] in (METADATA.classes or ())
        assert given["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
        assert wanted["engine"] == "torch"
        assert given["engine"].partition(" ")[0] in ("onnxruntime", "openvino", "torch")


def test_an_onnx_file_of_another_program_is_used(folder: Path) -> None:
    """Its class 3 has the largest column: means of red, green and blue times 3, 7 and 11."""
    (folder / "theirs.onnx").write_bytes(foreign(["n", 3, "h", "w"]))
    Image.new("RGB", (8, 8), "white").save("white.png")
    done = call("predict", "white.png", "--weights", "theirs.onnx", "--format", "json")
    assert [row["class_index"] for row in rows(done)] == [3, 2, 1, 0]
    assert "classes and preprocessing: those of ImageNet" in call("predict", "cat.png", "--weights", "theirs.onnx").err


def truncated(name: str, share: float) -> Callable[[Path, Path], None]:
    def damage(exported: Path, here: Path) -> None:
        data = (exported / name).read_bytes()
        for path in exported.iterdir():
            shutil.copy(path, here)
        (here / name).write_bytes(data[: int(share * len(data))])

    return damage


def holding(*names: str, data: bytes) -> Callable[[Path, Path], None]:
    def write(_: Path, here: Path) -> None:
        for name in names:
            (here / name).write_bytes(data)

    return write


def only(*names: str) -> Callable[[Path, Path], None]:
    def copy(exported: Path, here: Path) -> None:
        for name in names:
            shutil.copy(exported / name, here)

    return copy


def weights_as_onnx(exported: Path, here: Path) -> None:
    shutil.copy(exported / "small.safetensors", here / "a.onnx")


def a_folder(_: Path, here: Path) -> None:
    (here / "a.onnx").mkdir()


def with_metadata(key: str, text: str) -> Callable[[Path, Path], None]:
    def change(exported: Path, here: Path) -> None:
        model = onnx.load(exported / "small.onnx")
        known = {each.key: each.value for each in model.metadata_props}
        onnx.helper.set_model_props(model, known | {key: text})
        onnx.save(model, here / "small.onnx")

    return change


def another_bin(exported: Path, here: Path) -> None:
    only("small.xml", "small.bin")(exported, here)
    data = bytearray((here / "small.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (here / "small.bin").write_bytes(data)


def archive() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        made.writestr("hello", "world")
    return data.getvalue()


DAMAGED: dict[str, tuple[str, Callable[[Path, Path], None], str]] = {
    "not there": ("none.onnx", only(), "cannot read weights 'none.onnx': No such file"),
    "a folder": ("a.onnx", a_folder, "cannot read weights 'a.onnx': Is a directory"),
    "empty": ("a.onnx", holding("a.onnx", data=b""), "onnxruntime cannot open it"),
    "text": ("a.onnx", holding("a.onnx", data=b"hello" * 99), "onnxruntime cannot open it"),
    "truncated onnx": ("small.onnx", truncated("small.onnx", 0.6), "onnxruntime cannot open it"),
    "weights called onnx": ("a.onnx", weights_as_onnx, "onnxruntime cannot open it"),
    "pixels last": ("a.onnx", holding("a.onnx", data=foreign(["n", "h", "w", 3])), "its input is ?×?×?×3: must be images"),
    "no images": ("a.onnx", holding("a.onnx", data=foreign(["n", 7])), "its input is ?×7: must be images"),
    "bytes": ("a.onnx", holding("a.onnx", data=foreign(["n", 3, "h", "w"], kind=2)), "it takes x tensor(uint8): must take one"),
    "grey images": ("a.onnx", holding("a.onnx", data=foreign(["n", 1, "h", "w"])), "in_channels = 1: must be 3"),
    "no square": ("a.onnx", holding("a.onnx", data=foreign(["n", 3, 32, 64])), "the file takes only width = 64"),
    "classes are no list": ("small.onnx", with_metadata("mpvit.classes", "{"), "carries metadata that cannot be read"),
    "too few classes": ("small.onnx", with_metadata("mpvit.classes", '["a"]'), "names 1 classes, its network has 3"),
    "another configuration": (
        "small.onnx",
        with_metadata("mpvit.config", json.dumps(asdict(replace(SMALL, num_classes=9)))),
        "is damaged: its network takes 3 channels to 3 classes, its configuration 3 to 9",
    ),
    "xml without bin": ("small.xml", only("small.xml"), "small.bin', which belongs to small.xml: No such file"),
    "xml of nothing": ("a.xml", holding("a.xml", "a.bin", data=b"<a/>"), "OpenVINO cannot open it"),
    "truncated xml": ("small.xml", truncated("small.xml", 0.5), "OpenVINO cannot open it"),
    "truncated bin": ("small.xml", truncated("small.bin", 0.5), "'small.xml': "),
    "bin instead of xml": ("small.bin", only("small.xml", "small.bin"), "'small.bin' holds only the numbers of an exported"),
    "another bin": ("small.xml", another_bin, "its .bin is another one"),
    "truncated pt2": ("small.pt2", truncated("small.pt2", 0.7), "torch cannot open it"),
    "any archive": ("a.pt2", holding("a.pt2", data=archive()), "torch cannot open it"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_useless_file_gives_one_line_and_a_hint(case: str, exported: Path, folder: Path) -> None:
    name, damage, said = DAMAGED[case]
    damage(exported, folder)
    done = call("predict", "cat.png", "--weights", name)
    assert done.code in (1, 2)
    assert done.out == ""
    error, *rest = done.err.splitlines()
    assert error.startswith("Error: ")
    assert said in error
    assert len(rest) <= 1
    assert all(line.startswith("Hint: ") for line in rest)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--size 64", "the file takes only height = 32"),
        ("--variant tiny", "holds another network, by the configuration in it"),
        ("--classes mine.toml", "7 lines, the network has 3 classes"),
    ],
)
def test_options_that_contradict_the_file_are_refused(options: str, said: str, exported: Path) -> None:
    done = call("predict", "cat.png", "--weights", str(exported / "small.onnx"), *options.split())
    assert done.code == 2
    assert said in done.err


def test_commands_that_look_inside_a_network_refuse_an_exported_one(exported: Path) -> None:
    done = call("paths", "--weights", str(exported / "small.onnx"), "--view", "similarity")
    assert done.code == 1
    assert "is an exported network, which only its engine can run: must be weights here" in done.err


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_commands_describe_an_exported_file(suffix: str, exported: Path) -> None:
    path = exported / f"small{suffix}"
    (row,) = rows(call("weights", "inspect", str(path), "--format", "json"))
    beside = path.with_suffix(".bin").stat().st_size if suffix == ".xml" else 0
    assert (row["layout"], row["bytes"]) == (SUFFIXES[suffix], path.stat().st_size + beside)
    assert row["params"] == sum(each.numel() for each in network().parameters())
    assert row["classes"] == list(METADATA.classes or ())
    assert row["trained"]["top1"] == 0.9
    assert call("weights", "verify", str(path)).code == 0
    assert call("weights", "verify", str(path), "--variant", "tiny").code == 3
    assert "is an exported network" in call("weights", "convert", str(path), "--to", "published", "-o", "a.pth").err


# ── images ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_smaller_dtypes_lose_at_most_one_point_on_the_digits(suffix: str, dtype: str) -> None:
    command = f"export --variant digits-nano --dtype {dtype} --data digits --calibration 64 -o a{suffix} --format json"
    found = rows(call(*command.split()))
    before, after = (row for row in found if row["table"] == "accuracy")
    assert (before["dtype"], after["dtype"]) == ("float32", dtype)
    assert before["images"] == after["images"] == 360
    assert after["top1"] >= before["top1"] - 0.01
    assert after["top1_low"] < after["top1"] < after["top1_high"]
    again = rows(call("eval", "digits", "--weights", f"a{suffix}", "--format", "json"))
    assert again[0]["top1"] == after["top1"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_engine_classifies_the_digits_equally_well(suffix: str) -> None:
    """``digits-nano`` knows 358 of 360, as its file says."""
    assert call("export", "--variant", "digits-nano", "-o", f"a{suffix}").code == 0
    found = rows(call("eval", "digits", "--weights", f"a{suffix}", "--format", "json"))
    assert round(found[0]["top1"] * 360) == 358
