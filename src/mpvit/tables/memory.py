"""The memory of a training step: one table per network."""

from collections.abc import Iterator, Sequence

from mpvit.tables import Document, Field, build
from mpvit.tables.number_text import bytes_text
from mpvit.training_memory import TrainingMemory
from mpvit.units import times

_Row = tuple[str, int]

_FIELDS: tuple[Field[_Row], ...] = (
    Field("Part", lambda row: row[0], numeric=False),
    Field("Bytes", lambda row: row[1]),
    Field("Readable", lambda row: bytes_text(row[1])),
)


def memory_document(predictions: Sequence[TrainingMemory]) -> Document:
    """Return the parts of each network, their sum and, with a budget, the largest batch."""
    tables = tuple(build(_title(memory), _FIELDS, _rows(memory), footer=True) for memory in predictions)
    return Document("memory", tuple(memory.as_row() for memory in predictions), tables, tuple(_notes(predictions)))


def _title(memory: TrainingMemory) -> str:
    shapes = ", ".join(times(shape) for shape in memory.input_shapes)
    title = f"{memory.label}: training on {shapes}, {memory.options.dtype}, {memory.options.optimizer}"
    budget = memory.options.budget_bytes
    if budget is None or memory.largest_batch is None:
        return title
    return f"{title}; largest batch in {bytes_text(budget)}: {memory.largest_batch}"


def _rows(memory: TrainingMemory) -> list[_Row]:
    return [
        ("parameters", memory.parameters.params_bytes),
        ("gradients", memory.parameters.gradient_bytes),
        ("optimizer state", memory.optimizer_bytes),
        ("saved activations", memory.activations.saved_bytes),
        ("largest transient", memory.activations.transient_bytes),
        ("peak", memory.peak_bytes),
    ]


def _notes(predictions: Sequence[TrainingMemory]) -> Iterator[str]:
    yield from (f"{memory.label}: {memory.error}" for memory in predictions if memory.error)
    yield "Saved activations are exact: the storages that autograd keeps, with buffers and without parameters."
    yield "The peak is a model (for MPViT within 4 % of torch's CPU allocator): gradients are kept, kernels use no workspace."
    if any(memory.task for memory in predictions):
        yield (
            "The step ends at the raw outputs, so what a loss keeps is not included. With a task, the largest transient "
            "includes the outputs and the gradients of shared parameters; the peak is within 5 % of torch's CPU allocator."
        )
    if any(memory.task and memory.task.proposals for memory in predictions):
        yield (
            "The features of all proposals and detections count; sampling them from the maps keeps only the boxes. Training "
            "usually samples fewer than inference: 512 proposals and 128 detections."
        )
    if any(memory.options.autocast for memory in predictions):
        yield "bfloat16: autocast by the rules of the CPU; those of CUDA keep more, as norms and softmax run in float32."
