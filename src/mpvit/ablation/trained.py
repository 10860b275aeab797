"""What each row of an ablation is worth: every network trained alike (``training.study``)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mpvit.network import NamedNetwork
from mpvit.training.comparison import compare
from mpvit.training.study import StudyConfig, train_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpvit.ablation.results import Row
    from mpvit.training.data.splits import Data


def trained_rows(
    rows: Sequence[Row], model: str, data: Data, training: StudyConfig, show: Callable[[str, float], None]
) -> list[Row]:
    """Return the rows, the baseline first, each with what it came to on the pictures held out of ``data``.

    Rows of the same network are one; a row that a constraint refuses stays as it is. ``show`` and errors are those of
    ``train_all``.
    """
    places = [_place(row, rows) if row.config else "" for row in rows]
    networks = {
        place: NamedNetwork(f"{model}, {place}", row.config, row.size)
        for place, row in zip(places, rows, strict=True)
        if row.config
    }
    trained = train_all(networks, data, training, show)
    baseline, images = trained[places[0]].accuracies, len(data.held_out)
    return [
        replace(row, accuracy=compare(trained[place].accuracies, baseline, images, trained[place].seconds)) if place else row
        for place, row in zip(places, rows, strict=True)
    ]


def _place(row: Row, rows: Sequence[Row]) -> str:
    """Return the folder of a row's runs: that of the first row of the same network, named by its values."""
    first = next(other for other in rows if (other.config, other.size) == (row.config, row.size))
    if first is rows[0]:
        return "baseline"
    name = ",".join(f"{axis}={value}" for axis, value in first.values.items())
    if first.matched:  # beside the row of the same values as it is, in the same study
        name += f",same-{first.matched.quantity}"
    return re.sub(r"[^\w.=,+-]", "_", name)
