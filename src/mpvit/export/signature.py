"""Which images an exported network takes, and what it gives."""

from typing import NamedTuple

from mpvit.errors import UsageError

INPUT, OUTPUT = "images", "logits"
"""What the files of this project call them."""


class Signature(NamedTuple):
    """Images, float32 (b, in_channels, h, w), to logits, float32 (b, num_classes); None is what a call may choose."""

    batch: int | None
    in_channels: int
    height: int | None
    width: int | None
    num_classes: int

    def require(self, shape: tuple[int, ...]) -> None:
        """Raise ``UsageError`` for images of a shape (b, c, h, w) that is not taken; batches are split and filled up."""
        for name, wanted, given in zip(("in_channels", "height", "width"), self[1:4], shape[1:], strict=True):
            if wanted not in (None, given):
                raise UsageError(
                    f"images of {shape[2]}×{shape[3]} pixels and {shape[1]} channels: the file takes {name} = {wanted} alone",
                    hint="mpvit export --dynamic size leaves sizes open",
                )


def signature_of(images: list[int | None], logits: list[int | None], name: str) -> Signature:
    """Return the signature of a file ``name`` by its input's and output's shapes; raise ``UsageError`` for another kind."""
    said = "×".join("?" if length is None else str(length) for length in images)
    if len(images) != 4 or images[1] is None:  # noqa: PLR2004 - (b, c, h, w)
        raise UsageError(
            f"{name} takes {said or 'a number'}: must be images, (batch, channels, height, width), of so many channels"
        )
    if len(logits) != 2 or logits[1] is None:  # noqa: PLR2004 - (b, classes)
        given = "×".join("?" if length is None else str(length) for length in logits)
        raise UsageError(f"{name} gives {given or 'a number'}: must be (batch, classes), of so many classes")
    return Signature(images[0], images[1], images[2], images[3], logits[1])
