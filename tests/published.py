"""What the authors' code counts with fvcore at 224x224, batch 1: parameters, MACs (which it calls FLOPs), activations."""

PUBLISHED = {
    "tiny": (5_843_736, 1_654_163_812, 16_641_952),
    "xsmall": (10_573_448, 2_971_396_560, 21_983_464),
    "small": (22_892_400, 4_799_650_824, 30_601_880),
    "base": (74_845_976, 16_445_326_240, 60_204_392),
}


def grouped(number: int) -> str:
    """As people write it: 2 971 396 560."""
    return f"{number:,}".replace(",", " ")
