"""A folder of class folders, or ``train`` and ``val`` with class folders in each."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mpvit.errors import UsageError
from mpvit.images import images_in, read_image
from mpvit.training.data import NEEDS_SEGMENTER, folder_names, require_classes, split_folders
from mpvit.training.data.splits import IMAGES, MASKS, Data, ImageSource, Split


@dataclass(frozen=True, slots=True)
class ImageFiles(ImageSource):
    """Image files."""

    paths: tuple[Path, ...]

    def read(self, index: int) -> Image.Image:  # noqa: D102 - as in ImageSource
        return read_image(self.paths[index])


def read_class_folders(folder: Path) -> Data:
    """Return the images below a folder; raise ``UsageError`` if it has no classes."""
    if all((folder / name).is_dir() for name in (IMAGES, MASKS)):
        message = f"data {str(folder)!r}: has {IMAGES}/ and {MASKS}/, which only a segmenter is trained on"
        raise UsageError(message, hint=NEEDS_SEGMENTER)
    splits = [(part, *_labelled(part)) for part in split_folders(folder)]
    train, paths, targets, classes = splits[0]
    first = None
    if len(splits) > 1:
        validation, more_paths, more_targets, other_classes = splits[1]
        if odd := set(classes) ^ set(other_classes):
            name = min(odd)
            here, missing = (train, validation) if name in classes else (validation, train)
            raise UsageError(f"data {str(folder)!r}: class {name!r} is in {here.name}/ and not in {missing.name}/")
        first, train, paths, targets = len(paths), folder, paths + more_paths, targets + more_targets
    files = ImageFiles(tuple(str(path.relative_to(train)) for path in paths), tuple(paths))
    return Data.of(*folder_names(folder), classes, Split.of(files, targets), first)


def _labelled(folder: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Return the images below the class folders of ``folder``, their class indices, and the names of the classes, sorted."""
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = tuple(entry.name for entry in folders)
    require_classes(str(folder), classes)
    paths: list[Path] = []
    targets: list[int] = []
    for target, entry in enumerate(folders):
        try:
            found = images_in(entry)
        except UsageError as error:
            raise UsageError(f"class {entry.name!r} of {str(folder)!r} has no images", hint=error.hint) from None
        paths += found
        targets += [target] * len(found)
    return paths, targets, classes
