import csv
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden import published_tensors
from matplotlib.cbook import get_sample_data
from PIL import Image

from mpvit import VARIANTS, build_model, load_weights, save_weights
from mpvit.architecture.variants import SHIPPED
from mpvit_cli.main import main

PHOTO = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
UNTRAINED = "The network is untrained: its classes mean nothing."


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run ``mpvit`` in this process, with an empty cache folder and in ``tmp_path``."""
    for name in [name for name in os.environ if name.startswith("MPVIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MPVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["mpvit", *map(str, words)])
        code = main()
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "golden.pth"
    torch.save({"model": published_tensors("tiny")}, path)
    return path


NANO = ("--variant", "digits-nano")
"""A network with ten classes, which takes milliseconds."""


def error_lines(answer: Answer) -> tuple[str, str]:
    """Expect no data, and nothing on stderr but one error and at most one hint; return the two."""
    first, *rest = answer.err.splitlines()
    assert answer.out == ""
    assert first.startswith("Error: ")
    assert len(rest) <= 1
    assert all(line.startswith("Hint: ") for line in rest)
    return first.removeprefix("Error: "), "".join(rest).removeprefix("Hint: ")


def probabilities(checkpoint: Path) -> list[float]:
    """Return the golden network's probabilities for the photograph, with the published preprocessing written out."""
    model = build_model("tiny").eval()
    load_weights(model, checkpoint)
    with Image.open(PHOTO) as photo:
        pixels = np.asarray(photo.resize((256, 300), Image.Resampling.BICUBIC))[38:262, 16:240] / 255
    shown = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        logits = model(torch.tensor(shown, dtype=torch.float32).permute(2, 0, 1)[None])[0]
    values: list[float] = (logits.double().exp() / logits.double().exp().sum()).tolist()
    return values


