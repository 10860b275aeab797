"""The content of weights files."""

from collections.abc import Iterator, Sequence

from mpvit.prediction.inspection import Inspection
from mpvit.tables import Document, Field, build
from mpvit.tables.number_text import bytes_text, percent
from mpvit.tables.training import trained_text
from mpvit.units import grouped

_LISTED = 10
"""Number of classes that a table names."""

_Line = tuple[str, str]

_FIELDS: tuple[Field[_Line], ...] = (
    Field("Property", lambda line: line[0], numeric=False),
    Field("In the file", lambda line: line[1], numeric=False),
)


def weights_document(files: Sequence[Inspection], notes: Sequence[str] = ()) -> Document:
    """Return one table and one row per file."""
    tables = tuple(build(str(each.path), _FIELDS, list(_lines(each))) for each in files)
    return Document("weights", tuple(each.as_row() for each in files), tables, tuple(notes))


def _lines(found: Inspection) -> Iterator[_Line]:
    metadata = found.content.metadata
    yield "layout", found.layout
    inside = f" in {found.tensors} tensors of" if found.tensors else ","
    yield "size", f"{bytes_text(found.nbytes)}{inside} {', '.join(found.dtypes)}"
    if metadata.task:
        yield "task", metadata.task
    yield "network", found.model or f"fits none: {found.misfit}"
    yield "parameters", grouped(found.params)
    yield "classes", _classes(metadata.classes)
    if how := metadata.preprocessing:
        crop = "pixels of the short side, whole images" if metadata.task else f"pixels, {how.crop:g} of the short side"
        yield "preprocessing", f"{how.size} {crop}"
    if known := metadata.trained:
        yield "trained on", f"{known.data}, {known.epochs} epochs, recipe {known.recipe}"
        yield "mIoU" if known.overlap else "top-1", trained_text(known).removeprefix("mIoU ")
        if known.overlap:
            yield "pixel accuracy", percent(known.accuracy)
    if found.model and found.misfit:
        yield "misfit", found.misfit


def _classes(names: Sequence[str] | None) -> str:
    if names is None:
        return "not named"
    return f"{len(names)}: {', '.join(names[:_LISTED])}{', …' if len(names) > _LISTED else ''}"
