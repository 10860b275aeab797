"""A data set of Hugging Face on disk, as ``save_to_disk`` wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.errors import ImageError, UsageError, first_line
from mpvit.extras import require
from mpvit.images import decode_image, read_image
from mpvit.training.data import HELD_OUT, PARTS, STORED, Data, Part, require_classes, split

if TYPE_CHECKING:
    from PIL import Image


class _Rows(NamedTuple):
    parts: tuple[Any, ...]
    names: tuple[str, ...]
    column: str
    ends: tuple[int, ...]

    def read(self, place: int) -> Image.Image:
        part, row = self._at(place)
        picture = self.parts[part][row][self.column]
        if picture is None:
            raise ImageError(self.name(place), "there is none")
        data = picture["bytes"]
        return decode_image(data, self.name(place)) if data is not None else read_image(Path(picture["path"]))

    def name(self, place: int) -> str:
        part, row = self._at(place)
        return f"{self.names[part]}[{row}]"

    def _at(self, place: int) -> tuple[int, int]:
        part = next(index for index, end in enumerate(self.ends) if place < end)
        return part, place - (self.ends[part - 1] if part else 0)


def read_stored(folder: Path) -> Data:
    """Return a data set with a column of pictures and one of classes; raise ``UsageError`` for any other."""
    require("datasets")
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        hint = "it is what save_to_disk of the library datasets writes"
        raise UsageError(f"data {STORED}{folder}: cannot be read: {first_line(error)}", hint=hint) from None
    parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"all": found}
    first = next(iter(parts.values()))
    column = next((name for name, kind in first.features.items() if isinstance(kind, datasets.Image)), None)
    label = next((name for name, kind in first.features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if column is None or label is None:
        columns = ", ".join(first.features)
        raise UsageError(f"data {STORED}{folder}: must have a column of Image and one of ClassLabel, has {columns}")
    classes = tuple(first.features[label].names)
    require_classes(str(folder), classes)
    own = next((part for part in PARTS if part in parts and "train" in parts), None)
    kept = ("train", own) if own else ("train" if "train" in parts else next(iter(parts)),)
    rows = [parts[part] for part in kept]
    ends = tuple(sum(len(part) for part in rows[: index + 1]) for index in range(len(rows)))
    source = _Rows(tuple(part.cast_column(column, datasets.Image(decode=False)) for part in rows), kept, column, ends)
    targets = tuple(int(target) for part in rows for target in part[label])
    whole = Part(source, tuple(range(len(targets))), targets)
    name, where = folder.resolve().name, f"{STORED}{folder.resolve()}"
    if own is None:
        return Data(name, where, classes, *split(whole), share=HELD_OUT)
    train, held_out = (whole.only(range(start, end)) for start, end in zip((0, ends[0]), ends, strict=True))
    return Data(name, where, classes, train, held_out)
