"""An ablation in closed form: every combination of the values of the axes is a network, with its cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

from mpvit.ablation.axes import get_axis
from mpvit.ablation.knobs import get_knob
from mpvit.ablation.matching import TOLERANCE, match_budget
from mpvit.ablation.results import PARTS, Matched, NetworkCost, Row, by_part
from mpvit.architecture.closed_form import parts, require_lengths
from mpvit.architecture.config import ModelConfig
from mpvit.counting import check_convention
from mpvit.dense import Task
from mpvit.errors import UsageError, unknown_name
from mpvit.network import NamedNetwork
from mpvit.operations import Block, Cost, Shape
from mpvit.operations.conventions import tally
from mpvit.training_memory import MemoryOptions
from mpvit.training_memory.closed_form import training_step

BUDGETS = ("none", "macs", "params", "latency")
"""Quantities in which the rows can be matched to the baseline; latency requires a measurement."""

MAX_ROWS = 5000
"""Maximum number of rows; more is a typing error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationStudy:
    """What is ablated. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        model: name of the baseline.
        config: configuration of the baseline.
        axes: values of each axis, as text; () for the default values of the axis.
        size: (height, width) of the images, in pixels.
        batch: batch size.
        convention: key of ``mpvit.operations.conventions.CONVENTIONS`` for the MACs.
        match: quantity in which every row is matched to the baseline, one of ``BUDGETS``.
        knob: key of ``mpvit.ablation.knobs.KNOBS`` with which rows are matched.
        task: the detector or segmenter on each network; None for classifiers.
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
        """Check every field once, and fill in the default values of the axes."""
        check_convention("analytic", self.convention)
        require_lengths(self.batch, *self.size)
        get_knob(self.knob)
        if self.match not in BUDGETS:
            raise unknown_name("budget", self.match, BUDGETS)
        if not self.axes:
            raise UsageError("no axis: must be at least one", hint="for example paths")
        if self.match != "none" and self.knob in self.axes:
            raise UsageError(f"match {self.match} with knob {self.knob!r}: it would undo the axis", hint="choose another knob")
        axes = {name: tuple(dict.fromkeys(values or get_axis(name).values)) for name, values in self.axes.items()}
        for name, values in axes.items():
            for value in values:
                _parse(name, value)
        if prod(map(len, axes.values())) > MAX_ROWS:
            raise UsageError(f"a grid of {prod(map(len, axes.values()))} rows: must be at most {MAX_ROWS}")
        object.__setattr__(self, "axes", axes)

    @property
    def network(self) -> NamedNetwork:
        """The baseline."""
        return NamedNetwork(self.model, self.config, self.size, self.task)

    @property
    def input_shape(self) -> Shape:
        """(B, C, H, W) of the images of the baseline."""
        return self.network.input_shapes(self.batch)[0]

    @property
    def grid(self) -> list[dict[str, str]]:
        """Every combination of the values of the axes; the values of the last axis change fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]


