"""Which pictures and masks cannot be read, found out before any is learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpvit.errors import ImageError, UsageError
from mpvit.training.data import BUILT_IN, Data, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True)
class _Checked:
    """Of each picture why it, or its mask, cannot be read, empty where it can; or the error of a mask that is none of it."""

    part: Part

    def __len__(self) -> int:
        return self.part.pictures

    def __getitem__(self, index: int) -> str | UsageError:
        try:
            self.part.read(index)
            if self.part.masks:
                self.part.mask(index)
        except ImageError as error:
            return error.reason
        except UsageError as error:
            return error
        return ""


def damaged(data: Data, workers: int, watch: Callable[[Iterable[Any], str, int], Iterable[Any]]) -> list[tuple[str, str]]:
    """Read every picture and mask once, in ``workers`` processes; return those that cannot be read, with the reason.

    ``watch`` takes what comes one after the other, what it is and how many there are, and hands it on. Raises
    ``UsageError`` for the first mask that is none of its picture.
    """
    if data.where in BUILT_IN:
        return []
    from torch.utils.data import DataLoader

    whole = data.all
    reasons: Iterable[str | UsageError] = DataLoader(_Checked(whole), batch_size=None, num_workers=workers)  # type: ignore[arg-type]
    found = []
    for index, reason in enumerate(watch(reasons, "Reading", whole.pictures)):
        if isinstance(reason, UsageError):
            raise reason
        if reason:
            found.append((whole.name(index), reason))
    return found
