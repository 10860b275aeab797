"""No link of a page leads nowhere, and what has a place in a page stands there."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pages import DOCS, EVERY, README, ROOT, anchors, links, named

from mpvit.version import __version__

LONGEST_README = 150
"""Lines: what a person reads before deciding; the rest stands in docs/."""


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in links(page):
        if ":" not in link:  # a relative link, not one with a scheme
            path, _, anchor = link.partition("#")
            target = page if path == "" else page.parent / path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
    assert broken == []


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    assert {page.name for page in DOCS} - {"README.md"} <= set(links(index))
    assert "docs/README.md" in links(README)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST_README


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    reasons = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert [name for name in (Requirement(text).name for text in wanted) if name not in reasons] == []


def test_every_recorded_file_is_named_beside_the_command_that_makes_it_in_make_record() -> None:
    table = (ROOT / "reports" / "README.md").read_text(encoding="utf-8")
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*) \| `(.*)` \|$", table, re.MULTILINE)
    recorded = {path.name for path in (ROOT / "reports").iterdir()} - {"README.md"}
    assert {name.rstrip("/") for names, _ in rows for name in re.findall(r"`([^`]*)`", names)} == recorded
    assert [command for _, command in rows if f"$(BIN)/{command}\n" not in recipe] == []


def test_the_citation_names_the_version_and_the_paper() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
    assert "arXiv.2112.11010" in citation


def test_the_workflow_runs_the_gate() -> None:
    assert "- run: make check\n" in (ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8")
