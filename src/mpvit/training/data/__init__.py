"""Opening labelled images by a name or a folder, and finding those that cannot be read; one file opens each kind of data."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mpvit.architecture.variants import SHIPPED, SMALL
from mpvit.errors import ImageError, UsageError
from mpvit.imports import resolve
from mpvit.progress import Track
from mpvit.training.data.splits import IMAGES, MASKS, Data, Split
from mpvit.training.recipe import Recipe, get_recipe

DIGITS, SCALES, DIGITS_ON_TEXTURES = "digits", "scales", "digits-on-textures"

BUILT_IN = {
    DIGITS: "mpvit.training.data.digits:read_digits",
    SCALES: "mpvit.training.data.scales:read_scales",
    DIGITS_ON_TEXTURES: "mpvit.training.data.digits_on_textures:read_digits_on_textures",
}
"""Data that needs no files: small images, for which a small network is enough."""

HUGGING_FACE = "hf:"
"""Prefix that marks a folder as a dataset of Hugging Face."""

GENERATED_SIZE = 64
"""Side of the images of scales and digits-on-textures, in pixels."""

VALIDATION = ("val", "validation", "valid", "test")
"""Names of the validation split next to ``train``; the first that exists is used."""

NEEDS_SEGMENTER = "train a segmenter on it, such as semantic-fpn"
"""Hint for data with masks where a classifier is trained."""


def open_data(text: str, *, masked: bool = False) -> Data:
    """Return the data that ``text`` names: ``digits``, ``scales``, a folder, or ``hf:`` and a folder of Hugging Face.

    A folder has class folders, or ``train`` and ``val`` with class folders in each. Without a validation split a fifth of each
    class is held out by the names of the images, so that more images later change nothing for the others.
    With ``masked`` the data has masks: ``digits-on-textures``, or a folder as ``mask_folder.read_mask_folder`` reads it.
    Raises ``UsageError`` if there is no such data, and ``MpvitError`` if a library is missing.
    """
    from mpvit.training.data import class_folders, hugging_face, mask_folder

    if not masked and text == DIGITS_ON_TEXTURES:
        raise UsageError(f"data {text!r}: has masks, which only a segmenter is trained on", hint=NEEDS_SEGMENTER)
    if masked and (text in (DIGITS, SCALES) or text.startswith(HUGGING_FACE)):
        hint = f"use {DIGITS_ON_TEXTURES}, or a folder of images and masks"
        raise UsageError(f"data {text!r}: has no masks, which a segmenter is trained on", hint=hint)
    if text in BUILT_IN:
        data: Data = resolve(BUILT_IN[text])()
        return data
    if text.startswith(HUGGING_FACE):
        return hugging_face.read_hugging_face(Path(text.removeprefix(HUGGING_FACE)))
    try:
        exists = Path(text).is_dir()
    except (OSError, ValueError):
        exists = False
    if not exists:
        classified = f"a folder of class folders, {HUGGING_FACE}FOLDER, or {DIGITS} or {SCALES}, which need no files"
        segmented = f"a folder with {IMAGES}/ and {MASKS}/, or {DIGITS_ON_TEXTURES}, which needs no files"
        raise UsageError(f"data {text!r}: is not a folder", hint=f"name {segmented if masked else classified}")
    return (mask_folder.read_mask_folder if masked else class_folders.read_class_folders)(Path(text))


def find_damaged(data: Data, workers: int, track: Track) -> list[tuple[str, str]]:
    """Read every image and mask once, in ``workers`` processes; return the names of those that cannot be read, with the reason.

    Raises ``UsageError`` for the first mask that does not fit its image.
    """
    if data.location in BUILT_IN:
        return []
    from torch.utils.data import DataLoader

    images = data.all
    reasons: Iterable[str | UsageError] = DataLoader(
        range(len(images)),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        collate_fn=partial(_complaint, images),
    )
    found = []
    for index, reason in enumerate(track(reasons, "Reading", len(images))):
        if isinstance(reason, UsageError):
            raise reason
        if reason:
            found.append((images.name(index), reason))
    return found


def _complaint(images: Split, index: int) -> str | UsageError:
    """Return why an image or its mask cannot be read, empty if it can; or the error of a mask that does not fit."""
    try:
        images.read(index)
        if images.source.masked:
            images.mask(index)
    except ImageError as error:
        return error.reason
    except UsageError as error:
        return error
    return ""


def split_folders(folder: Path) -> list[Path]:
    """Return the training folder and the validation folder in ``folder``, or one folder if there is no validation folder."""
    train = folder / "train"
    if not train.is_dir():
        return [folder]
    validation = [folder / name for name in VALIDATION if (folder / name).is_dir()]
    return [train, *validation[:1]]


def folder_names(folder: Path) -> tuple[str, str]:
    """Return the name and the location of the data in a folder."""
    resolved = folder.resolve()
    return resolved.name or str(resolved), str(resolved)


def default_network(data: str | None, larger: str) -> str:
    """Return the name of the network that is trained on ``data`` by default: a small one for built-in data, else ``larger``."""
    if data == DIGITS_ON_TEXTURES:
        return next(iter(SMALL))
    return next(iter(SHIPPED)) if data in BUILT_IN else larger


def recipe_for(data: str, name: str | None, *, masked: bool = False) -> tuple[str, Recipe]:
    """Return the name and the recipe called ``name``, or the default recipe for ``data`` if it is None.

    Raises ``UsageError`` for an unknown name.
    """
    usual, small = ("segment", "segment-small") if masked else ("deit", "small")
    name = name or (small if data in BUILT_IN else usual)
    recipe = get_recipe(name)
    if data == SCALES and name == "small":  # its textures are a few pixels wide
        recipe = replace(recipe, size=GENERATED_SIZE)
    return name, recipe


def require_classes(location: str, classes: Sequence[str]) -> None:
    """Raise ``UsageError`` for fewer than two classes, and for two names that differ only in case."""
    if not classes:
        raise UsageError(f"data {location!r}: has no class folder", hint="each class is a folder with its images")
    if len(classes) == 1:
        raise UsageError(f"data {location!r}: has one class, {classes[0]!r}: must be at least two")
    seen: dict[str, str] = {}
    for name in classes:
        if other := seen.get(name.casefold()):
            raise UsageError(f"data {location!r}: classes {other!r} and {name!r} are one on a file system that ignores case")
        seen[name.casefold()] = name
