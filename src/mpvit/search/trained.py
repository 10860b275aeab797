"""What the candidates of a search come to when all are trained alike, with a small budget (``training.study``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mpvit.search.found import Candidate, Found, shape_text
from mpvit.search.outcome import Trial
from mpvit.training.comparison import compared
from mpvit.training.recipe import get_recipe
from mpvit.training.study import Entry, Training, learn_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpvit.training.data import Data


def trial(found: Found, data: Data, training: Training, show: Callable[[str, float], None]) -> Trial:
    """Return what each of ``found.best`` comes to on the pictures held out of ``data``, beside the best of them.

    ``show`` and errors are those of ``learn_all``.
    """
    places = [_place(candidate) for candidate in found.best]
    entries = {
        place: Entry(candidate.config, shape_text(candidate.config), found.study.size)
        for place, candidate in zip(places, found.best, strict=True)
    }
    learned = learn_all(entries, data, training, show)
    best = max(learned.values(), key=lambda each: sum(each.shares))
    return Trial(
        data=data.name,
        epochs=training.recipe.epochs,
        usual_epochs=get_recipe(training.recipe_name).epochs,
        recipe=training.recipe_name,
        accuracies=tuple(
            compared(each.shares, best.shares, data.held_out.pictures, each.seconds)
            for each in map(learned.__getitem__, places)
        ),
    )


def _place(candidate: Candidate) -> str:
    """Return the folder of a candidate's runs: its shape is its name, whatever its rank."""
    return re.sub(r"[^\w.,-]+", "-", shape_text(candidate.config).replace(", ", ","))
