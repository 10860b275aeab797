"""An ablation with accuracies that nobody trained, for tests of what is made of them."""

from dataclasses import replace
from pathlib import Path

from mpvit.ablation.saved import TrainedAblation
from mpvit.ablation.study import Ablation, AblationStudy, ablate
from mpvit.architecture.variants import get_config
from mpvit.training.metrics import compare
from mpvit.training.recipe import get_recipe, override

BASELINE = (0.50, 0.52, 0.51)
SHARES = {"1": BASELINE, "2": (0.60, 0.61, 0.63), "3": (0.40, 0.55, 0.58), "4": (0.41, 0.42, 0.40)}
"""Accuracies of three seeds by number of paths."""


def trained(folder: Path, match: str = "none") -> TrainedAblation:
    """Return a study of the paths of digits-nano with these accuracies; its costs are real."""
    config = replace(get_config("digits-nano"), stages=tuple(replace(s, paths=1) for s in get_config("digits-nano").stages))
    found = ablate(AblationStudy(model="one-path", config=config, axes={"paths": tuple(SHARES)}, size=(32, 32), match=match))
    rows = tuple(
        replace(row, accuracy=compare(SHARES[row.values["paths"]], BASELINE, 360, 60.0)) if row.config else row
        for row in found.rows
    )
    baseline = replace(found.baseline, accuracy=compare(BASELINE, BASELINE, 360, 60.0))
    return TrainedAblation(
        where=str(folder),
        data="digits",
        classes=10,
        pictures=1437,
        recipe_name="small",
        recipe=override(get_recipe("small"), {"epochs": 5, "batch": 32}),
        ablation=Ablation(found.study, baseline, rows),
    )
