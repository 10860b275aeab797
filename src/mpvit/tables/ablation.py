"""Ablations: the cost of each edited network, and what each further path adds to each part of it."""

from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter

from mpvit.ablation.knobs import Knob, get_knob
from mpvit.ablation.results import PARTS, NetworkCost, Row
from mpvit.ablation.study import Ablation, AblationStudy
from mpvit.architecture.config import ModelConfig
from mpvit.dense import label
from mpvit.operations import Cost
from mpvit.tables import Document, Field, Table, build, known
from mpvit.tables.accuracy import accuracy_note, accuracy_text, conclusions, is_baseline, points_text, training_seconds
from mpvit.tables.number_text import (
    bytes_text,
    interval_text,
    median,
    quartiles,
    ran_on,
    signed,
    signed_percent,
    trouble,
    warnings,
)
from mpvit.units import duration, times

QUANTITIES = {"macs": "multiply-adds", "params": "parameters", "latency": "latency"}
"""Names of what rows can have in common with the baseline."""

_Step = tuple[Row, dict[str, Cost]]


def ablation_document(found: Ablation, *, unfinished: bool = False) -> Document:
    """Return the baseline, the rows and, where paths vary, what each further path costs; ``unfinished`` if interrupted."""
    study, rows = found.study, [found.baseline, *found.rows]
    edits = f"{' × '.join(study.axes)}{matched_text(study)}; MACs by convention {study.convention}"
    title = f"{label(study.model, study.task)}, input {times(study.input_shape)}: {edits}"
    tables = [build(title, list(_fields(found)), rows)]
    steps = [(row, step) for row in found.rows if (step := found.step(row))]
    if steps and found.baseline.accuracy is None:
        tables.append(_step_table(found, steps))
    notes = tuple(_notes(found, unfinished=unfinished))
    return Document("ablate", tuple(found.as_rows()), tuple(tables), notes, *ran_on(found.baseline.time))


def matched_text(study: AblationStudy) -> str:
    """Return what all rows have in common and how that is reached, to follow the names of the axes; empty for nothing."""
    return f", {study.match} matched by {study.knob}" if study.match != "none" else ""


def _fields(found: Ablation) -> Iterator[Field[Row]]:
    """Yield the columns: the axes, the costs and their differences from the baseline, the match, the time, the accuracy."""
    baseline, rows = found.baseline, [found.baseline, *found.rows]
    matched, trained = any(row.matched for row in rows), baseline.accuracy is not None
    macs = baseline.cost.macs if baseline.cost else 1
    first = next(iter(found.study.axes))
    for axis in found.study.axes:
        yield Field(axis, partial(_value, axis, baseline if axis == first else None), numeric=False)
    yield Field("Params", lambda row: known(row.cost, attrgetter("params")))
    if not trained:
        yield Field("Δ params", lambda row: known(_delta(found, row), lambda delta: signed(delta.params)), optional=True)
    yield Field("MACs", lambda row: known(row.cost, attrgetter("macs")))
    if not trained:
        yield Field("Δ MACs", lambda row: known(_delta(found, row), lambda delta: signed(delta.macs)), optional=True)
    yield Field(
        "Δ MACs %", lambda row: known(_delta(found, row), lambda delta: signed_percent(delta.macs / macs, 1)), optional=matched
    )
    if not trained:
        yield Field("Activations", lambda row: known(row.cost, attrgetter("activations")), optional=True)
        if _has_memory(rows):
            yield Field("Saved", lambda row: known(row.saved_activation_bytes, bytes_text), optional=True)
            yield Field("Peak", lambda row: known(row.training_peak_bytes, bytes_text), optional=True)
    if matched:
        knob = get_knob(found.study.knob)
        yield Field(knob.what, lambda row: known(row.config, partial(_amounts, knob)), numeric=False)
        yield Field("off %", lambda row: known(row.matched, lambda matched: signed_percent(matched.off, 2)))
    if baseline.time:
        yield Field("median ms", lambda row: median(row.time))
        yield Field("quartiles ms", lambda row: quartiles(row.time), optional=True)
        yield Field("over baseline", lambda row: interval_text(row.latency_ratio))
    if trained:
        yield Field("top-1", lambda row: known(row.accuracy, accuracy_text))
        yield Field("Δ top-1, points", lambda row: None if is_baseline(found, row) else points_text(row.accuracy))
        yield Field("Verdict", partial(_verdict, found), numeric=False)
    if any(_problem(row) for row in rows):
        yield Field("Problem", _problem, numeric=False)


