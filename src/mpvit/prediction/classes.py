"""The names of a network's classes: of a text file, of the weights' metadata, or those of ImageNet."""

from importlib.resources import files
from pathlib import Path

from mpvit.errors import UsageError, WeightsError, file_reason
from mpvit.model.metadata import Metadata

IMAGENET_CLASSES = 1000


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet-1K classes in index order; a few stand for two classes."""
    text = (files("mpvit") / "data" / "imagenet1k_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def read_classes(path: Path, expected: int) -> tuple[str, ...]:
    """Return the class names of a text file, one a line in index order; raise ``UsageError`` if not ``expected`` many."""
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        reason = file_reason(error)
        raise UsageError(f"cannot read class names {str(path)!r}: {reason}", hint="one name a line, in index order") from None
    names = tuple(line.strip() for line in text.split("\n")) if text else ()
    if len(names) != expected:
        raise UsageError(
            f"class names {str(path)!r}: {len(names)} lines, the network has {expected} classes",
            hint="one name a line, in index order",
        )
    return names


def class_names(number: int, metadata: Metadata, given: Path | None, path: Path | None = None) -> tuple[str, ...]:
    """Return the classes' names: of the file ``given``, else of the ``metadata`` in ``path``, else what their number says."""
    if given:
        return read_classes(given, number)
    if metadata.classes is not None:
        if len(metadata.classes) != number:
            raise WeightsError(f"{path} names {len(metadata.classes)} classes, its network has {number}")
        return metadata.classes
    if number == IMAGENET_CLASSES:
        return imagenet_classes()
    return tuple(f"class {index}" for index in range(number))