def test_a_real_photograph_with_golden_weights(run: Run, checkpoint: Path) -> None:
    answer = run("predict", PHOTO, "--weights", checkpoint, "--variant", "tiny", "--top", 3, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    content = json.loads(answer.out)
    assert content["schema_version"] == 1
    assert content["command"] == "predict"
    environment = content["environment"]
    assert (environment["device"], environment["dtype"]) == ("cpu", "float32")
    assert environment["threads"] == torch.get_num_threads()
    expected = probabilities(checkpoint)
    best = sorted(range(1000), key=lambda index: -expected[index])[:3]
    assert [row["class_index"] for row in content["results"]] == best
    assert [row["rank"] for row in content["results"]] == [1, 2, 3]
    for row in content["results"]:
        assert row["probability"] == pytest.approx(expected[row["class_index"]], rel=2e-5)
        assert (row["image"], row["model"], row["weights"]) == (str(PHOTO), "tiny", str(checkpoint))
        assert (row["trained"], row["error"]) == (True, None)
    assert content["results"][1]["class_name"] == "bow tie"  # line 458 of imagenet1k_classes.txt
    assert best[1] == 457


def test_an_untrained_network_comes_with_a_note_that_it_means_nothing(run: Run) -> None:
    answer = run("predict", PHOTO, "--random-init", *NANO, "--format", "json")
    assert (answer.code, answer.err) == (0, f"{UNTRAINED}\n")
    content = json.loads(answer.out)
    assert content["notes"] == [UNTRAINED]
    assert [(row["trained"], row["weights"]) for row in content["results"]] == [(False, None)] * 5
    table = run("predict", PHOTO, "--random-init", *NANO)
    assert (table.code, table.err) == (0, f"{UNTRAINED}\n")
    assert "digits-nano, random weights" in table.out


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder with two images, a broken one and a text, and a third image one folder down."""
    (tmp_path / "album" / "more").mkdir(parents=True)
    for name in ("a.png", "d.gif", "more/e.webp"):
        Image.new("RGB", (20, 30), (200, 30, 10)).save(tmp_path / "album" / name)
    (tmp_path / "album" / "b.jpg").write_bytes(PHOTO.read_bytes()[:30_000])
    (tmp_path / "album" / "c.txt").write_text("no image")
    return tmp_path / "album"


def test_bad_images_are_named_and_the_others_are_printed(run: Run, album: Path) -> None:
    answer = run("predict", "missing.jpg", "album", *NANO, "--top", 2, "--batch", 2, "--format", "csv")
    assert answer.code == 1
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    names = [str(Path("album") / name) for name in ("a.png", "b.jpg", "d.gif", "more/e.webp")]
    assert list(dict.fromkeys(row["image"] for row in rows)) == ["missing.jpg", *names]
    assert [row["rank"] for row in rows] == ["", "1", "2", "", "1", "2", "1", "2"]
    assert {row["image"] for row in rows if row["error"]} == {"missing.jpg", "album/b.jpg"}
    first, second = answer.err.splitlines()
    assert first == "Error: cannot predict 'missing.jpg': No such file or directory"
    assert second.startswith("Error: cannot predict 'album/b.jpg': image file is truncated")
    assert album.is_dir()


def test_the_table_for_a_person(run: Run, album: Path) -> None:
    names = album / "names.txt"
    names.write_text("\n".join(f"[bold]thing {index}" for index in range(10)))
    answer = run("predict", album / "a.png", album / "b.jpg", *NANO, "--top", 2, "--classes", names)
    title, header, _, first, second, broken = answer.out.splitlines()
    assert title.startswith("digits-nano, weights ")
    assert header.split() == ["Image", "Rank", "Index", "Class", "Probability"]
    assert first.split()[:2] == [str(album / "a.png"), "1"]
    index = first.split()[2]
    assert first.split()[3:5] == ["[bold]thing", index]
    assert second.split()[0] == "2"
    assert broken.startswith(str(album / "b.jpg"))
    assert "image file is truncated" in broken


@pytest.mark.parametrize(
    ("suffix", "start"), [("json", "{"), ("csv", "image,"), ("md", "digits-nano, "), ("tex", "% digits-nano, ")]
)
def test_the_answer_in_a_file(suffix: str, start: str, run: Run, tmp_path: Path) -> None:
    answer = run("predict", PHOTO, *NANO, "-o", f"answer.{suffix}")
    assert answer == (0, "", f"wrote answer.{suffix}\n")
    assert (tmp_path / f"answer.{suffix}").read_text().startswith(start)


def test_a_safetensors_file_needs_no_variant(run: Run, tmp_path: Path) -> None:
    config = replace(SHIPPED["digits-nano"], num_classes=2)
    save_weights(build_model(config), tmp_path / "own.safetensors", classes=["ant", "bee"])
    answer = run("predict", PHOTO, "--weights", "own.safetensors", "--size", 32, "--format", "json")
    assert answer.code == 0
    results = json.loads(answer.out)["results"]
    assert sorted(row["class_name"] for row in results) == ["ant", "bee"]
    assert sum(row["probability"] for row in results) == pytest.approx(1)


def test_the_weights_in_the_cache_are_used(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mpvit_tiny.pth").symlink_to(checkpoint)
    answer = run("predict", PHOTO, "--variant", "tiny", "--size", 32)
    assert answer.code == 0
    assert "mpvit_tiny.pth" in answer.out


def test_without_weights_the_error_names_the_file_and_its_place(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/mpvit_xsmall.pth"
    monkeypatch.setitem(VARIANTS, "xsmall", replace(VARIANTS["xsmall"], weights_url=url))
    monkeypatch.setenv("no_proxy", "*")
    answer = run("predict", PHOTO)
    assert answer.code == 1
    error, hint = error_lines(answer)
    assert url in error
    assert str(tmp_path / "cache" / "mpvit_xsmall.pth") in hint
    assert "an untrained network" in hint


WRONG: dict[str, tuple[list[object], str, int]] = {
    "no image": (["predict"], "Missing argument", 2),
    "top": (["predict", PHOTO, "--top", "0"], "top = 0: must be at least 1", 2),
    "top, no number": (["predict", PHOTO, "--top", "x"], "Invalid value for '--top'", 2),
    "crop": (["predict", PHOTO, "--crop", "2"], "crop = 2.0: must be from 0.01 to 1", 2),
    "size": (["predict", PHOTO, "--size", "0"], "size = 0: must be at least 1", 2),
    "batch": (["predict", PHOTO, "--batch", "0"], "batch = 0: must be at least 1", 2),
    "device": (["predict", PHOTO, "--device", "gpu"], "device 'gpu': must be cpu, cuda, cuda:INDEX or mps", 2),
    "absent device": (["predict", PHOTO, "--device", "cuda:99"], "device 'cuda:99': torch finds no such device here", 2),
    "format": (["predict", PHOTO, "--format", "xml"], "unknown format 'xml'", 2),
    "variant": (["predict", PHOTO, "--variant", "tinny"], "unknown variant 'tinny'", 2),
    "both": (["predict", PHOTO, "--random-init", "--weights", "x"], "--random-init with --weights x: choose one of them", 2),
    "empty folder": (["predict", "."], "folder '.': holds no images", 2),
    "missing image": (["predict", "x.jpg"], "cannot predict 'x.jpg': No such file or directory", 1),
    "missing images": (
        ["predict", "x.jpg", "y.jpg"],
        "cannot predict 'x.jpg': No such file or directory, nor can the other 1",
        1,
    ),
    "missing weights": (["predict", PHOTO, "--weights", "x.pth"], "cannot read weights 'x.pth': No such file or directory", 1),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line(case: str, run: Run) -> None:
    words, complaint, code = WRONG[case]
    answer = run(*words)
    assert error_lines(answer)[0].startswith(complaint)
    assert answer.code == code


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"Dear reader,\n", "it is not an image"), (b"\xff", "it is not an image"), (b"", "the file is empty")],
    ids=["text", "one byte", "empty"],
)
def test_a_file_that_is_no_image_is_one_line(content: bytes, complaint: str, run: Run) -> None:
    Path("x.jpg").write_bytes(content)
    answer = run("predict", "x.jpg", *NANO, "--format", "json")
    assert answer.code == 1
    assert answer.err.startswith(f"Error: cannot predict 'x.jpg': {complaint}")
    assert len(answer.err.splitlines()) == 1
    (row,) = json.loads(answer.out)["results"]
    assert row["error"].startswith(complaint)
    assert (row["rank"], row["class_index"], row["class_name"], row["probability"]) == (None, None, None, None)


def test_weights_that_do_not_fit_are_one_line(run: Run) -> None:
    save_weights(build_model(SHIPPED["digits-nano"]), "whole.pth", layout="published")
    content = Path("whole.pth").read_bytes()
    Path("cut.pth").write_bytes(content[: len(content) // 2])
    tensors = torch.load("whole.pth")["model"]
    torch.save({"model": tensors | {"stem.0.conv.weight": torch.ones(1, 2)}}, "misshapen.pth")
    Path("text.pth").write_text("no weights")
    for file, complaint in (
        ("cut.pth", "cut.pth is damaged"),
        ("misshapen.pth", "misshapen.pth does not fit the network: 1 misshapen (stem.0.conv.weight: [1, 2], must be"),
        ("text.pth", "text.pth is not a weights file"),
    ):
        answer = run("predict", PHOTO, "--weights", file, *NANO)
        assert error_lines(answer)[0].startswith(complaint)
        assert answer.code == 1


def test_a_bad_file_of_classes_is_one_line(run: Run) -> None:
    Path("names.txt").write_text("cat\ndog\n")
    answer = run("predict", PHOTO, *NANO, "--classes", "names.txt")
    assert error_lines(answer)[0] == "class names 'names.txt': 2 lines, the network has 10 classes"
    assert answer.code == 2


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/dev/full", "No space left on device"), ("nowhere/x.json", "No such file or directory"), (".", "it is a folder")],
)
def test_an_answer_that_cannot_be_written_is_one_line(path: str, reason: str, run: Run) -> None:
    answer = run("predict", PHOTO, *NANO, "-o", path)
    assert error_lines(answer)[0] == f"cannot write {path!r}: {reason}"
    assert answer.code == 1


def test_help_has_units_defaults_and_two_examples(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    answer = run("predict", "--help")
    assert answer.code == 0
    assert answer.out.partition("Examples:")[2].count(" mpvit predict ") == 2
    for option in ("weights", "variant", "classes", "top", "crop", "size", "batch", "device", "random-init", "cache"):
        assert f"--{option} " in answer.out
    assert "(default: that of the weights, else 0.875)" in answer.out


def fresh(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=os.environ | environment, timeout=120
    )


def test_help_and_completion_import_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'PIL', 'matplotlib', 'platformdirs')"
    code = (
        f"import sys; from mpvit_cli.main import main; main(); print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = fresh("-c", code, "predict", "--help")
    assert (done.returncode, done.stderr) == (0, "[]\n")
    words = {"_MPVIT_COMPLETE": "complete_bash", "COMP_WORDS": "mpvit predict --variant x", "COMP_CWORD": "3"}
    program = "import sys; sys.argv = ['mpvit']; from mpvit_cli.main import main; main()"
    assert fresh("-c", program, **words).stdout.split() == ["xsmall"]


@pytest.mark.slow
def test_a_large_photograph_in_a_fresh_process_says_nothing_on_stderr(tmp_path: Path) -> None:
    """Pillow would print a warning from its limit on, here 100 pixels instead of 89 million."""
    Image.new("L", (12, 12), 128).save(tmp_path / "large.png")
    code = "from PIL import Image; Image.MAX_IMAGE_PIXELS = 100; import sys; from mpvit_cli.main import main; sys.exit(main())"
    words = ("predict", str(tmp_path / "large.png"), *NANO, "--top", "1")
    done = fresh("-c", code, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 4
