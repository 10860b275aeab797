"""``mpvit memory``: memory of a training step."""

from typing import Annotated

import typer

from mpvit.tables.memory import memory_document
from mpvit.training_memory import DTYPES, OPTIMIZERS, MemoryOptions
from mpvit.training_memory.closed_form import training_memory
from mpvit_cli.options import Options, option
from mpvit_cli.options.answer import Answer
from mpvit_cli.options.user_model import AnyNetworks
from mpvit_cli.options.values import parse_bytes
from mpvit_cli.output import Terminal


class Training(Options):
    """Dtype, optimizer and budget of the training step."""

    dtype: Annotated[
        str, option("Dtype of the activations; bfloat16 by autocast, parameters stay float32.", choices=DTYPES)
    ] = "float32"
    optimizer: Annotated[str, option("Optimizer whose state is counted.", choices=OPTIMIZERS)] = "adamw"
    budget: Annotated[
        str | None, option("Memory for which the largest batch is computed too, such as 24GiB.", metavar="BYTES")
    ] = None

    def options(self) -> MemoryOptions:
        """Return them as the library takes them."""
        budget = None if self.budget is None else parse_bytes("--budget", self.budget)
        return MemoryOptions(self.dtype, self.optimizer, budget)


def memory(terminal: Terminal, networks: AnyNetworks, training: Training, answer: Answer) -> None:
    """Predict the memory of a training step: parameters, gradients, optimizer state, saved activations and the peak.

    All but the peak are exact to the byte. The step ends at the raw outputs, without a loss. A network of --model runs once in
    training mode; the first length of its inputs is the batch.

    Examples:
      mpvit memory --variant small --batch 64 --budget 24GiB

      mpvit memory --task upernet --variant small --batch 2 --dtype bfloat16 --budget 80GiB

      mpvit memory --model my_models.vit:ViT --input 8x3x224x224 --optimizer sgd-momentum
    """
    options = training.options()
    if networks.model:
        model = networks.load(terminal)
        from mpvit.training_memory import live

        predictions = [live.training_memory(model, options)]
    else:
        predictions = [training_memory(each, batch=networks.batch, options=options) for each in networks.networks()]
    answer.show(terminal, memory_document(predictions))
    if any(prediction.error for prediction in predictions):
        raise typer.Exit(1)
