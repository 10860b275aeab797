"""Pictures in classes: a folder of class folders, the digits inside scikit-learn, a data set of Hugging Face on disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from mpvit.errors import ImageError, MpvitError, UsageError
from mpvit.prediction.images import decode_image, image_paths, read_image
from mpvit.training import require, seed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from numpy.typing import NDArray

DIGITS = "digits"
STORED = "hf:"

HELD_OUT = 0.2
"""The share of each class that is held out where the data has no part of its own for that."""

HELD_OUT_DIGITS = 360

_PARTS = ("val", "validation", "valid", "test")
"""What the pictures held out are called beside ``train``, the first that is there."""


class Source(Protocol):
    """Where pictures are read from, by their place in it."""

    def read(self, place: int) -> Image.Image:
        """Return the picture as 8-bit RGB; raise ``ImageError``."""

    def name(self, place: int) -> str:
        """Return what a person calls it."""


class Part(NamedTuple):
    """Some pictures of a source, each with the index of its class."""

    source: Source
    places: tuple[int, ...]
    targets: tuple[int, ...]

    def read(self, index: int) -> Image.Image:
        """Return a picture as 8-bit RGB; raise ``ImageError``."""
        return self.source.read(self.places[index])

    def name(self, index: int) -> str:
        """Return what a person calls it."""
        return self.source.name(self.places[index])

    def only(self, kept: Iterable[int]) -> Part:
        """Return the pictures of these indices."""
        kept = list(kept)
        return self._replace(
            places=tuple(self.places[index] for index in kept), targets=tuple(self.targets[index] for index in kept)
        )

    @property
    def pictures(self) -> int:
        """How many there are."""
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Data:
    """Pictures to train on and pictures held out.

    Attributes:
        name: what a person calls it.
        where: what ``open_data`` opens it by, from any folder.
        classes: the names of the classes, by index.
        train: to learn from.
        held_out: never learned from.
        share: of each class held out by the rule of ``open_data``; 0 where the data brings its own part.
        damaged: what cannot be read, with the reason; it is in neither part.
    """

    name: str
    where: str
    classes: tuple[str, ...]
    train: Part
    held_out: Part
    share: float = 0.0
    damaged: tuple[tuple[str, str], ...] = ()

    @property
    def all(self) -> Part:
        """Both parts; of one source."""
        return self.train._replace(
            places=self.train.places + self.held_out.places, targets=self.train.targets + self.held_out.targets
        )

    @property
    def fingerprint(self) -> str:
        """What tells these pictures in these classes from others: by their names, not by what they show."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.held_out):
            for index, target in enumerate(part.targets):
                digest.update(f"{part.name(index)}\0{self.classes[target]}\0".encode(errors="surrogateescape"))
            digest.update(b"\1")
        return digest.hexdigest()

    def require_trainable(self) -> None:
        """Raise ``UsageError`` where nothing is held out: no class has enough pictures for its share to be one."""
        if not self.held_out.pictures:
            most, target = max((number, target) for target, number in Counter(self.train.targets).items())
            raise UsageError(
                f"data {self.name!r}: too few pictures to hold any out, {most} in the largest class, {self.classes[target]!r}",
                hint="some class needs at least 3, or the data a part of its own: train/ and val/",
            )

    def without(self, damaged: Collection[tuple[str, str]]) -> Data:
        """Return the data without pictures that cannot be read; raise ``MpvitError`` where a class has no other."""
        names = {name for name, _ in damaged}
        train, held_out = (
            part.only(index for index in range(part.pictures) if part.name(index) not in names)
            for part in (self.train, self.held_out)
        )
        before, left = Counter(self.train.targets), Counter(train.targets)
        for target, number in before.items():
            if not left[target]:
                raise MpvitError(f"class {self.classes[target]!r} of {self.name}: none of its {number} pictures can be read")
        return replace(self, train=train, held_out=held_out, damaged=tuple(damaged))


def open_data(text: str) -> Data:
    """Return the data that ``text`` names: ``digits``, a folder, or ``hf:`` and a folder of Hugging Face.

    A folder has class folders, or ``train`` and ``val`` with class folders in each. Where nothing is held out, a fifth of
    each class is, by the pictures' names: the same ones whatever else comes into the folder.
    Raises ``UsageError`` for what is no such folder, and ``MpvitError`` where a library that it needs is missing.
    """
    if text == DIGITS:
        return _digits()
    if text.startswith(STORED):
        return _stored(Path(text.removeprefix(STORED)))
    folder = Path(text)
    try:
        there = folder.is_dir()
    except (OSError, ValueError):
        there = False
    if not there:
        hint = f"name a folder of class folders, {STORED}FOLDER, or {DIGITS}, which needs none"
        raise UsageError(f"data {text!r}: is no folder", hint=hint)
    return _folder(folder)


# ── a folder ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Files(NamedTuple):
    folder: Path
    paths: tuple[Path, ...]

    def read(self, place: int) -> Image.Image:
        return read_image(self.paths[place])

    def name(self, place: int) -> str:
        return str(self.paths[place].relative_to(self.folder))


