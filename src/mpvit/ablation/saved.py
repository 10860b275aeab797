"""What the trained rows of an ablation came to, kept in the folder of their study."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from mpvit.ablation.study import Ablation
from mpvit.errors import UsageError
from mpvit.files import write_atomically
from mpvit.training.recipe import Recipe

FILE = "ablations.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAblation:
    """An ablation whose rows were trained: on what, and how.

    Attributes:
        where: the study's folder.
        data: the name of the pictures.
        classes: that they are in.
        pictures: to learn from; how many were held out the accuracies say.
        recipe_name: what ``recipe`` began as.
        recipe: of every row; its seed is the first one's.
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
        """Runs of each row."""
        accuracy = self.ablation.baseline.accuracy
        return len(accuracy.shares) if accuracy else 0


def keep(found: TrainedAblation) -> None:
    """Write it into its study's folder, beside what the study says of other rows."""
    folder = Path(found.where)
    before = read_study(folder) if (folder / FILE).exists() else ()
    others = [each for each in before if each.ablation.study != found.ablation.study]
    text = msgspec.json.format(msgspec.json.encode([replace(each, where="") for each in (*others, found)]), indent=1)
    write_atomically(folder / FILE, text + b"\n")


def read_study(folder: Path) -> tuple[TrainedAblation, ...]:
    """Return what the study in ``folder`` came to, in the order of its commands; raise ``UsageError`` where nothing is."""
    path = folder / FILE
    hint = "name a folder that mpvit ablate --train has written, its rows all trained"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=tuple[TrainedAblation, ...])
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}", hint=hint) from None
    except (ValueError, RecursionError) as error:  # no JSON, or none of ours; a NUL in the name
        raise UsageError(f"{str(path)!r} is damaged: {error}", hint=hint) from None
    return tuple(replace(each, where=str(folder)) for each in found)
