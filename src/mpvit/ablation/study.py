"""The ablation: every combination of the axes' values as a network, with all that it costs, in closed form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from typing import Any

from mpvit.ablation.edits import Subject, get_axis
from mpvit.ablation.knobs import get_knob
from mpvit.ablation.match import TOLERANCE, meet
from mpvit.ablation.results import PARTS, Matched, NetworkCost, Row, by_part
from mpvit.closed_form import parts
from mpvit.config import ModelConfig
from mpvit.counting import check_convention, input_shape
from mpvit.dense import Task
from mpvit.errors import UsageError, unknown_name
from mpvit.network import NamedNetwork
from mpvit.operations import Block, Cost
from mpvit.operations.conventions import tally
from mpvit.training_memory import MemoryOptions
from mpvit.training_memory.closed_form import training_step

BUDGETS = ("none", "macs", "params", "latency")
"""What each row can be made to have in common with the baseline; latency only where it is measured."""

MOST_ROWS = 5000
"""Of a grid; more is a slip of the hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to ablate. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        model: the baseline's name.
        config: the baseline.
        axes: the values of each axis, as text; () for the axis's own.
        size: (height, width) of the images in pixels.
        batch: images in a batch.
        convention: what MACs are: a key of ``mpvit.operations.conventions.CONVENTIONS``.
        match: what every row is to have in common with the baseline: one of ``BUDGETS``.
        knob: what is turned for that: a key of ``mpvit.ablation.knobs.KNOBS``.
        task: the detector or segmenter that each network is the backbone of; None for the network itself.
    """

    model: str
    config: ModelConfig
    axes: Mapping[str, tuple[str, ...]]
    size: tuple[int, int] = (224, 224)
    batch: int = 1
    convention: str = "fvcore"
    match: str = "none"
    knob: str = "width"
    task: Task | None = None

    def __post_init__(self) -> None:
        """Check every field once, and fill in the axes' own values."""
        check_convention("analytic", self.convention)
        input_shape(self.config, self.size, self.batch)
        get_knob(self.knob)
        if self.match not in BUDGETS:
            raise unknown_name("budget", self.match, BUDGETS)
        if not self.axes:
            raise UsageError("no axis: must be at least one", hint="for example paths")
        if self.match != "none" and self.knob in self.axes:
            raise UsageError(f"match {self.match} with knob {self.knob!r}: it would undo the axis", hint="take another knob")
        axes = {name: tuple(dict.fromkeys(values or get_axis(name).values)) for name, values in self.axes.items()}
        for name, values in axes.items():
            for value in values:
                _parsed(name, value)
        if prod(map(len, axes.values())) > MOST_ROWS:
            raise UsageError(f"a grid of {prod(map(len, axes.values()))} rows: must be at most {MOST_ROWS}")
        object.__setattr__(self, "axes", axes)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W) of the baseline's images."""
        return input_shape(self.config, self.size, self.batch)

    @property
    def grid(self) -> list[dict[str, str]]:
        """Every combination of the axes' values, the last axis's changing fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]


@dataclass(frozen=True, slots=True)
class Ablation:
    """The baseline, and one row for each combination of values that there is, in the order of the study's grid."""

    study: Study
    baseline: Row
    rows: tuple[Row, ...]

    def delta(self, row: Row) -> NetworkCost | None:
        """Return the row's cost less the baseline's; None where the row was refused."""
        return row.cost - self.baseline.cost if row.cost and self.baseline.cost else None

    def step(self, row: Row) -> dict[str, Cost] | None:
        """Return, by part, the row's cost less that of the row with the number of paths before, all else being equal.

        None on other axes, for the first number of paths, in a matched study, and where either row was refused.
        """
        before = self._before(row)
        if before is None or not before.parts or not row.parts:
            return None
        return {part: cost - before.parts[part] for part, cost in row.parts.items()}

    def _before(self, row: Row) -> Row | None:
        values = self.study.axes.get("paths", ())
        place = values.index(row.values["paths"]) if values and row is not self.baseline else 0
        if place == 0 or self.study.match != "none":
            return None
        wanted = {**row.values, "paths": values[place - 1]}
        return next((other for other in self.rows if other.values == wanted), None)

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat rows for JSON and CSV, the baseline's first."""
        return [self._flat(row) for row in (self.baseline, *self.rows)]

    def _flat(self, row: Row) -> dict[str, Any]:
        delta, step = self.delta(row), self.step(row)
        whole = sum(step.values(), Cost()) if step else None
        return {
            "model": self.study.model,
            "baseline": row is self.baseline,
            "input_shape": list(input_shape(self.study.config, row.size, self.study.batch)),
            **row.as_row(),
            "batch": self.study.batch,
            "convention": self.study.convention,
            **({"task": self.study.task.name} if self.study.task else {}),
            **{f"delta_{name}": getattr(delta, name, None) for name in NetworkCost.figures()},
            **{f"step_{name}": getattr(whole, name, None) for name in Cost.figures()},
            **by_part(step, "step_"),
        }


