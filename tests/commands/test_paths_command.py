"""``mpvit paths`` as a person types it."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from commandline import call, rows
from image_folders import damage, photograph
from PIL import Image

from mpvit import build_model, save_weights
from mpvit.architecture.config import ModelConfig, StageConfig
from mpvit.training.data import open_data


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    open_data("digits").held_out.read(99).save("digit.png")
    return tmp_path


@pytest.mark.usefixtures("here")
def test_fields_of_the_network_that_comes_along() -> None:
    done = call("paths", "--format", "json", "--plot", "fields.svg")
    found = rows(done)
    assert [(row["stage"], row["path"], row["embedding_window"]) for row in found] == [
        (2, 1, 3),
        (3, 1, 3),
        (3, 2, 7),
        (3, 3, 11),
    ]
    for row in found:
        assert row["model"] == "digits-nano"
        assert row["trained"]
        assert (row["data"], row["pictures"]) == ("digits, held out", 32)
        assert 0 < row["effective_radius"] < row["receptive_field"] / 2
        assert row["image_size"] == [32, 32]
    assert "No network is named: this is digits-nano" in "".join(json.loads(done.out)["notes"])
    assert Path("fields.svg").read_text().count("<svg") == 1


@pytest.mark.usefixtures("here")
def test_the_geometry_is_that_of_fields_and_needs_no_weights() -> None:
    plain = rows(call("paths", "--view", "geometry", "--format", "json"))
    full = rows(call("paths", "--image", "digit.png", "--format", "json"))
    for few, many in zip(plain, full, strict=True):
        assert few["effective_radius"] is None
        assert {name: many[name] for name in few if name not in ("view", "effective_radius")} == {
            name: value for name, value in few.items() if name not in ("view", "effective_radius")
        }
    assert len(rows(call("paths", "--view", "geometry", "--variant", "base", "--format", "json"))) == 11


def test_silenced_branches_of_the_network_that_comes_along() -> None:
    """Intact it is right as often as mpvit eval says; the shares of a stage add up."""
    found = rows(call("paths", "--view", "contribution", "--format", "json"))
    (evaluated,) = rows(call("eval", "digits", "--variant", "digits-nano", "--format", "json"))
    assert {row["intact_top1"] for row in found} == {evaluated["top1"]}
    assert {row["images"] for row in found} == {360}
    for stage in (2, 3):
        own = [row for row in found if row["stage"] == stage]
        assert sum(row["share"] for row in own) == pytest.approx(1)
        assert sum(row["varying_share"] for row in own) == pytest.approx(1)
    for row in found:
        assert row["silenced_top1"] == pytest.approx(row["intact_top1"] + (row["gained"] - row["lost"]) / 360)
        assert row["silenced_top1_low"] < row["silenced_top1"] < row["silenced_top1_high"]
        assert (row["verdict"] == "no difference seen") == (row["p_value"] >= 0.05 / 6)
    assert found[0]["verdict"] == "worse"  # half of the digits are lost without the first stage's convolutions


@pytest.mark.usefixtures("here")
def test_similarity_as_csv_and_attention_of_one_picture() -> None:
    done = call("paths", "--view", "similarity", "--pictures", "40", "--format", "csv", "--plot", "similarity.pdf")
    assert done.code == 0, done.err
    pairs = list(csv.DictReader(io.StringIO(done.out)))
    assert len(pairs) == 8 * 9 // 2
    assert all(float(pair["cka"]) == pytest.approx(1) for pair in pairs if pair["first"] == pair["second"])
    assert Path("similarity.pdf").read_bytes()[:4] == b"%PDF"
    options = ("--stage", "3", "--path", "2", "--point", "16,20", "--plot", "heads.png", "--format", "json")
    found = rows(call("paths", "--view", "attention", "--image", "digit.png", *options))
    assert len(found) == 4 * 4
    assert all(row["rank"] <= row["head_dim"] < row["full_rank"] <= row["tokens"] for row in found)
    with Image.open("heads.png") as figure:
        assert figure.width > figure.height


@pytest.mark.usefixtures("here")
def test_an_untrained_network_says_that_only_the_geometry_means_something() -> None:
    done = call("paths", "--random-init", "--variant", "digits-nano", "--size", "32", "--format", "json")
    assert not any(row["trained"] for row in rows(done))
    assert "only the geometry" in done.err
    assert any("only the geometry" in note for note in json.loads(done.out)["notes"])


def test_own_pictures_in_classes_and_those_that_cannot_be_read(here: Path) -> None:
    photograph(here / "photos", 20)
    held_out = open_data("photos").held_out
    damage(here / "photos" / held_out.name(0))
    config = ModelConfig((StageConfig(2, 1, 8, 2, 1, attention="hydra"),), num_classes=2)
    torch.manual_seed(0)
    save_weights(build_model(config), here / "own.safetensors", classes=("china", "flower"))
    own = ("--weights", "own.safetensors", "--size", "32", "--format", "json")
    done = call("paths", "--view", "contribution", "--data", "photos", *own)
    assert {row["images"] for row in rows(done)} == {len(held_out) - 1}
    assert f"left out: {held_out.name(0)}: " in done.err
    done = call("paths", "--view", "attention", "--data", "photos", *own)
    assert (done.code, done.err.splitlines()[-2]) == (
        2,
        "Error: attention 'hydra' of stage 2 is no map between tokens times the values",
    )
    done = call("paths", *own)
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: no images are named")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--view feilds", 2, "unknown view 'feilds': must be one of fields, contribution, similarity, attention, geometry"),
        (
            "--variant digits-nan",
            2,
            "unknown variant 'digits-nan': must be one of tiny, xsmall, small, base, digits-nano, pyramid-nano",
        ),
        ("--view attention --point 40,2", 2, "x = 40: must be from 0 to 31"),
        ("--view attention --point 2", 2, "--point '2': must be two whole numbers of pixels"),
        ("--view attention --stage 5", 2, "stage = 5: must be from 2 to 3"),
        ("--view attention --path 4", 2, "path = 4: must be from 1 to 3"),
        ("--head 2", 2, "--head with --view fields: selects the maps of --view attention"),
        pytest.param(
            "--view attention --size 600 --image digit.png",
            1,
            "every stage has more than 1024 tokens, too many for its maps",
            marks=pytest.mark.slow,
        ),
        ("--image missing.png", 1, "cannot read image 'missing.png': No such file or directory"),
        ("--image digit.png --data digits", 2, "--image with --data digits: choose one of them"),
        (
            "--view contribution --image digit.png",
            2,
            "--image with --view contribution: must be --data, because accuracy needs classes",
        ),
        ("--view similarity --image digit.png", 2, "similarity of 1 images at a time: must be at least 4"),
        (
            "--view similarity --batch 4",
            2,
            "--batch 4: must be at least 8 with --view similarity, which compares its images",
        ),
        ("--view geometry --image digit.png", 2, "--view geometry: takes no images, it is the same for all"),
        ("--view geometry --plot x.png", 2, "--plot with --view geometry: a figure needs a trained network"),
        (
            "--view geometry --weights w --plot x.png",
            2,
            "--plot with --view geometry: a figure needs a trained network",
        ),
        ("--config net.toml", 2, "--config with --view fields: a configuration has only a geometry"),
        ("--weights x --random-init", 2, "--random-init with --weights x: choose one of them"),
        ("--pictures 0", 2, "--pictures 0: must be at least 1"),
        ("--size 8", 2, "size = 8: must be at least 9, so that the last stage has several tokens"),
        ("--plot x.gif", 2, "--plot 'x.gif': must end in .svg, .png, .pdf"),
        ("--data nowhere", 2, "data 'nowhere': is not a folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: str, code: int, message: str) -> None:
    done = call("paths", *arguments.split())
    assert (done.code, done.out) == (code, "")
    errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert errors == [f"Error: {message}"]
    assert "Traceback" not in done.err
    assert list(Path().glob("x.*")) == []
