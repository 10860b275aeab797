"""How the library reports progress without knowing who shows it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """A function that passes on items while it shows a progress bar."""

    def __call__(self, items: Iterable[Item], label: str, total: int, /) -> Iterable[Item]:
        """Return ``items``; ``total`` is their number, 0 if it is unknown."""


def untracked(items: Iterable[Item], _label: str, _total: int) -> Iterable[Item]:
    """Return ``items`` without showing anything."""
    return items
