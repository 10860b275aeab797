"""``mpvit memory``: what training takes in memory."""

from typing import Annotated

import typer

from mpvit.tables.memory import memory_document
from mpvit.training_memory import DTYPES, OPTIMIZERS, MemoryOptions, TrainingMemory
from mpvit.training_memory.closed_form import training_memory
from mpvit_cli import options, tasks, user_model
from mpvit_cli.output import Terminal, check_format

Dtype = Annotated[
    str,
    typer.Option(
        metavar="|".join(DTYPES),
        help="What activations are in; bfloat16 by autocast, parameters stay float32.",
        autocompletion=options.complete(DTYPES),
    ),
]
Optimizer = Annotated[
    str,
    typer.Option(metavar="|".join(OPTIMIZERS), help="Whose state is kept.", autocompletion=options.complete(OPTIMIZERS)),
]
Budget = Annotated[
    str | None,
    typer.Option(metavar="24GiB", help="Also find the largest batch that fits this much memory.", show_default=False),
]


def memory(
    ctx: typer.Context,
    variant: options.Variants = None,
    config: options.Configs = None,
    attention: options.Attention = None,
    task: tasks.Tasks = None,
    classes: tasks.Classes = None,
    proposals: tasks.Proposals = None,
    detections: tasks.Detections = None,
    size: options.Size = "224",
    batch: options.Batch = 1,
    model: user_model.Model = None,
    argument: user_model.Arguments = None,
    inputs: user_model.Inputs = None,
    dtype: Dtype = "float32",
    optimizer: Optimizer = "adamw",
    budget: Budget = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Predict the memory of a training step: parameters, gradients, optimizer state, saved activations and the peak.

    All but the peak are exact to the byte; the step ends at the raw outputs, without a loss. A network of --model runs once
    in training mode, its inputs' first length being the batch.

    Examples:
      mpvit memory --variant small --batch 64 --budget 24GiB

      mpvit memory --task upernet --variant small --batch 2 --dtype bfloat16 --budget 80GiB

      mpvit memory --model my_models.vit:ViT --input 8x3x224x224 --optimizer sgd-momentum
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    user_model.check_model_options(ctx, model)
    memory_options = MemoryOptions(dtype, optimizer, options.parse_bytes("--budget", budget) if budget is not None else None)
    predictions: list[TrainingMemory] = []
    if model:
        loaded = user_model.load(model, argument, inputs, terminal)
        from mpvit.training_memory import live

        predictions.append(live.training_memory(loaded, memory_options))
    else:
        numbers = {"classes": classes, "proposals": proposals, "detections": detections}
        predictions += [
            training_memory(each, batch=batch, options=memory_options)
            for each in tasks.parse_networks(ctx, options.parse_models(variant, config, attention), size, task, numbers)
        ]
    terminal.show(memory_document(predictions), form, output)
    if any(prediction.error for prediction in predictions):
        raise typer.Exit(1)