def _folder(folder: Path) -> Data:
    own = next((folder / part for part in _PARTS if (folder / "train").is_dir() and (folder / part).is_dir()), None)
    inside = folder / "train" if (folder / "train").is_dir() else folder
    paths, targets, classes = _class_folders(inside)
    resolved = folder.resolve()
    name = resolved.name or str(resolved)
    if own is None:
        source = _Files(inside, tuple(paths))
        whole = Part(source, tuple(range(len(paths))), tuple(targets))
        train, held_out = _split(whole)
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
    _require_classes(str(folder), classes)
    paths: list[Path] = []
    targets: list[int] = []
    for target, entry in enumerate(entries):
        try:
            found = image_paths([entry])
        except UsageError as error:
            raise UsageError(f"class {entry.name!r} of {str(folder)!r} holds no pictures", hint=error.hint) from None
        paths += found
        targets += [target] * len(found)
    return paths, targets, classes


def _require_classes(where: str, classes: Sequence[str]) -> None:
    if not classes:
        raise UsageError(f"data {where!r}: holds no class folder", hint="each class is a folder with its pictures")
    if len(classes) == 1:
        raise UsageError(f"data {where!r}: holds one class, {classes[0]!r}: must be at least two")
    seen: dict[str, str] = {}
    for name in classes:
        if other := seen.get(name.casefold()):
            raise UsageError(f"data {where!r}: classes {other!r} and {name!r} are one on a disk that is blind to case")
        seen[name.casefold()] = name


def _split(whole: Part) -> tuple[Part, Part]:
    """Return what is learned from and what is held out: of each class the share ``HELD_OUT`` that comes first by hash."""
    members: dict[int, list[int]] = {}
    for index, target in enumerate(whole.targets):
        members.setdefault(target, []).append(index)
    held: set[int] = set()
    for indices in members.values():
        drawn = sorted(indices, key=lambda index: seed_of(Path(whole.name(index)).as_posix()))
        held.update(drawn[: round(HELD_OUT * len(indices))])
    every = range(whole.pictures)
    return whole.only(index for index in every if index not in held), whole.only(sorted(held))


# ── digits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Arrays(NamedTuple):
    values: NDArray[np.uint8]

    def read(self, place: int) -> Image.Image:
        return Image.fromarray(self.values[place]).convert("RGB")

    def name(self, place: int) -> str:
        return f"{DIGITS}[{place}]"


def _digits() -> Data:
    """Return the 1797 handwritten digits of 8x8 pixels inside scikit-learn, white on black, 360 of them held out."""
    require("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    values = np.rint(found.images * (255 / 16)).astype(np.uint8)
    targets = [int(target) for target in found.target]
    train, held_out = train_test_split(
        np.arange(len(targets)), test_size=HELD_OUT_DIGITS, stratify=targets, random_state=0, shuffle=True
    )
    whole = Part(_Arrays(values), tuple(range(len(targets))), tuple(targets))
    classes = tuple(map(str, found.target_names))
    return Data(DIGITS, DIGITS, classes, whole.only(sorted(map(int, train))), whole.only(sorted(map(int, held_out))))


# ── Hugging Face ────────────────────────────────────────────────────────────────────────────────────────────────────


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


def _stored(folder: Path) -> Data:
    require("datasets")
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        hint = "it is what save_to_disk of the library datasets writes"
        raise UsageError(f"data {STORED}{folder}: cannot be read: {reason}", hint=hint) from None
    parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"all": found}
    first = next(iter(parts.values()))
    column = next((name for name, kind in first.features.items() if isinstance(kind, datasets.Image)), None)
    label = next((name for name, kind in first.features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if column is None or label is None:
        columns = ", ".join(first.features)
        raise UsageError(f"data {STORED}{folder}: must have a column of Image and one of ClassLabel, has {columns}")
    classes = tuple(first.features[label].names)
    _require_classes(str(folder), classes)
    own = next((part for part in _PARTS if part in parts and "train" in parts), None)
    kept = ("train", own) if own else ("train" if "train" in parts else next(iter(parts)),)
    rows = [parts[part] for part in kept]
    ends = tuple(sum(len(part) for part in rows[: index + 1]) for index in range(len(rows)))
    source = _Rows(tuple(part.cast_column(column, datasets.Image(decode=False)) for part in rows), kept, column, ends)
    targets = tuple(int(target) for part in rows for target in part[label])
    whole = Part(source, tuple(range(len(targets))), targets)
    name, where = folder.resolve().name, f"{STORED}{folder.resolve()}"
    if own is None:
        return Data(name, where, classes, *_split(whole), share=HELD_OUT)
    train, held_out = (whole.only(range(start, end)) for start, end in zip((0, ends[0]), ends, strict=True))
    return Data(name, where, classes, train, held_out)


# ── what cannot be read ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Checked:
    """Of each picture why it cannot be read; empty where it can."""

    part: Part

    def __len__(self) -> int:
        return self.part.pictures

    def __getitem__(self, index: int) -> str:
        try:
            self.part.read(index)
        except ImageError as error:
            return error.reason
        return ""


def damaged(data: Data, workers: int, watch: Callable[[Iterable[str], str, int], Iterable[str]]) -> list[tuple[str, str]]:
    """Read every picture once, in ``workers`` processes; return those that cannot be read, with the reason.

    ``watch`` takes what comes one after the other, what it is and how many there are, and hands it on.
    """
    if isinstance(data.train.source, _Arrays):
        return []
    from torch.utils.data import DataLoader

    whole = data.all
    reasons: Iterable[str] = DataLoader(_Checked(whole), batch_size=None, num_workers=workers)  # type: ignore[arg-type]
    seen = watch(reasons, "Reading", whole.pictures)
    return [(whole.name(index), reason) for index, reason in enumerate(seen) if reason]
