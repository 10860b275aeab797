"""The results of trained ablations, saved in the folder of their study."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from mpvit.ablation.study import Ablation
from mpvit.files import read_json, write_atomically
from mpvit.training.recipe import Recipe

FILE = "ablations.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAblation:
    """An ablation whose rows were trained, with the data and the recipe.

    Attributes:
        where: folder of the study.
        data: name of the dataset.
        classes: number of classes.
        pictures: number of training images.
        recipe_name: name of the recipe from which ``recipe`` was changed.
        recipe: recipe of every row, with the first seed.
        ablation: the rows.
    """

    where: str
    data: str
    classes: int
    pictures: int
    recipe_name: str
    recipe: Recipe
    ablation: Ablation

    @property
    def seeds(self) -> int:
        """Number of runs of each row."""
        accuracy = self.ablation.baseline.accuracy
        return len(accuracy.shares) if accuracy else 0


def save(found: TrainedAblation) -> None:
    """Write an ablation into the folder of its study, in addition to other ablations there."""
    folder = Path(found.where)
    before = read_study(folder) if (folder / FILE).exists() else ()
    others = [each for each in before if each.ablation.study != found.ablation.study]
    text = msgspec.json.format(msgspec.json.encode([replace(each, where="") for each in (*others, found)]), indent=1)
    write_atomically(folder / FILE, text + b"\n")


def read_study(folder: Path) -> tuple[TrainedAblation, ...]:
    """Return the ablations in ``folder`` in the order of their commands; raise ``UsageError`` if there are none."""
    hint = "name a folder in which mpvit ablate has trained all rows of an ablation"
    found = read_json(folder / FILE, tuple[TrainedAblation, ...], "a result of trained ablations", hint)
    return tuple(replace(each, where=str(folder)) for each in found)
