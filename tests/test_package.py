"""What is built is what is used: the wheel holds both packages and their data, and runs without the source tree."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from commandline import Variables, environment, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mpvit import __version__
from mpvit.training.data import open_data

ROOT = Path(__file__).parent.parent
CLASSES = ROOT / "src" / "mpvit" / "data" / "imagenet1k_classes.txt"


def do(*command: object, variables: Variables | None = None) -> None:
    """Run a step that must succeed; what it said is shown where it does not."""
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, env=environment(variables), capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def build(folder: Path, *options: str) -> Path:
    do(sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), "--wheel")


def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def source_files(package: Path) -> set[str]:
    return {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }


def test_the_wheel_holds_both_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    info = f"mpvit-{__version__}.dist-info"
    packages = source_files(ROOT / "src" / "mpvit") | source_files(ROOT / "mpvit_cli")
    metadata = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert names(wheel) == packages | metadata
    assert {"mpvit/py.typed", "mpvit_cli/py.typed", "mpvit/data/imagenet1k_classes.txt"} <= names(wheel)


def test_the_metadata_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"mpvit-{__version__}.dist-info"
        assert archive.read("mpvit/data/imagenet1k_classes.txt") == CLASSES.read_bytes()
        assert len(CLASSES.read_text(encoding="utf-8").splitlines()) == 1000
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert "mpvit = mpvit_cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert re.findall(r"\nRequires-Python: (.*)", metadata) == [">=3.11"]


# ── installed ───────────────────────────────────────────────────────────────────────────────────────────────────────


def requirements(*wanted: str) -> set[str]:
    """The distributions that ``wanted`` need to run here, themselves included."""
    found: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            needed = [Requirement(text) for text in distribution(name).requires or ()]
            pending += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def copy_distribution(name: str, site: Path) -> None:
    """Put an installed distribution's modules there, as an installation without a network would."""
    for file in distribution(name).files or ():
        if ".." not in file.parts and file.suffix != ".pyc":
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), site / file)


def fresh(folder: Path, *installed: object) -> Path:
    """Make an environment in ``folder``, install into it by this environment's pip, and return its folder of commands.

    As on a new machine: pip finds nothing that it built or fetched before. As the Makefile does, and relative to the project
    as there: what builds a package from source is pinned too.
    """
    do(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check")
    uncached = {"PIP_NO_CACHE_DIR": "1", "PIP_CACHE_DIR": str(folder / "no-cache")}
    pinned = dict.fromkeys(("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"), "constraints.txt")
    do(*pip, "install", *installed, variables=uncached | pinned)
    assert not (folder / "no-cache").exists()
    return python.parent


def test_the_base_installation_works(wheel: Path, tmp_path: Path) -> None:
    """Only typer, rich and what these need stand beside it: a closed form needs neither torch nor numpy."""
    commands = fresh(tmp_path / "bare", "--no-index", "--no-deps", wheel)
    (site,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    for name in requirements("typer", "rich"):
        copy_distribution(name, site)
    assert not (site / "torch").exists()
    command = (str(commands / "mpvit"),)
    assert run("--version", command=command, cwd=tmp_path) == (0, f"mpvit {__version__}\n", "")
    code, out, _ = run("flops", "--variant", "xsmall", "--check", command=command, cwd=tmp_path)
    assert code == 0
    assert "2 971 396 560✓" in out
    code, out, err = run("train", "digits", command=command, cwd=tmp_path)
    assert (code, out) == (1, "")
    assert err == "Error: accelerate is not installed\nHint: pip install 'mpvit[train]' installs it\n"


def pinned() -> dict[str, str]:
    """The version of each distribution in ``constraints.txt``, by its canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def unpinned(environment: Path) -> dict[str, str]:
    """What is installed there in another version than ``constraints.txt`` names, or without one."""
    found = {
        canonicalize_name(each.name): Version(each.version).public  # torch's is 2.13.0+cpu, thop's 0.1.1-2209072238
        for site in environment.glob("lib/python*/site-packages")
        for each in distributions(path=[str(site)])
    }
    return {name: version for name, version in found.items() if pinned().get(name) != version and name != "mpvit"}


def test_every_required_distribution_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [Requirement(text) for text in project["project"]["dependencies"] if "python_version" not in text]
    extras = project["project"]["optional-dependencies"]
    wanted += [Requirement(text) for extra in extras.values() for text in extra if not text.startswith("mpvit[")]
    needed = requirements(*(need.name for need in wanted))
    assert {canonicalize_name(name) for name in needed} | {"setuptools", "wheel", "editables"} <= pinned().keys()


@pytest.mark.slow
def test_the_full_installation_counts_live(wheel: Path) -> None:
    with TemporaryDirectory() as folder:  # a gigabyte, which pytest would keep for three runs
        commands = fresh(Path(folder) / "whole", wheel)
        assert unpinned(Path(folder) / "whole") == {}
        command = (str(commands / "mpvit"),)
        code, out, _ = run("flops", "--counter", "all", "--check", "--variant", "tiny", command=command, cwd=Path(folder))
        held_out = open_data("digits").held_out  # scikit-learn is not there: the base installation predicts without it
        held_out.read(0).save(Path(folder) / "digit.png")
        seen = run("predict", "digit.png", "--variant", "digits-nano", "--format", "json", command=command, cwd=Path(folder))
    assert json.loads(seen.out)["results"][0]["class_index"] == held_out.targets[0]
    assert code == 0
    assert out.count("1 654 163 812✓") == 3  # published twice, closed form once
    assert out.count("1 635 527 496✓") == 1


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    again = build(tmp_path)  # without options: the source distribution, then the wheel from it
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    assert names(again) == names(wheel)
