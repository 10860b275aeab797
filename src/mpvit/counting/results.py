"""The result of a count, as a frozen value: exact integers, nothing rounded."""

from dataclasses import asdict, dataclass, field
from typing import Any

from mpvit.dense import Task, label
from mpvit.dense.published import PublishedTask
from mpvit.network import NamedNetwork
from mpvit.operations import Cost, Shape
from mpvit.units import FLOPS_PER_MAC

TOTAL = "total"
"""The part of a count that is the whole network."""


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One primitive layer of the network: its kind, its shapes, and the number of its calls in a forward pass."""

    kind: str
    input_shape: Shape
    output_shape: Shape
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The cost of one network, or of a part of it, as one counter counts it.

    Attributes:
        model: name of the variant, or of the configuration file.
        input_shape: (B, C, H, W) of the image batch.
        counter: ``analytic`` or the name of a tool.
        convention: what is added up: fvcore, exact, matmul, published-dense, or the tool's own.
        part: name of the part; ``total`` for the whole network.
        params: parameters; None if the counter failed.
        macs: multiply-adds under the convention; None if the counter failed.
        activations: output elements of convolutions, linear layers and matmuls; None if the counter does not count them.
        by_kind: multiply-adds of each kind of operation, which sum to ``macs``; empty if the counter does not tell them.
        not_counted: number of calls of each operation that the counter passes over.
        published: the authors' figures for this network and input, under the convention ``fvcore``; None if there are none.
        closed_form_macs: multiply-adds in closed form under the same convention; None for a tool's own convention.
        layer: the layer that the part is, in a count by layer.
        error: why the counter failed; empty if it did not.
        task: the detector or segmenter on the network; None for the classifier.
        printed: the figures of the paper's tables for the detector or segmenter; None if there are none.
    """

    model: str
    input_shape: Shape
    counter: str
    convention: str
    part: str = TOTAL
    params: int | None
    macs: int | None
    activations: int | None
    by_kind: dict[str, int] = field(default_factory=dict)
    not_counted: dict[str, int] = field(default_factory=dict)
    published: Cost | None = None
    closed_form_macs: int | None = None
    layer: LayerInfo | None = None
    error: str = ""
    task: Task | None = None
    printed: PublishedTask | None = None

    @classmethod
    def of(cls, network: NamedNetwork, batch: int, counter: str, convention: str, **figures: Any) -> "Count":  # noqa: ANN401
        """Return a count of ``network``; ``figures`` are the other fields."""
        shape = network.input_shapes(batch)[0]
        return cls(model=network.name, task=network.task, input_shape=shape, counter=counter, convention=convention, **figures)

    @property
    def label(self) -> str:
        """The name of the network, together with that of the task if there is one."""
        return label(self.model, self.task)

    @property
    def flops(self) -> int | None:
        """Floating-point operations: two for each multiply-add."""
        return None if self.macs is None else FLOPS_PER_MAC * self.macs

    @property
    def agrees(self) -> bool | None:
        """Whether the count equals the published figures; None if there are none under this convention."""
        if self.published is None or self.convention != "fvcore":
            return None
        return all(getattr(self, figure) == getattr(self.published, figure) for figure in Cost.figures())

    @property
    def agrees_with_closed_form(self) -> bool | None:
        """Whether the closed form gives the same multiply-adds; None if it does not have the convention."""
        return None if self.closed_form_macs is None else self.macs == self.closed_form_macs

    @property
    def agreement(self) -> tuple[bool, bool] | None:
        """Whether parameters and multiply-adds round to the printed figures; None if there are none."""
        if self.printed is None or self.params is None or self.macs is None:
            return None
        return self.printed.agreement(self.params, self.macs)

    def as_row(self) -> dict[str, Any]:
        """Return the count as one flat row for JSON and CSV; ``published`` is a mapping or None."""
        row: dict[str, Any] = {
            "model": self.model,
            "input_shape": list(self.input_shape),
            "counter": self.counter,
            "convention": self.convention,
            "part": self.part,
            "params": self.params,
            "macs": self.macs,
            "flops": self.flops,
            "activations": self.activations,
            "by_kind": dict(self.by_kind),
            "not_counted": dict(self.not_counted),
            "published": asdict(self.published) if self.published else None,
            "agrees_with_published": self.agrees,
            "closed_form_macs": self.closed_form_macs,
            "error": self.error or None,
        }
        if self.layer:
            row |= {
                "kind": self.layer.kind,
                "layer_input_shape": list(self.layer.input_shape),
                "layer_output_shape": list(self.layer.output_shape),
                "calls": self.layer.calls,
            }
        row |= self.task.as_row() if self.task else {}
        if self.printed and self.agreement:
            figures = ("params_millions", "macs_billions")
            row["published"] = {figure: getattr(self.printed, figure) for figure in figures}
            row["agrees_with_published"] = all(self.agreement)
            row["params_agree"], row["macs_agree"] = self.agreement
        return row