def ablate(study: Study) -> Ablation:
    """Return every row of ``study``. Raises ``UsageError`` where the baseline cannot be counted, or latency is to match."""
    baseline, *rows = each_row(study)
    return Ablation(study, baseline, tuple(rows))


def each_row(study: Study) -> Iterator[Row]:
    """Yield the baseline and then each row, as ``ablate`` gathers them."""
    if study.match == "latency":
        raise UsageError("match latency: must be measured", hint="add --measure, or match macs")
    baseline = baseline_row(study)
    yield baseline
    for values in study.grid:
        yield edited_row(study, baseline, values)


def baseline_row(study: Study) -> Row:
    """Return the baseline's row, its own values on the axes."""
    own = Subject(study.config, study.size)
    return counted_row(study, {name: get_axis(name).read(own) for name in study.axes}, own)


def edited_row(study: Study, baseline: Row, values: Mapping[str, str]) -> Row:
    """Return the row of these values, matched to the baseline's budget in MACs or parameters if the study wants that."""
    try:
        subject = edited(study, values)
        if study.match not in Cost.figures():
            return counted_row(study, values, subject)
        return matched_row(study, values, subject, getattr(baseline.cost, study.match), study.match)
    except UsageError as error:
        return Row(values=values, size=study.size, error=str(error))


def edited(study: Study, values: Mapping[str, str]) -> Subject:
    """Return the study's network with these edits; raise ``UsageError`` where a constraint refuses them."""
    subject = Subject(study.config, study.size)
    for name, text in values.items():
        subject = get_axis(name).edit(subject, _parsed(name, text))
    return subject


def counted_row(study: Study, values: Mapping[str, str], subject: Subject) -> Row:
    """Return what ``subject`` costs; raise ``UsageError`` where it cannot be counted."""
    config, size = subject
    network = NamedNetwork(study.model, config, size, study.task)
    tree = network.tree(study.batch)
    row = Row(values=values, config=config, size=size, parts=_parts(tree, study))
    try:
        memory = training_step(network, tree, study.batch, MemoryOptions())
    except UsageError as error:
        return replace(row, untrainable=str(error))
    return replace(row, saved_activation_bytes=memory.activations.saved_bytes, training_peak_bytes=memory.peak_bytes)


def matched_row(study: Study, values: Mapping[str, str], subject: Subject, budget: int, quantity: str) -> Row:
    """Return the row that meets ``budget``, of MACs or params, by the study's knob.

    Raises ``UsageError`` where the nearest is more than ``TOLERANCE`` away, which would be no fair comparison.
    """
    knob = get_knob(study.knob)
    cost = partial(_quantity, study, subject.size, quantity)
    config, reached = meet(subject.config, knob, budget, cost)
    off = reached / budget - 1
    if abs(off) > TOLERANCE:
        raise UsageError(f"{quantity}: the nearest that {study.knob} reaches is {100 * off:+.1f} % from the baseline's")
    amounts = tuple(knob.read(stage) for stage in config.stages)
    row = counted_row(study, values, subject._replace(config=config))
    return replace(row, matched=Matched(quantity, study.knob, amounts, off))


def _quantity(study: Study, size: tuple[int, int], quantity: str, config: ModelConfig) -> int:
    tree = NamedNetwork(study.model, config, size, study.task).tree(study.batch)
    return getattr(tally(tree, study.convention).cost, quantity)


def _parts(tree: Block, study: Study) -> dict[str, Cost]:
    """Return what each of ``PARTS`` costs, the stages together; a task's head is the head."""
    costs = dict.fromkeys(PARTS, Cost())
    pieces = parts(tree.block("backbone"), "path") | {"head": tree.block("head")} if study.task else parts(tree, "path")
    for name, node in pieces.items():
        costs[_part(name)] += tally(node, study.convention).cost
    return costs


def _part(name: str) -> str:
    """Return which of ``PARTS`` "stem", "stage 2 path 1" or "stage 2 local" is in."""
    stage, _, rest = name.partition(" ")
    kind = rest.partition(" ")[2].partition(" ")[0]
    return {"path": "paths"}.get(kind, kind) if rest else stage


def _parsed(name: str, text: str) -> Any:  # noqa: ANN401 - whatever the axis takes
    """Return a value of the axis ``name``; raise ``UsageError`` naming both where it is none."""
    axis = get_axis(name)
    try:
        return axis.parse(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}", hint=error.hint) from None
