"""A folder of class folders, or ``train`` and ``val`` with class folders in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mpvit.errors import UsageError
from mpvit.images import images_in, read_image
from mpvit.training.data import HELD_OUT, IMAGES, MASKS, PARTS, SEGMENTER, Data, Part, require_classes, split

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


class _Files(NamedTuple):
    folder: Path
    paths: tuple[Path, ...]

    def read(self, place: int) -> Image.Image:
        return read_image(self.paths[place])

    def name(self, place: int) -> str:
        return str(self.paths[place].relative_to(self.folder))


def read_folder(folder: Path) -> Data:
    """Return the pictures below a folder; raise ``UsageError`` for one without classes."""
    if all((folder / each).is_dir() for each in (IMAGES, MASKS)):
        raise UsageError(f"data {str(folder)!r}: has {IMAGES}/ and {MASKS}/, which a segmenter alone learns", hint=SEGMENTER)
    own = next((folder / part for part in PARTS if (folder / "train").is_dir() and (folder / part).is_dir()), None)
    inside = folder / "train" if (folder / "train").is_dir() else folder
    paths, targets, classes = _class_folders(inside)
    resolved = folder.resolve()
    name = resolved.name or str(resolved)
    if own is None:
        source = _Files(inside, tuple(paths))
        whole = Part(source, tuple(range(len(paths))), tuple(targets))
        train, held_out = split(whole)
        return Data(name, str(resolved), classes, train, held_out, HELD_OUT)
    own_paths, own_targets, own_classes = _class_folders(own)
    if own_classes != classes:
        odd = min(set(classes) ^ set(own_classes))
        there, missing = (inside, own) if odd in classes else (own, inside)
        raise UsageError(f"data {str(folder)!r}: class {odd!r} is in {there.name}/ and not in {missing.name}/")
    source = _Files(folder, (*paths, *own_paths))
    first = len(paths)
    return Data(
        name,
        str(resolved),
        classes,
        Part(source, tuple(range(first)), tuple(targets)),
        Part(source, tuple(range(first, first + len(own_paths))), tuple(own_targets)),
    )


def _class_folders(folder: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Return the pictures below the class folders of ``folder``, their classes, and the names of those, sorted."""
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = tuple(entry.name for entry in entries)
    require_classes(str(folder), classes)
    paths: list[Path] = []
    targets: list[int] = []
    for target, entry in enumerate(entries):
        try:
            found = images_in(entry)
        except UsageError as error:
            raise UsageError(f"class {entry.name!r} of {str(folder)!r} holds no pictures", hint=error.hint) from None
        paths += found
        targets += [target] * len(found)
    return paths, targets, classes
