"""Memory of a training step in closed form, from the configuration of a network, without torch."""

from math import prod

from mpvit.network import NamedNetwork
from mpvit.operations import Block, Operation, occurrences
from mpvit.operations.tape import Tape
from mpvit.training_memory import ActivationBytes, MemoryOptions, ParameterBytes, TrainingMemory, with_largest_batch
from mpvit.units import ITEM_BYTES


def training_memory(network: NamedNetwork, *, batch: int, options: MemoryOptions) -> TrainingMemory:
    """Return the memory of a training step, with the largest batch that fits the budget if there is one.

    The step ends at the raw outputs: the tensors that a loss saves are left out. Raises ``UsageError`` for a length below 1,
    and if a batch norm would have one value per channel.
    """
    memory = training_step(network, network.tree(batch), batch, options)
    return with_largest_batch(
        memory, lambda samples: _activations(network, network.tree(samples), samples, options), evenly=network.task is None
    )


def training_step(network: NamedNetwork, tree: Block, batch: int, options: MemoryOptions) -> TrainingMemory:
    """Return the memory of one training step without the largest batch; ``tree`` is ``network.tree(batch)``.

    Raises ``UsageError`` if a batch norm would have one value per channel.
    """
    found = list(occurrences(tree))
    params = sum(times * operation.params for operation, times in found)
    tensors = sum(times * _parameter_tensors(operation) for operation, times in found)
    nbytes = ITEM_BYTES["float32"] * params
    return TrainingMemory(
        model=network.name,
        task=network.task,
        input_shapes=network.input_shapes(batch),
        options=options,
        parameters=ParameterBytes(params, nbytes, nbytes, tensors),
        activations=_activations(network, tree, batch, options),
    )


def _activations(network: NamedNetwork, tree: Block, batch: int, options: MemoryOptions) -> ActivationBytes:
    tape = Tape(training=True, autocast=options.autocast)
    outputs = network.record(tape, batch)
    if network.task:
        unsaved = {x.storage: None for x in outputs if x.storage not in tape.saved}
        return ActivationBytes(tape.saved_bytes, _transient_bytes_of_task(tree, options) + sum(each.nbytes for each in unsaved))
    largest = max(_elements(operation) for operation, _ in occurrences(tree) if operation.calls)
    return ActivationBytes(tape.saved_bytes, ITEM_BYTES[options.dtype] * largest)


def _transient_bytes_of_task(tree: Block, options: MemoryOptions) -> int:
    """Return the transient bytes of a detector or segmenter, whose weights are as large as its feature maps, without outputs.

    They are the gradients of shared parameters, which exist until the last call, and the largest call with the gradients of
    its own parameters. Outputs that autograd does not save come in addition.
    """
    shared = sum(times * operation.params for operation, times in occurrences(tree) if not operation.calls)
    largest = max(
        ITEM_BYTES[options.dtype] * _elements(operation) + ITEM_BYTES["float32"] * operation.params
        for operation, _ in occurrences(tree)
        if operation.calls
    )
    return ITEM_BYTES["float32"] * shared + largest


def _elements(operation: Operation) -> int:
    """Return the elements of the operands and the result of a call, without parameters."""
    return sum(map(prod, (operation.input_shape, *operation.others, operation.output_shape)))


def _parameter_tensors(operation: Operation) -> int:
    """Return the number of parameter tensors of an operation; the statistics of a batch norm are buffers."""
    return min(len(operation.weights), len(operation.weight_names)) if operation.params else 0
