"""The accuracy of each row of an ablation: all networks are trained alike (``mpvit.training.study``)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from mpvit.ablation.results import Row
from mpvit.network import NamedNetwork
from mpvit.training.data.splits import Data
from mpvit.training.metrics import compare
from mpvit.training.study import StudyConfig, train_all


def train_rows(
    rows: Sequence[Row], model: str, data: Data, training: StudyConfig, show: Callable[[str, float], None]
) -> list[Row]:
    """Return the rows, the first of which is the baseline, with their accuracy on the held-out images of ``data``.

    Rows with the same network are trained once. A row without a network stays as it is. For ``show`` and errors, see
    ``train_all``.
    """
    names = [_run_name(row, rows) if row.config else "" for row in rows]
    pairs = list(zip(names, rows, strict=True))
    networks = {name: NamedNetwork(f"{model}, {name}", row.config, row.size) for name, row in pairs if row.config}
    trained = train_all(networks, data, training, show)
    baseline, images = trained[names[0]].accuracies, len(data.held_out)
    return [
        replace(row, accuracy=compare(trained[name].accuracies, baseline, images, trained[name].seconds)) if name else row
        for name, row in pairs
    ]


def _run_name(row: Row, rows: Sequence[Row]) -> str:
    """Return the name of the folder of the runs of a row: the values of the first row with the same network."""
    first = next(other for other in rows if (other.config, other.size) == (row.config, row.size))
    if first is rows[0]:
        return "baseline"
    name = ",".join(f"{axis}={value}" for axis, value in first.values.items())
    if first.matched:  # one study may hold both the matched and the unmatched row
        name += f",same-{first.matched.quantity}"
    return re.sub(r"[^\w.=,+-]", "_", name)
