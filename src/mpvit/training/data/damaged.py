"""Images and masks that cannot be read, found before any of them is used."""

from collections.abc import Iterable
from functools import partial

from mpvit.errors import ImageError, UsageError
from mpvit.progress import Track
from mpvit.training.data import BUILT_IN
from mpvit.training.data.splits import Data, Split


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
