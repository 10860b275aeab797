"""Names of a network's classes: from a text file, from the metadata of the weights, or those of ImageNet."""

from importlib.resources import files
from pathlib import Path

from mpvit.errors import UsageError, WeightsError, file_reason
from mpvit.model.metadata import Metadata

IMAGENET_CLASSES = 1000


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet-1K classes by index; a few names occur twice."""
    text = (files("mpvit") / "data" / "imagenet1k_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def read_classes(path: Path, number: int) -> tuple[str, ...]:
    """Return the ``number`` class names in a text file, one a line by index; raise ``UsageError`` if there are not so many."""
    hint = "one name a line, in index order"
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read class names {str(path)!r}: {file_reason(error)}", hint=hint) from None
    names = tuple(line.strip() for line in text.split("\n")) if text else ()
    if len(names) != number:
        raise UsageError(f"class names {str(path)!r}: {len(names)} lines, the network has {number} classes", hint=hint)
    return names


def class_names(number: int, metadata: Metadata, path: Path | None, weights: Path | None = None) -> tuple[str, ...]:
    """Return the names in the text file ``path``, else in the metadata of ``weights``, else the default names."""
    if path:
        return read_classes(path, number)
    if metadata.classes is not None:
        if len(metadata.classes) != number:
            raise WeightsError(f"{weights} names {len(metadata.classes)} classes, its network has {number}")
        return metadata.classes
    return imagenet_classes() if number == IMAGENET_CLASSES else tuple(f"class {index}" for index in range(number))
