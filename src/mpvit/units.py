"""Factors between units, and numbers as people read them."""

FLOPS_PER_MAC = 2
"""A multiply-add (MAC) is one multiplication and one addition: two floating-point operations."""


def grouped(number: int, separator: str = " ") -> str:
    """Return an exact integer with its digits in groups of three: 2 971 396 560."""
    return f"{number:,}".replace(",", separator)


def times(shape: tuple[int, ...], sign: str = "×") -> str:
    """Return a shape or size as people write it: 1×3×224×224."""
    return sign.join(str(length) for length in shape)
