"""What a count answers, as frozen values: exact integers, nothing rounded."""

from dataclasses import asdict, dataclass, field
from typing import Any

from mpvit.operations import Cost, Shape
from mpvit.units import FLOPS_PER_MAC

TOTAL = "total"
"""The part of a count that is the whole network."""


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One primitive layer of the network: its kind, shapes, and how often one forward pass calls it."""

    kind: str
    input_shape: Shape
    output_shape: Shape
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What one counter counts of one network, or of a part of it.

    Attributes:
        model: name of the variant, or of the configuration's file.
        input_shape: (B, C, H, W) of the image batch.
        counter: who counted: analytic, torch, fvcore or thop.
        convention: what was added up: fvcore, exact, matmul, or thop's own.
        part: the part of the network, ``total`` for all of it.
        params: learned numbers; None where the counter failed.
        macs: multiply-adds under the convention; None where the counter failed.
        activations: output elements of convolutions, linear layers and matmuls; None where the counter has no such count.
        by_kind: the MACs of each kind of operation; sums to ``macs``.
        not_counted: number of calls of each operation that the counter passes over.
        published: the authors' own figures for this network and input, under the convention ``fvcore``; None if none.
        closed_form_macs: what the closed form gives under the same convention; None where it has no such convention.
        layer: of a count by layer, which layer this is.
        error: why the counter failed; empty where it did not.
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

    @property
    def label(self) -> str:
        """What was counted, in few words."""
        return self.model

    @property
    def flops(self) -> int | None:
        """Floating-point operations: two for each MAC."""
        return None if self.macs is None else FLOPS_PER_MAC * self.macs

    @property
    def agrees(self) -> bool | None:
        """Whether every published figure that this count can be held against is the same; None if there is none."""
        if self.published is None or self.convention != "fvcore":
            return None
        return all(getattr(self, figure) == getattr(self.published, figure) for figure in Cost.figures())

    @property
    def agrees_with_closed_form(self) -> bool | None:
        """Whether the closed form gives the same MACs under the same convention; None if it has no such convention."""
        return None if self.closed_form_macs is None else self.macs == self.closed_form_macs

    def as_row(self) -> dict[str, Any]:
        """Return the count as one flat row for JSON and CSV; ``published`` stays a mapping or None."""
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
        return row


@dataclass(frozen=True, slots=True)
class Counted:
    """The multiply-adds and learned numbers that a tool counts of any module; ``params`` is None where it counts none.

    ``by_module`` are the multiply-adds of each module alone, without those below it, by its first name, as the tool has them:
    before it adds up shared modules and takes averages.
    """

    macs: int
    params: int | None
    by_module: dict[str, int] = field(default_factory=dict)
