"""A report as one HTML page that needs no other file, and as Markdown with figures; both are drawn from its results."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from mpvit.render.markdown import render as render_markdown
from mpvit.render.markdown import render_table
from mpvit.report.commands import report_command
from mpvit.report.results import Report
from mpvit.report.sections import sections
from mpvit.report.summary import network_notes, network_table, path_table, path_text, study_summaries
from mpvit.report.svg import inline
from mpvit.tables import Branch, Cell, Column, Compared, Label, Rounded, Share, cell_text
from mpvit.units import times

_LONG = 20
"""Number of rows from which a table is collapsed."""

_PROSE = 40
"""Number of letters from which the text of a cell is wrapped; no name is longer."""

_GUIDE = 3
"""Characters of the lines of a tree for each of its levels."""


def draw(report: Report) -> dict[str, str]:
    """Return the files of the report by name: report.html, report.md, and the figures that the Markdown shows."""
    shown = sections(report)
    environment = Environment(
        loader=PackageLoader("mpvit", "report/templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=select_autoescape(),
    )
    environment.filters |= {"cell": _cell, "summary_cell": _summary_cell, "markdown": render_markdown, "table": render_table}
    content = {
        "sections": shown,
        "introduction": (
            "MPViT is a vision transformer whose stages process an image along several parallel paths, each at its own scale. "
            f"This is the cost of one {times(report.size)} image, exact to the integer."
        ),
        "networks": network_table(report),
        "network_notes": network_notes(report),
        "path_text": path_text(report),
        "paths": path_table(report),
        "studies": study_summaries(report),
        "environment": report.environment,
        "command": report_command(report),
        "versions": ", ".join(f"{name} {value}" for name, value in report.environment.items() if value is not None),
        "inline": inline,
        "long": _LONG,
    }
    pages = {name: environment.get_template(name).render(content) for name in ("report.html", "report.md")}
    return pages | {f"{each.name}.svg": each.svg for each in shown if each.svg}


def _cell(cell: Cell, column: Column) -> Markup:
    """Return a cell of a section's table as an element."""
    text, style = escape(cell_text(cell)), Markup("")
    css = "number" if column.numeric else "prose" if len(cell_text(cell)) > _PROSE else "name"
    if isinstance(cell, Branch):
        text = escape(cell.name)
        if cell.guide:
            style = Markup(' style="padding-left: {}em"').format(len(cell.guide) / _GUIDE * 1.2)
    elif isinstance(cell, Share):
        bar = Markup('<span class="bar" style="--share: {}%"></span>').format(round(100 * cell.value, 2))
        text = bar + Markup('<span class="share">{}</span>').format(text)
    elif isinstance(cell, Compared):
        text = Markup('<span class="{}">{}</span>').format("agrees" if cell.agrees else "differs", text)
    return Markup('<td class="{}"{}>{}</td>').format(css, style, text)


def _summary_cell(cell: Cell) -> Markup:
    """Return a cell of the first screen as an element: rounded, with the exact figure as its title."""
    if isinstance(cell, Label):
        hint = Markup("<small>{}</small>").format(cell.hint) if cell.hint else ""
        return Markup('<th scope="row">{}{}</th>').format(cell.name, hint)
    text = cell.short if isinstance(cell, Rounded) else cell_text(cell)
    return Markup('<td title="{}">{}</td>').format(cell_text(cell), text.replace("/", "/\u200b"))
