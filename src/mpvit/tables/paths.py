"""What each path sees: fields, contributions, similarity and maps between tokens, and of which pictures and weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mpvit.tables import Cell, Column, Document, Field, Table, build
from mpvit.tables.training import percent, share_text
from mpvit.units import times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpvit.paths.fields import PathField
    from mpvit.paths.results import Contribution, Effective, HeadMap, Silenced, Similarity
    from mpvit.prediction.results import Classifier

UNTRAINED = "The network is untrained (--random-init): only the geometry, window and receptive field, means something."

ALONE = 0.05
"""How likely a difference must not be by chance for one that was looked at alone."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Which network looked at which pictures; ``size`` is the side that it saw, in pixels."""

    about: Classifier
    name: str
    pictures: int
    size: int

    @property
    def title(self) -> str:
        """What a table begins with."""
        weights = f"weights {self.about.weights}" if self.about.trained else "untrained"
        return f"{self.about.model}, {weights}; {self.name}: {self.pictures} of {times((self.size, self.size))} pixels"

    @property
    def network(self) -> str:
        """The network's name."""
        return self.about.model if self.about.trained else f"{self.about.model}, untrained,"

    @property
    def caption(self) -> str:
        """What stands above a figure."""
        return f"{self.network} on {self.name}" + (f": {self.pictures} pictures" if self.pictures > 1 else "")

    def document(self, view: str, rows: Sequence[dict[str, Any]], tables: Sequence[Table], notes: Sequence[str]) -> Document:
        """Return a view's answer; each row says what was looked at."""
        same = {
            "view": view,
            "model": self.about.model,
            "weights": self.about.weights,
            "trained": self.about.trained,
            "data": self.name,
            "pictures": self.pictures,
        }
        said = notes if self.about.trained else (UNTRAINED, *notes)
        where = (self.about.device, self.about.threads, self.about.dtype)
        return Document("paths", tuple({**same, **row} for row in rows), tuple(tables), tuple(said), *where)


def _pixels(value: float) -> str:
    return f"{value:.1f}"


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_GEOMETRY: tuple[Field[PathField], ...] = (
    Field("Stage", lambda f: f.stage),
    Field("Path", lambda f: f.path),
    Field("Window", lambda f: f.embedding_window),
    Field("Field px", lambda f: f.receptive_field),
    Field("Stride px", lambda f: f.token_stride),
)
_FIELDS_NOTES = (
    "Window: side of a path's patch, in positions of the stage's input.",
    "Field: side in pixels of what its tokens see through convolutions, before attention, which reaches everything.",
)
_EFFECTIVE_NOTES = (
    "Radius: of the disc around the centre token with half of its squared gradients (Luo et al., NeurIPS 2016).",
    "Inside: share of those within the field; the rest came by attention in earlier stages. Behind: of the path's layers.",
)


def geometry_document(model: str, fields: Sequence[PathField]) -> Document:
    """Return the receptive fields alone; radii need a network that has learned."""
    rows = [{"view": "geometry", "model": model, **field.as_row(), "effective_radius": None} for field in fields]
    table = build(f"{model}: what tokens see before attention", _GEOMETRY, fields)
    reason = "effective_radius is null: --view fields measures it on a network."
    return Document("paths", tuple(rows), (table,), (*_FIELDS_NOTES, reason))


def fields_document(found: Sequence[Effective], looked: Looked) -> Document:
    """Return the receptive field of each path beside the effective one."""
    fields: list[Field[Effective]] = [
        Field(field.header, lambda e, read=field.read: read(e.field), optional=field.header == "Stride px")  # type: ignore[misc]
        for field in _GEOMETRY
    ]
    fields += [
        Field("Radius px", lambda e: _pixels(e.radius)),
        Field("Inside", lambda e: percent(e.inside)),
        Field("Radius behind px", lambda e: _pixels(e.output_radius)),
    ]
    table = build(looked.title, fields, found)
    return looked.document("fields", [each.as_row() for each in found], [table], (*_FIELDS_NOTES, *_EFFECTIVE_NOTES))


# ── contribution ────────────────────────────────────────────────────────────────────────────────────────────────────

_CONTRIBUTION: tuple[Field[Contribution], ...] = (
    Field("Stage", lambda c: c.stage),
    Field("Branch", lambda c: c.branch, numeric=False),
    Field("Norm", lambda c: f"{c.norm:.3g}", optional=True),
    Field("Share", lambda c: percent(c.share)),
    Field("Varying", lambda c: percent(c.varying_share)),
)
_SILENCED: tuple[Field[Contribution], ...] = (
    Field("Top-1 without", lambda c: c.silenced and share_text(c.silenced.correct, c.silenced.images)),
    Field("Lost", lambda c: c.silenced and c.silenced.lost),
    Field("Gained", lambda c: c.silenced and c.silenced.gained),
    Field("p", lambda c: c.silenced and f"{c.silenced.p_value:.2g}"),
)
_CONTRIBUTION_NOTES = (
    "Share: what a branch adds to its fusion's output, the sum of W_p·x_p; varying: to what differs from picture to picture.",
    "Without: the branch hands its mean over these pictures to the fusion. Intervals are Wilson's, of 95 %.",
    "Lost, gained: pictures that are right only with it, only without it; p: McNemar's exact test of the two.",
)


