"""What a run trains, on what and how."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from mpvit import dense
from mpvit.config import ModelConfig, config_from_dict
from mpvit.model.metadata import Preprocessing
from mpvit.training.data import Data
from mpvit.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run trains, on what and how: ``config.json``.

    Attributes:
        data: what ``open_data`` opens.
        fingerprint: of its pictures, those that can be read.
        damaged: those that cannot, with the reason.
        classes: the names of the classes.
        model: the network's name.
        network: its configuration.
        recipe_name: the recipe that ``recipe`` began as.
        recipe: how it is trained.
        versions: of the libraries that it began with.
        task: the segmenter whose head stands on the network; empty for a classifier.
    """

    data: str
    fingerprint: str
    damaged: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    model: str
    network: dict[str, Any]
    recipe_name: str
    recipe: Recipe
    versions: dict[str, str]
    task: str = ""

    @classmethod
    def of(
        cls,
        data: Data,
        network: tuple[str, ModelConfig],
        recipe: tuple[str, Recipe],
        versions: dict[str, str],
        task: str | None = None,
    ) -> Self:
        """Return what a run trains on ``data``; the network, which gets its classes, and the recipe come with their names."""
        model, config = network
        classes = 0 if task else len(data.classes)  # those of a segmenter are its head's
        return cls(
            data=data.where,
            fingerprint=data.fingerprint,
            damaged=data.damaged,
            classes=data.classes,
            model=model,
            network=asdict(replace(config, num_classes=classes)),
            recipe_name=recipe[0],
            recipe=recipe[1],
            versions=versions,
            task=task or "",
        )

    def require(self) -> None:
        """Raise ``UsageError`` for a network or a task that there is not."""
        config = self.config
        if self.segmenter:
            dense.require_levels(config, self.segmenter)

    @property
    def config(self) -> ModelConfig:
        """The network's configuration, with as many classes as the data; none below a segmenter's head."""
        return config_from_dict(self.network)

    @property
    def segmenter(self) -> dense.Task | None:
        """The segmenter with as many classes as the data; None of a classifier."""
        return dense.get_segmenter(self.task, len(self.classes)) if self.task else None

    @property
    def preprocessing(self) -> Preprocessing:
        """What becomes of a picture in evaluation."""
        return Preprocessing(self.recipe.size, self.recipe.crop)
