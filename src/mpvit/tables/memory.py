"""What training takes in memory: one table a network."""

from collections.abc import Sequence

from mpvit.tables import Document, Field, build
from mpvit.training_memory import TrainingMemory
from mpvit.units import BYTES, times

_Row = tuple[str, int]


def memory_document(predictions: Sequence[TrainingMemory]) -> Document:
    """Return each network's parts, their sum and, with a budget, the largest batch."""
    tables = [build(_title(memory), (_WHAT, _NUMBER, _READABLE), _rows(memory), footer=True) for memory in predictions]
    rows = tuple(memory.as_row() for memory in predictions)
    return Document("memory", rows, tuple(tables), tuple(_notes(predictions)))


def readable_bytes(number: int) -> str:
    """Return bytes in the largest unit of 1024 that leaves at least one: 109.34 MiB; below that exactly."""
    unit = next((name for name in ("TiB", "GiB", "MiB", "KiB") if number >= BYTES[name]), "B")
    return f"{number} B" if unit == "B" else f"{number / BYTES[unit]:.2f} {unit}"


_WHAT: Field[_Row] = Field("What", lambda row: row[0], numeric=False)
_NUMBER: Field[_Row] = Field("Bytes", lambda row: row[1])
_READABLE: Field[_Row] = Field("Readable", lambda row: readable_bytes(row[1]))


def _title(memory: TrainingMemory) -> str:
    shapes = ", ".join(times(shape) for shape in memory.input_shapes)
    title = f"{memory.label}: training on {shapes}, {memory.options.dtype}, {memory.options.optimizer}"
    budget = memory.options.budget_bytes
    if budget is None or memory.largest_batch is None:
        return title
    return f"{title}; largest batch in {readable_bytes(budget)}: {memory.largest_batch}"


def _rows(memory: TrainingMemory) -> list[_Row]:
    return [
        ("parameters", memory.parameters.params_bytes),
        ("gradients", memory.parameters.gradient_bytes),
        ("optimizer state", memory.optimizer_bytes),
        ("saved activations", memory.activations.saved_bytes),
        ("largest transient", memory.activations.transient_bytes),
        ("peak", memory.peak_bytes),
    ]


def _notes(predictions: Sequence[TrainingMemory]) -> list[str]:
    notes = [f"{memory.label}: {memory.error}" for memory in predictions if memory.error]
    notes.append("Saved activations are exact: the storages that autograd keeps, parameters left out, buffers included.")
    notes.append("The peak is a model (MPViT: within 4 % of torch's CPU allocator): gradients kept, no kernel's workspace.")
    if any(memory.task for memory in predictions):
        notes.append(
            "The step ends at the raw outputs: what a loss keeps of them is not in it. Of a task the largest transient has the "
            "outputs and the gradients of shared parameters too; its peak is within 5 % of torch's CPU allocator."
        )
    if any(memory.task and memory.task.proposals for memory in predictions):
        notes.append(
            "Features of all proposals and detections count; sampling them from the maps keeps boxes alone. Training usually "
            "samples fewer than inference: --proposals 512 --detections 128."
        )
    if any(memory.options.autocast for memory in predictions):
        notes.append("bfloat16 is autocast by the CPU's rules; CUDA's keep more, as norms and softmax run in float32.")
    return notes