def contribution_document(found: Sequence[Contribution], looked: Looked) -> Document:
    """Return what each branch brings and what the network is without it; the cosines as a table of their own."""
    known = found[0].silenced
    title = looked.title
    if known:
        title += f"; intact top-1 {share_text(known.intact, known.images)}"
    verdict: Field[Contribution] = Field(
        "Without it", lambda c: c.silenced and verdict_text(c.silenced, len(found)), numeric=False
    )
    tables = [build(title, [*_CONTRIBUTION, *_SILENCED, verdict], found), _cosines(found)]
    level = f"A difference counts where p is below {ALONE:g}/{len(found)}, as {len(found)} branches are looked at (Bonferroni)."
    rows = [{**each.as_row(), "verdict": each.silenced and verdict_text(each.silenced, len(found))} for each in found]
    return looked.document("contribution", rows, tables, (*_CONTRIBUTION_NOTES, level))


def verdict_text(silenced: Silenced, comparisons: int) -> str:
    """Return in words what silencing a branch does, one of so many that are looked at."""
    if silenced.p_value >= ALONE / comparisons:
        return "no difference seen"
    return "worse" if silenced.lost > silenced.gained else "better"


def _cosines(found: Sequence[Contribution]) -> Table:
    names = list(dict.fromkeys(name for each in found for name in each.cosines if name != "sum"))
    names = [*sorted(names, key=lambda name: (name != "local", name)), "sum"]
    columns = (Column("Stage", numeric=True), Column("Branch"), *(Column(name, numeric=True) for name in names))
    rows: list[tuple[Cell, ...]] = [
        (each.stage, each.branch, *(f"{each.cosines[name]:.2f}" if name in each.cosines else None for name in names))
        for each in found
    ]
    return Table("Cosines of W_p·x_p", columns, tuple(rows))


# ── similarity ──────────────────────────────────────────────────────────────────────────────────────────────────────

_SIMILARITY_NOTE = (
    "Linear CKA (Kornblith et al., ICML 2019), unbiased: 1 for the same but for turns and scale, near 0 for nothing in common."
)


def similarity_document(found: Similarity, looked: Looked) -> Document:
    """Return the matrix; JSON and CSV have one row a pair."""
    columns = (Column(""), *(Column(short_name(name), numeric=True) for name in found.names))
    rows: list[tuple[Cell, ...]] = [
        (name, *(None if value is None else f"{value:.2f}" for value in line))
        for name, line in zip(found.names, found.matrix, strict=True)
    ]
    pairs = [
        {"first": name, "second": other, "cka": found.matrix[i][j]}
        for i, name in enumerate(found.names)
        for j, other in enumerate(found.names)
        if i <= j
    ]
    notes = [_SIMILARITY_NOTE]
    if any(pair["cka"] is None for pair in pairs):
        notes.append("– (null): it is the same for all pictures.")
    return looked.document("similarity", pairs, [Table(looked.title, columns, tuple(rows))], notes)


def short_name(name: str) -> str:
    """Return a representation's name for a column: "2 path 1"."""
    return name.removeprefix("stage ")


# ── attention ───────────────────────────────────────────────────────────────────────────────────────────────────────

_HEADS: tuple[Field[list[HeadMap]], ...] = (
    Field("Stage", lambda h: h[0].stage),
    Field("Path", lambda h: h[0].path),
    Field("Layer", lambda h: h[0].layer),
    Field("N", lambda h: h[0].tokens),
    Field("d", lambda h: h[0].head_dim),
    Field("Rank", lambda h: max(each.implied.rank for each in h)),
    Field("eff.", lambda h: f"{_mean([each.implied.effective_rank for each in h]):.2f}"),
    Field("Distance px", lambda h: _pixels(_mean([each.implied.distance for each in h]))),
    Field("< 0", lambda h: percent(_mean([each.implied.negative for each in h])), optional=True),
    Field("full: rank", lambda h: max(each.full.rank for each in h)),
    Field("full: eff.", lambda h: f"{_mean([each.full.effective_rank for each in h]):.2f}"),
    Field("full: px", lambda h: _pixels(_mean([each.full.distance for each in h]))),
    Field("uniform px", lambda h: _pixels(h[0].uniform_distance)),
)
_ATTENTION_NOTES = (
    "The N×N map of each layer's attention, beside softmax(Q·Kᵀ/√d) of the same Q and K; mean over heads and pictures.",
    "Eff.: effective rank, the exponential of the singular values' entropy. The relative position encoding is in no map.",
    "Distance: from a token to those it attends to, weighted by absolute value; uniform: if it attended to all alike.",
)


def attention_maps_document(found: Sequence[HeadMap], left_out: Sequence[int], looked: Looked) -> Document:
    """Return what each layer's maps are like; ``left_out`` are stages with too many tokens."""
    layers = [list(group) for _, group in groupby(found, lambda each: (each.stage, each.path, each.layer))]
    notes = list(_ATTENTION_NOTES)
    if left_out:
        notes.append(f"Left out, its maps being too large: stage {', '.join(map(str, left_out))}. A smaller --size has them.")
    return looked.document("attention", [each.as_row() for each in found], [build(looked.title, _HEADS, layers)], notes)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
