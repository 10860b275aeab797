"""A network by its name: the subject of a study, of a table row or of a command."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpvit import dense
from mpvit.architecture import closed_form
from mpvit.architecture.config import TRAINED_SIZE, ModelConfig
from mpvit.dense import Task
from mpvit.operations import Block, Shape
from mpvit.operations.tape import Tape
from mpvit.operations.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


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
        return closed_form.network(self.config, batch, *self.size)

    def record(self, tape: Tape, batch: int = 1) -> list[TensorSpec]:
        """Record one forward pass and return its outputs; errors as ``tree``."""
        if self.task:
            return dense.record_network(tape, self.config, self.task, batch, *self.size)
        return [closed_form.record_network(tape, self.config, batch, *self.size)]

    def on_meta(self, batch: int = 1, layout: str = "project") -> "tuple[nn.Module, list[Tensor]]":
        """Return the network in torch, in evaluation mode, and its inputs, all on the meta device.

        With the ``layout`` "published" a classifier has the module names of the authors' checkpoints.
        """
        import torch

        from mpvit.dense.torch_network import empty_network
        from mpvit.model.published_layout import PublishedLayout

        inputs = [torch.empty(shape, device="meta") for shape in self.input_shapes(batch)]
        if layout == "published":
            return PublishedLayout(empty_network(self.config, "meta")), inputs
        return empty_network(self.config, "meta", self.task), inputs
