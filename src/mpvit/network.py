"""A network by its name: what a study, a table row or a command is about."""

from dataclasses import dataclass

from mpvit import cost, dense
from mpvit.config import TRAINED_SIZE, ModelConfig
from mpvit.dense import Task
from mpvit.operations import Block, Shape


@dataclass(frozen=True, slots=True)
class NamedNetwork:
    """One network: a classifier, or the backbone of a detector or segmenter.

    Attributes:
        name: name of the variant, of the configuration file, or a name that the caller chose.
        config: the configuration.
        size: (height, width) of the images, in pixels.
        task: the detector or segmenter on the network; None for the classifier.
    """

    name: str
    config: ModelConfig
    size: tuple[int, int] = (TRAINED_SIZE, TRAINED_SIZE)
    task: Task | None = None

    @property
    def label(self) -> str:
        """The name, together with the name of the task if there is one."""
        return dense.label(self.name, self.task)

    def input_shapes(self, batch: int = 1) -> tuple[Shape, ...]:
        """Return the shapes of the inputs: (B, C, H, W) images, then the region features that the head of the task takes."""
        return dense.input_shapes(self.config, self.task, batch, *self.size)

    def tree(self, batch: int = 1) -> Block:
        """Return the operations of one forward pass in evaluation mode; raise ``UsageError`` for a length below 1."""
        if self.task:
            return dense.network(self.config, self.task, batch, *self.size)
        return cost.network(self.config, batch, *self.size)
