"""A dataset of Hugging Face on disk, as ``save_to_disk`` wrote it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mpvit.errors import ImageError, UsageError, first_line
from mpvit.images import decode_image, read_image
from mpvit.imports import require
from mpvit.training.data import HUGGING_FACE, VALIDATION, require_classes
from mpvit.training.data.splits import Data, ImageSource, Split


@dataclass(frozen=True, slots=True)
class _Rows(ImageSource):
    splits: dict[str, Any]
    column: str
    rows: tuple[tuple[str, int], ...]

    def read(self, index: int) -> Image.Image:
        split, row = self.rows[index]
        image = self.splits[split][row][self.column]
        if image is None:
            raise ImageError(self.names[index], "the row has no image")
        if image["bytes"] is None:
            return read_image(Path(image["path"]))
        return decode_image(image["bytes"], self.names[index])


def read_hugging_face(folder: Path) -> Data:
    """Return a dataset with one column of images and one of classes; raise ``UsageError`` for any other."""
    require("datasets")
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        hint = "name a folder that save_to_disk of the library datasets wrote"
        raise UsageError(f"data {HUGGING_FACE}{folder}: cannot be read: {first_line(error)}", hint=hint) from None
    splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"all": found}
    features = next(iter(splits.values())).features
    image = next((name for name, kind in features.items() if isinstance(kind, datasets.Image)), None)
    label = next((name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if image is None or label is None:
        columns = ", ".join(features)
        raise UsageError(f"data {HUGGING_FACE}{folder}: must have a column of Image and one of ClassLabel, has {columns}")
    classes = tuple(features[label].names)
    require_classes(str(folder), classes)
    names = ["train", *[name for name in VALIDATION if name in splits][:1]] if "train" in splits else [next(iter(splits))]
    raw = {name: splits[name].cast_column(image, datasets.Image(decode=False)) for name in names}
    rows = tuple((name, row) for name in names for row in range(len(splits[name])))
    targets = tuple(int(target) for name in names for target in splits[name][label])
    train = len(splits[names[0]]) if len(names) > 1 else None
    location = f"{HUGGING_FACE}{folder.resolve()}"
    source = _Rows(tuple(f"{name}[{row}]" for name, row in rows), raw, image, rows)
    return Data.of(folder.resolve().name, location, classes, Split.of(source, targets), train)
