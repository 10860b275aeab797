"""What weights files are."""

from collections.abc import Sequence

from mpvit.prediction.inspection import Inspected
from mpvit.tables import Cell, Document, Field, Table, build
from mpvit.tables.memory import readable_bytes
from mpvit.tables.training import percent, trained_text
from mpvit.units import grouped

_Line = tuple[str, str]

_FIELDS: tuple[Field[_Line], ...] = (
    Field("What", lambda line: line[0], numeric=False),
    Field("In the file", lambda line: line[1], numeric=False),
)


def weights_document(files: Sequence[Inspected], notes: Sequence[str] = ()) -> Document:
    """Return one table a file, and one row."""
    return Document("weights", tuple(each.as_row() for each in files), tuple(map(_table, files)), tuple(notes))


def _table(found: Inspected) -> Table:
    metadata = found.content.metadata
    lines: list[tuple[str, Cell]] = [
        ("layout", found.layout),
        ("size", _size(found)),
        *([("task", metadata.task)] if metadata.task else []),
        ("network", found.model or f"fits none: {found.misfit}"),
        ("parameters", grouped(found.params)),
        ("classes", _classes(metadata.classes)),
    ]
    if how := metadata.preprocessing:
        seen = "pixels of the short side, whole pictures" if metadata.task else f"pixels, {how.crop:g} of the short side"
        lines.append(("preprocessing", f"{how.size} {seen}"))
    if known := metadata.trained:
        lines.append(("trained on", f"{known.data}, {known.epochs} epochs, recipe {known.recipe}"))
        lines.append(("mIoU" if known.overlap else "top-1", trained_text(known).removeprefix("mIoU ")))
        if known.overlap:
            lines.append(("pixels right", percent(known.accuracy)))
    if found.model and found.misfit:
        lines.append(("misfit", found.misfit))
    return build(str(found.path), _FIELDS, [(what, str(said)) for what, said in lines])


def _size(found: Inspected) -> str:
    inside = f" in {found.tensors} tensors of" if found.tensors else ","
    return f"{readable_bytes(found.nbytes)}{inside} {', '.join(found.dtypes)}"


def _classes(names: Sequence[str] | None) -> str:
    if names is None:
        return "not named"
    shown = ", ".join(names[:_SHOWN])
    return f"{len(names)}: {shown}{', …' if len(names) > _SHOWN else ''}"


_SHOWN = 10