def _value(axis: str, marked: Row | None, row: Row) -> str:
    return row.values[axis] + (" (baseline)" if row is marked else "")


def _delta(found: Ablation, row: Row) -> NetworkCost | None:
    return None if row is found.baseline else found.delta(row)


def _amounts(knob: Knob, config: ModelConfig) -> str:
    return "/".join(str(knob.read(stage)) for stage in config.stages)


def _has_memory(rows: Sequence[Row]) -> bool:
    return any(row.saved_activation_bytes is not None for row in rows)


def _verdict(found: Ablation, row: Row) -> str:
    return row.accuracy.verdict if row.accuracy and not is_baseline(found, row) else ""


def _problem(row: Row) -> str:
    return row.error or trouble(row.time)


def _step_table(found: Ablation, steps: Sequence[_Step]) -> Table:
    """Return the parameters and MACs of each further path, and the parts of the network that they are in."""
    parts = [part for part in PARTS if any(step[part] != Cost() for _, step in steps)]
    fields: list[Field[_Step]] = [Field(axis, partial(_step_value, axis), numeric=False) for axis in found.study.axes]
    for figure, word in (("params", "params"), ("macs", "MACs")):
        fields.append(Field(f"+ {word}", partial(_step_figure, figure, parts)))
        fields += [Field(f"{word}: {part}", partial(_step_figure, figure, [part])) for part in parts]
    return build("What each further path adds, by part of the network", fields, steps)


def _step_value(axis: str, step: _Step) -> str:
    return step[0].values[axis]


def _step_figure(figure: str, parts: Sequence[str], step: _Step) -> int:
    return sum(getattr(step[1][part], figure) for part in parts)


def _notes(found: Ablation, *, unfinished: bool) -> Iterator[str]:
    rows, accuracy, study = [found.baseline, *found.rows], found.baseline.accuracy, found.study
    yield "The first row is the unchanged baseline; Δ is the difference from it."
    if not accuracy and _has_memory(rows):
        yield (
            "Saved: bytes that autograd keeps in a training step, exact. Peak: memory of that step with AdamW in float32, "
            f"modelled within {5 if study.task else 4} %."
        )
    for reason in dict.fromkeys(row.untrainable for row in rows if row.untrainable):
        yield f"Not trainable: {reason}; use a larger batch or image."
    if study.match != "none":
        refused = sum(bool(row.error) for row in rows)
        exceptions = f", or is refused ({refused})" if refused else ""
        yield (
            f"Each row has the {QUANTITIES[study.match]} of the baseline within 1 %{exceptions}: one factor scales the "
            f"{study.knob} of all stages, rounded to the step that a stage allows."
        )
    if unfinished:
        yield f"Interrupted: {len(found.rows)} of {len(study.grid)} rows."
    if accuracy:
        yield accuracy_note(accuracy.images, len(accuracy.shares))
        yield "An interval of Δ that covers zero shows no difference. By chance alone, one row in twenty shows one."
        yield from conclusions(found)
        yield f"All training runs together took {duration(training_seconds(found))}."
    if found.baseline.time:
        yield (
            "over baseline: the time of the row divided by that of the baseline in the same round; median over rounds, with a "
            "95 % interval."
        )
        yield from warnings([row.time for row in rows if row.time])
