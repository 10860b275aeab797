"""The shapes of an exported network's input and output."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from mpvit.errors import UsageError

INPUT, OUTPUT = "images", "logits"
"""Names of the input and output in the files of this project."""


class InputOutputShapes(NamedTuple):
    """float32 images (batch, in_channels, height, width) -> float32 logits (batch, num_classes); None is a dynamic axis."""

    batch: int | None
    in_channels: int
    height: int | None
    width: int | None
    num_classes: int

    @classmethod
    def from_axes(cls, images: Sequence[Any], logits: Sequence[Any]) -> Self:
        """Return the shapes of a file, by the lengths of its axes; what is no integer is dynamic.

        Raises ``UsageError`` where the input is not images or the output is not logits.
        """
        given, answer = ([length if isinstance(length, int) else None for length in shape] for shape in (images, logits))
        if len(given) != 4 or given[1] is None:  # noqa: PLR2004 - (b, c, h, w)
            raise UsageError(f"its input is {_text(given)}: must be images (batch, channels, height, width), channels fixed")
        if len(answer) != 2 or answer[1] is None:  # noqa: PLR2004 - (b, classes)
            raise UsageError(f"its output is {_text(answer)}: must be logits (batch, classes), classes fixed")
        return cls(given[0], given[1], given[2], given[3], answer[1])

    def require(self, shape: Sequence[int]) -> None:
        """Raise ``UsageError`` for images of a (b, c, h, w) that the network cannot take; it takes any batch in parts."""
        for name, wanted, given in zip(("in_channels", "height", "width"), self[1:4], shape[1:], strict=True):
            if wanted not in (None, given):
                raise UsageError(
                    f"images of {shape[2]}×{shape[3]} pixels and {shape[1]} channels: the file takes only {name} = {wanted}",
                    hint="a file exported with a dynamic size takes any",
                )


def _text(lengths: Sequence[int | None]) -> str:
    return "×".join("?" if length is None else str(length) for length in lengths) or "a number"
