"""Numbers as people write them."""

import pytest

from mpvit.units import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (89, "89 s"), (90, "2 min"), (3569, "59 min"), (3570, "1 h 0 min"), (6720, "1 h 52 min")],
)
def test_durations_have_units_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
