"""What training and evaluation have found: the epochs, the classes, the whole."""

from collections.abc import Sequence
from typing import Any

from mpvit.tables import Document, Field, Table, build
from mpvit.training.results import ClassResult, Epoch, Evaluation, wilson

_ACCURACY_DIGITS = 2


def percent(share: float) -> str:
    """Return a share in percent: 98.61 %."""
    return f"{100 * share:.{_ACCURACY_DIGITS}f} %"


def share_text(correct: int, images: int) -> str:
    """Return a share in percent with its interval: 98.61 % (96.79–99.40)."""
    low, high = wilson(correct, images)
    return f"{percent(correct / images)} ({100 * low:.{_ACCURACY_DIGITS}f}–{100 * high:.{_ACCURACY_DIGITS}f})"


# ── training ────────────────────────────────────────────────────────────────────────────────────────────────────────


def training_document(epochs: Sequence[Epoch], row: dict[str, Any], device: str, threads: int, dtype: str) -> Document:
    """Return the run's last epochs as a table, and what it came to as one ``row``, which says what was trained on what."""
    last = epochs[-1]
    whole = {
        **row,
        "epochs": last.epoch,
        "steps": last.step,
        "train_loss": last.loss,
        "loss": last.held_out_loss,
        "images": last.held_out_images,
        "top1": last.held_out_accuracy,
        **dict(zip(("top1_low", "top1_high"), wilson(last.held_out_correct, last.held_out_images), strict=True)),
        "images_per_s": last.images_per_s,
    }
    accuracy = share_text(last.held_out_correct, last.held_out_images)
    title = f"{row['model']} on {row['data']}: {accuracy} of {last.held_out_images} pictures held out"
    return Document("train", (whole,), (build(title, _EPOCH, epochs[-_SHOWN:]),), _TRAINING_NOTES, device, threads, dtype)


_SHOWN = 5
"""Epochs in the table; log.jsonl has all."""

_EPOCH: tuple[Field[Epoch], ...] = (
    Field("Epoch", lambda epoch: epoch.epoch),
    Field("Loss", lambda epoch: f"{epoch.loss:.4f}"),
    Field("Accuracy", lambda epoch: percent(epoch.accuracy)),
    Field("Held-out loss", lambda epoch: f"{epoch.held_out_loss:.4f}"),
    Field("Top-1", lambda epoch: percent(epoch.held_out_accuracy)),
    Field("Images/s", lambda epoch: f"{epoch.images_per_s:.0f}", optional=True),
)

_TRAINING_NOTES = (
    "Top-1 and held-out loss are of the averaged weights, which are kept; loss and accuracy of pictures as they were changed.",
    "The interval is Wilson's, of 95 %: what other pictures of the same kind would give, not what another seed would.",
)


def epoch_text(epoch: Epoch, epochs: int) -> str:
    """Return an epoch in a line."""
    return (
        f"epoch {epoch.epoch}/{epochs}: loss {epoch.loss:.4f}, top-1 {percent(epoch.held_out_accuracy)}"
        f" (held-out loss {epoch.held_out_loss:.4f}), {epoch.images_per_s:.0f} images/s"
    )


# ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def evaluation_document(found: Evaluation, device: str, threads: int, mode: str) -> Document:
    """Return the whole and each class as tables; JSON has the classes and the confusion in the one row."""
    row = found.as_row() | {
        "mode": mode,
        "by_class": [each._asdict() for each in found.by_class],
        "confusion": [list(line) for line in found.confusion],
    }
    title = f"{found.model} on {found.data}, {found.part}: {found.images} pictures, weights {found.weights}"
    whole: list[tuple[str, str]] = [
        ("top-1", share_text(found.correct, found.images)),
        ("top-5", share_text(found.correct5, found.images)),
        ("loss", f"{found.loss:.4f}"),
        ("calibration error", percent(found.calibration_error)),
        ("images/s", f"{found.images_per_s:.0f}"),
    ]
    fields: tuple[Field[tuple[str, str]], ...] = (
        Field("What", lambda pair: pair[0], numeric=False),
        Field("", lambda pair: pair[1]),
    )
    return Document("eval", (row,), (build(title, fields, whole), _by_class(found)), _notes(found), device, threads, "float32")


def _by_class(found: Evaluation) -> Table:
    return build("By class", _CLASS, [each for each in found.by_class if each.images or each.predicted])


_CLASS: tuple[Field[ClassResult], ...] = (
    Field("Class", lambda each: each.name, numeric=False),
    Field("Pictures", lambda each: each.images),
    Field("Found", lambda each: each.correct),
    Field("Recall", lambda each: percent(each.correct / each.images) if each.images else None),
    Field("Named", lambda each: each.predicted, optional=True),
    Field("Precision", lambda each: percent(each.correct / each.predicted) if each.predicted else None, optional=True),
)


def _notes(found: Evaluation) -> tuple[str, ...]:
    notes = ["Intervals are Wilson's, of 95 %. Top-5 of five classes or fewer is 1 by definition."]
    if found.damaged:
        names = ", ".join(name for name, _ in found.damaged[:_NAMED])
        more = f" and {len(found.damaged) - _NAMED} more" if len(found.damaged) > _NAMED else ""
        notes.append(f"{len(found.damaged)} pictures cannot be read and are left out: {names}{more}.")
    return tuple(notes)


_NAMED = 5
