"""What edits of a network cost: one row a network, and what each further path adds, by part."""

from collections.abc import Callable, Iterator, Sequence

from mpvit.ablation.knobs import Knob, get_knob
from mpvit.ablation.results import PARTS, Row
from mpvit.ablation.study import Ablation, Study
from mpvit.dense import label
from mpvit.operations import Cost
from mpvit.tables import Document, Field, Table, build
from mpvit.tables.accuracy import (
    accuracy_note,
    accuracy_text,
    conclusions,
    is_baseline,
    points_text,
    seconds_of,
    verdict_text,
)
from mpvit.tables.measured import interval_text, milliseconds, quartiles, warnings
from mpvit.tables.memory import readable_bytes
from mpvit.tables.reconcile import signed
from mpvit.units import duration, times

_Step = tuple[Row, dict[str, Cost]]


def ablation_document(found: Ablation, *, unfinished: bool = False) -> Document:
    """Return the rows with the baseline's first, and the steps between numbers of paths; ``unfinished`` if cut short."""
    study = found.study
    rows = [found.baseline, *found.rows]
    asked = f"{' × '.join(study.axes)}{matched_text(study)}; MACs by convention {study.convention}"
    model = label(study.model, study.task)
    title = f"{model}, input {times(study.input_shape)}: {asked}"
    tables = [build(title, list(_fields(found)), rows)]
    steps = [(row, step) for row in found.rows if (step := found.step(row))]
    if steps and found.baseline.accuracy is None:
        tables.append(_step_table(found, steps))
    time = found.baseline.time
    return Document(
        "ablate",
        tuple(found.as_rows()),
        tuple(tables),
        tuple(_notes(found, unfinished=unfinished)),
        time.device if time else None,
        time.threads if time else None,
        time.dtype if time else None,
    )


def matched_text(study: Study) -> str:
    """Return what the rows have in common and what is turned for it, to stand behind what is changed; empty for nothing."""
    return f", {study.match} matched by {study.knob}" if study.match != "none" else ""


def _fields(found: Ablation) -> Iterator[Field[Row]]:
    """Yield the columns: the axes, the costs with their differences from the baseline, the match and the time."""
    rows = found.rows
    for number, name in enumerate(found.study.axes):
        yield Field(name, _value(found, name, marked=number == 0), numeric=False)
    matched, trained = any(row.matched for row in rows), found.baseline.accuracy is not None
    yield _figure("Params", "params")
    if not trained:
        yield Field("Δ params", lambda row: _delta(found, row, "params"), optional=True)
    yield _figure("MACs", "macs")
    if not trained:
        yield Field("Δ MACs", lambda row: _delta(found, row, "macs"), optional=True)
    yield Field("Δ MACs %", lambda row: _percent(found, row), optional=matched)
    if not trained:
        yield _figure("Activations", "activations", optional=True)
    if not trained and _has_memory(found):
        yield Field("Saved", lambda row: _bytes(row.saved_activation_bytes), optional=True)
        yield Field("Peak", lambda row: _bytes(row.training_peak_bytes), optional=True)
    if matched:
        knob = get_knob(found.study.knob)
        yield Field(knob.what, _amounts(knob), numeric=False)
        yield Field("off %", _off)
    if found.baseline.time:
        yield Field("median ms", lambda row: milliseconds(row.time.median_s) if row.time else None)
        yield Field("quartiles ms", lambda row: quartiles(row.time) if row.time else None, optional=True)
        yield Field("over baseline", lambda row: interval_text(row.latency_ratio))
    if trained:
        yield Field("top-1", lambda row: accuracy_text(row.accuracy) if row.accuracy else None)
        yield Field("Δ top-1, points", lambda row: _points(found, row))
        yield Field("says", lambda row: "" if is_baseline(found, row) else verdict_text(row.accuracy), numeric=False)
    if any(_trouble(row) for row in rows):
        yield Field("Why not", lambda row: _trouble(row) or "", numeric=False)


def _value(found: Ablation, name: str, *, marked: bool) -> Callable[[Row], str]:
    return lambda row: row.values[name] + (" (baseline)" if marked and row is found.baseline else "")