@dataclass(frozen=True, slots=True)
class Ablation:
    """The baseline, and one row for each combination of values, in the order of the grid of the study."""

    study: AblationStudy
    baseline: Row
    rows: tuple[Row, ...]

    def delta(self, row: Row) -> NetworkCost | None:
        """Return the cost of the row minus that of the baseline; None if the row has no network."""
        return row.cost - self.baseline.cost if row.cost and self.baseline.cost else None

    def step(self, row: Row) -> dict[str, Cost] | None:
        """Return, for each part, the cost of the row minus that of the row with the number of paths before it.

        All other values of the two rows are equal. None if there is no such row, if one of them has no network, and in a
        matched study.
        """
        before = self._before(row)
        if before is None or not before.parts or not row.parts:
            return None
        return {part: cost - before.parts[part] for part, cost in row.parts.items()}

    def _before(self, row: Row) -> Row | None:
        values = self.study.axes.get("paths", ())
        index = values.index(row.values["paths"]) if values and row is not self.baseline else 0
        if index == 0 or self.study.match != "none":
            return None
        wanted = {**row.values, "paths": values[index - 1]}
        return next((other for other in self.rows if other.values == wanted), None)

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat rows for JSON and CSV; the first is the baseline."""
        return [self._as_row(row) for row in (self.baseline, *self.rows)]

    def _as_row(self, row: Row) -> dict[str, Any]:
        delta, step, study = self.delta(row), self.step(row), self.study
        whole = sum(step.values(), Cost()) if step else None
        return {
            "model": study.model,
            "baseline": row is self.baseline,
            "input_shape": list(replace(study.network, size=row.size).input_shapes(study.batch)[0]),
            **row.as_row(),
            "batch": study.batch,
            "convention": study.convention,
            **({"task": study.task.name} if study.task else {}),
            **{f"delta_{name}": getattr(delta, name, None) for name in NetworkCost.figures()},
            **{f"step_{name}": getattr(whole, name, None) for name in Cost.figures()},
            **by_part(step, "step_"),
        }


def ablate(study: AblationStudy) -> Ablation:
    """Return every row of ``study``; errors as ``each_row``."""
    baseline, *rows = each_row(study)
    return Ablation(study, baseline, tuple(rows))


def each_row(study: AblationStudy) -> Iterator[Row]:
    """Yield the baseline, then each row; raise ``UsageError`` if the baseline cannot be counted, or latency is to match."""
    if study.match == "latency":
        raise UsageError("match latency: must be measured", hint="measure the rows, or match macs")
    baseline = baseline_row(study)
    yield baseline
    for values in study.grid:
        yield edited_row(study, baseline, values)


def baseline_row(study: AblationStudy) -> Row:
    """Return the row of the baseline, with its own values on the axes."""
    return counted_row(study, {name: get_axis(name).read(study.network) for name in study.axes}, study.network)


def edited_row(study: AblationStudy, baseline: Row, values: Mapping[str, str]) -> Row:
    """Return the row of ``values``, matched to the baseline in MACs or parameters if the study requires it."""
    try:
        network = edited_network(study, values)
        if study.match not in Cost.figures():
            return counted_row(study, values, network)
        return matched_row(study, values, network, getattr(baseline.cost, study.match), study.match)
    except UsageError as error:
        return Row(values=values, size=study.size, error=str(error))


def edited_network(study: AblationStudy, values: Mapping[str, str]) -> NamedNetwork:
    """Return the baseline with the edits of ``values``; raise ``UsageError`` if a constraint forbids one."""
    network = study.network
    for name, text in values.items():
        network = get_axis(name).edit(network, _parse(name, text))
    return network


def counted_row(study: AblationStudy, values: Mapping[str, str], network: NamedNetwork) -> Row:
    """Return the row of ``network`` with its cost; raise ``UsageError`` if it cannot be counted."""
    tree = network.tree(study.batch)
    row = Row(values=values, config=network.config, size=network.size, parts=_parts(tree, study))
    try:
        memory = training_step(network, tree, study.batch, MemoryOptions())
    except UsageError as error:
        return replace(row, untrainable=str(error))
    return replace(row, saved_activation_bytes=memory.activations.saved_bytes, training_peak_bytes=memory.peak_bytes)


def matched_row(study: AblationStudy, values: Mapping[str, str], network: NamedNetwork, budget: int, quantity: str) -> Row:
    """Return the row of ``network`` matched to ``budget`` in MACs or parameters by the knob of the study.

    Raises ``UsageError`` if the nearest network differs by more than ``TOLERANCE`` from the budget.
    """

    def cost(config: ModelConfig) -> int:
        tree = replace(network, config=config).tree(study.batch)
        return getattr(tally(tree, study.convention).cost, quantity)

    knob = get_knob(study.knob)
    config, reached = match_budget(network.config, knob, budget, cost)
    off = reached / budget - 1
    if abs(off) > TOLERANCE:
        raise UsageError(f"{quantity}: the nearest that {study.knob} reaches is {100 * off:+.1f} % from the baseline's")
    amounts = tuple(knob.read(stage) for stage in config.stages)
    row = counted_row(study, values, replace(network, config=config))
    return replace(row, matched=Matched(quantity, study.knob, amounts, off))


def _parts(tree: Block, study: AblationStudy) -> dict[str, Cost]:
    """Return the cost of each of ``PARTS``, summed over the stages; the head of a task is the head."""
    costs = dict.fromkeys(PARTS, Cost())
    pieces = parts(tree.block("backbone"), "path") | {"head": tree.block("head")} if study.task else parts(tree, "path")
    for name, node in pieces.items():
        costs[_part(name)] += tally(node, study.convention).cost
    return costs


def _part(name: str) -> str:
    """Return the one of ``PARTS`` to which "stem", "stage 2 path 1" or "stage 2 local" belongs."""
    stage, _, rest = name.partition(" ")
    kind = rest.partition(" ")[2].partition(" ")[0]
    return {"path": "paths"}.get(kind, kind) if rest else stage


def _parse(name: str, text: str) -> Any:  # noqa: ANN401 - each axis has its own type of value
    """Return the value ``text`` of the axis ``name``; a ``UsageError`` names both."""
    axis = get_axis(name)
    try:
        return axis.parse(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}", hint=error.hint) from None
