"""What the candidates of a search come to when all are trained alike, with a small budget (``training.study``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mpvit.network import NamedNetwork
from mpvit.search.found import Candidate, Found, shape_text
from mpvit.search.outcome import Trial
from mpvit.training.comparison import compare
from mpvit.training.recipe import get_recipe
from mpvit.training.study import StudyConfig, train_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpvit.training.data.splits import Data


def trial(found: Found, data: Data, training: StudyConfig, show: Callable[[str, float], None]) -> Trial:
    """Return what each of ``found.best`` comes to on the pictures held out of ``data``, beside the best of them.

    ``show`` and errors are those of ``train_all``.
    """
    places = [_place(candidate) for candidate in found.best]
    networks = {
        place: NamedNetwork(shape_text(candidate.config), candidate.config, found.study.size)
        for place, candidate in zip(places, found.best, strict=True)
    }
    trained = train_all(networks, data, training, show)
    best = max(trained.values(), key=lambda each: sum(each.accuracies))
    return Trial(
        data=data.name,
        epochs=training.recipe.epochs,
        usual_epochs=get_recipe(training.recipe_name).epochs,
        recipe=training.recipe_name,
        accuracies=tuple(
            compare(each.accuracies, best.accuracies, len(data.held_out), each.seconds)
            for each in map(trained.__getitem__, places)
        ),
    )


def _place(candidate: Candidate) -> str:
    """Return the folder of a candidate's runs: its shape is its name, whatever its rank."""
    return re.sub(r"[^\w.,-]+", "-", shape_text(candidate.config).replace(", ", ","))
