"""The accuracy of the candidates of a search: all are trained alike for a few epochs (``mpvit.training.study``)."""

import re
from collections.abc import Callable

from mpvit.network import NamedNetwork
from mpvit.search.results import SearchResult, TrainedCandidates
from mpvit.search.space import shape_text
from mpvit.training.data.splits import Data
from mpvit.training.metrics import compare
from mpvit.training.recipe import get_recipe
from mpvit.training.study import StudyConfig, train_all


def train_candidates(
    found: SearchResult, data: Data, training: StudyConfig, show: Callable[[str, float], None]
) -> TrainedCandidates:
    """Return the accuracy of each candidate on the held-out images of ``data``; for ``show`` and errors, see ``train_all``."""
    shapes = [shape_text(candidate.config) for candidate in found.candidates]
    networks = {
        _run_name(shape): NamedNetwork(shape, candidate.config, found.study.size)
        for shape, candidate in zip(shapes, found.candidates, strict=True)
    }
    trained = train_all(networks, data, training, show)
    best = max(trained.values(), key=lambda each: sum(each.accuracies))
    return TrainedCandidates(
        data=data.name,
        epochs=training.recipe.epochs,
        usual_epochs=get_recipe(training.recipe_name).epochs,
        recipe=training.recipe_name,
        accuracies=tuple(
            compare(each.accuracies, best.accuracies, len(data.held_out), each.seconds)
            for each in (trained[_run_name(shape)] for shape in shapes)
        ),
    )


def _run_name(shape: str) -> str:
    """Return the name of the folder of the runs of a candidate, which does not depend on its rank."""
    return re.sub(r"[^\w.,-]+", "-", shape.replace(", ", ","))
