"""The reports that several tests look at. Drawing one takes a second or two, so each is made once; no test changes them."""

from pathlib import Path

import pytest
from commandline import call
from trained_studies import trained

from mpvit.ablation.saved import save


@pytest.fixture(scope="session")
def all_variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report about all variants."""
    folder = tmp_path_factory.mktemp("reports") / "all"
    assert call("report", "-o", str(folder)).code == 0
    return folder


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of paths, once with unchanged channels and once at the same multiply-adds."""
    folder = tmp_path_factory.mktemp("study")
    save(trained(folder))
    save(trained(folder, "macs"))
    return folder


@pytest.fixture(scope="session")
def with_study(all_variants: Path, study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report about all variants, drawn again with ``study``."""
    folder = tmp_path_factory.mktemp("with_study")
    done = call("report", "--from", str(all_variants), "--study", str(study), "-o", str(folder))
    assert done.code == 0, done.err
    return folder