def _figure(header: str, name: str, *, optional: bool = False) -> Field[Row]:
    return Field(header, lambda row: getattr(row.cost, name, None), optional=optional)


def _bytes(number: int | None) -> str | None:
    return None if number is None else readable_bytes(number)


def _delta(found: Ablation, row: Row, name: str) -> str | None:
    delta = found.delta(row)
    return None if delta is None or row is found.baseline else signed(getattr(delta, name))


def _percent(found: Ablation, row: Row) -> str | None:
    delta, own = found.delta(row), found.baseline.cost
    return None if delta is None or own is None or row is found.baseline else _signed_percent(delta.macs / own.macs, 1)


def _signed_percent(share: float, digits: int) -> str:
    return f"{100 * share:+.{digits}f}".replace("-", "−")


def _amounts(knob: Knob) -> Callable[[Row], str | None]:
    return lambda row: "/".join(str(knob.read(stage)) for stage in row.config.stages) if row.config else None


def _off(row: Row) -> str | None:
    return _signed_percent(row.matched.off, 2) if row.matched else None


def _points(found: Ablation, row: Row) -> str | None:
    return points_text(row.accuracy) if row.accuracy and not is_baseline(found, row) else None


def _trouble(row: Row) -> str:
    return row.error or (row.time.error or row.time.stopped if row.time else "")


def _step_table(found: Ablation, steps: Sequence[_Step]) -> Table:
    """Return what each further path costs: parameters and MACs, and which parts of the network they are in."""
    parts = [part for part in PARTS if any(step[part] != Cost() for _, step in steps)]
    fields = [Field(name, _step_value(name), numeric=False) for name in found.study.axes]
    for figure, word in (("params", "params"), ("macs", "MACs")):
        fields.append(Field(f"+ {word}", _step_figure(figure, parts)))
        fields += [Field(f"{word}: {part}", _step_figure(figure, [part])) for part in parts]
    return build("Each number of paths less the one before it, by part of the network", fields, steps)


def _step_value(axis: str) -> Callable[[_Step], str]:
    return lambda step: step[0].values[axis]


def _step_figure(figure: str, parts: Sequence[str]) -> Callable[[_Step], int]:
    return lambda step: getattr(sum((step[1][part] for part in parts), Cost()), figure)


def _has_memory(found: Ablation) -> bool:
    return any(row.saved_activation_bytes is not None for row in (found.baseline, *found.rows))


def _notes(found: Ablation, *, unfinished: bool) -> Iterator[str]:
    accuracy = found.baseline.accuracy
    first = "The first row is the baseline, unchanged; Δ is a row less the baseline."
    accurate = "5 %" if found.study.task else "4 %"
    memory = f"Saved: bytes that autograd saves, exact; Peak: a training step with AdamW in float32, a model within {accurate}."
    yield first if accuracy or not _has_memory(found) else f"{first} {memory}"
    untrainable = {row.untrainable: None for row in (found.baseline, *found.rows) if row.untrainable}
    yield from (f"Not trainable: {reason}; take a larger batch or image." for reason in untrainable)
    refused = sum(bool(row.error) for row in found.rows)
    if found.study.match != "none":
        how = "is within 1 % of the baseline's" if not refused else f"is within 1 % of the baseline's, or refused ({refused})"
        yield f"{found.study.match} of each row {how}: one factor on {found.study.knob}, each stage rounded to its step."
    if unfinished:
        yield f"Interrupted: {len(found.rows)} of {len(found.study.grid)} rows."
    if accuracy:
        yield (
            f"{accuracy_note(accuracy.images, len(accuracy.shares))} Where Δ's covers zero no difference is seen. Of twenty "
            "rows one shows a difference by chance."
        )
        yield from conclusions(found)
        yield f"Training took {duration(seconds_of(found))}, added up over all runs."
    if found.baseline.time:
        yield "over baseline: median over rounds of the row's time over the baseline's beside it, with its 95 % interval."
        yield from warnings([row.time for row in (found.baseline, *found.rows) if row.time])
