"""A report as one HTML page that needs nothing else, and as Markdown beside figures; both are drawn from its results alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from mpvit.render.markdown import render as render_markdown
from mpvit.report.glance import network_glance, network_notes, path_glance, path_story
from mpvit.report.results import Report
from mpvit.report.sections import Section, command_line, sections
from mpvit.report.svg import draw_svg, inline
from mpvit.report.worth import worth_at_a_glance, worth_sections
from mpvit.tables import Branch, Cell, Column, Compared, Share, Table, cell_text
from mpvit.units import times

TITLE = "What MPViT costs"

_LONG = 20
"""Rows from which on a table is folded away."""

_GUIDE = 3
"""Characters of a tree's lines for each of its levels."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell as the page shows it: its words, how they are set, and what is drawn beside them."""

    text: str
    css: str
    mark: str = ""
    indent: float | None = None
    share: float | None = None


def draw(report: Report) -> dict[str, str]:
    """Return the report's files by name: report.html, report.md, and the figures that the Markdown shows."""
    shown = [*worth_sections(report), *sections(report)]
    figures = {section.name: draw_svg(section.draw(), section.name) for section in shown if section.draw}
    figures |= {section.name: section.svg for section in shown if section.svg}
    about = _about(report)
    environment = Environment(
        loader=PackageLoader("mpvit", "report/templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=select_autoescape(),
    )
    css = environment.loader.get_source(environment, "report.css")[0] if environment.loader else ""
    html = environment.get_template("report.html").render(
        **about, css=css, sections=[_html_section(section, figures) for section in shown]
    )
    markdown = environment.get_template("report.md").render(
        **about, sections=[_markdown_section(section, figures) for section in shown]
    )
    return {"report.html": html, "report.md": markdown} | {f"{name}.svg": svg for name, svg in figures.items()}


def _about(report: Report) -> dict[str, Any]:
    versions = {name: value for name, value in report.environment.items() if value is not None}
    options: dict[str, object] = {"measure": ""} if report.times else {}
    if report.studies:
        options["study"] = " --study ".join(dict.fromkeys(quote(study.where) for study in report.studies))
    if report.sights:
        options |= {"weights": quote(report.sights[0].weights), "data": report.sights[0].data}
    return {
        "title": TITLE,
        "lead": _lead(report),
        "networks": network_glance(report),
        "network_notes": network_notes(report),
        "path_story": path_story(report),
        "paths": path_glance(report),
        "worth": worth_at_a_glance(report),
        "environment": report.environment,
        "command": command_line("report", report, options).strip(),
        "made_with": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }


def _lead(report: Report) -> str:
    return (
        "MPViT is a vision transformer whose stages look at an image along several paths at once, each at its own scale. "
        f"This is what one {times(report.size)} image costs, exact to the integer."
    )


def _words(section: Section) -> dict[str, Any]:
    return {name: getattr(section, name) for name in ("name", "title", "lead", "command", "caption", "figure_command")}


def _html_section(section: Section, figures: Mapping[str, str]) -> dict[str, Any]:
    svg = inline(figures[section.name], section.name, section.caption) if section.name in figures else ""
    tables: list[dict[str, Any]] = []
    for table in section.document.tables:
        label = table.title or (f"{tables[-1]['label']}, in detail" if tables else section.title)
        tables.append(_html_table(table, label))
    return {**_words(section), "svg": svg, "tables": tables, "notes": section.document.notes}


def _markdown_section(section: Section, figures: Mapping[str, str]) -> dict[str, Any]:
    return {**_words(section), "svg": section.name in figures, "markdown": render_markdown(section.document)}


def _html_table(table: Table, label: str) -> dict[str, Any]:
    rows = [*table.rows, *([table.footer] if table.footer else [])]
    return {
        "title": "" if len(rows) > _LONG else table.title,
        "label": label,
        "long": len(rows) > _LONG,
        "columns": table.columns,
        "rows": [[_cell(*each) for each in zip(row, table.columns, strict=True)] for row in rows],
    }


def _cell(cell: Cell, column: Column) -> _Cell:
    text = cell_text(cell)
    prose = len(text) > 40  # noqa: PLR2004 - longer than any name
    css = "number" if column.numeric else "prose" if prose else "name"
    if isinstance(cell, Branch):
        return _Cell(cell.name, css, indent=len(cell.guide) / _GUIDE * 1.2 or None)
    if isinstance(cell, Share):
        return _Cell(text, css, share=round(100 * cell.value, 2))
    if isinstance(cell, Compared):
        return _Cell(text, css, mark="agrees" if cell.agrees else "differs")
    return _Cell(text, css)
