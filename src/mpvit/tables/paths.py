"""The views of a network's paths: receptive fields, contributions, similarities and attention maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mpvit.paths.results import BranchAblation, Contribution, EffectiveField, HeadMap, Similarity
from mpvit.tables import Column, Document, Field, Table, build
from mpvit.tables.number_text import number_text, percent, share_text
from mpvit.units import times

if TYPE_CHECKING:
    from mpvit.paths.fields import PathField
    from mpvit.paths.views import AttentionMaps, View

    Parts = tuple[list[dict[str, Any]], list[Table], list[str]]
    """Flat rows, tables and notes of a view."""

UNTRAINED = "The network is untrained: only the geometry, window and receptive field, means something."

LEVEL = 0.05
"""Significance level of one test, before Bonferroni's correction."""


def view_document(view: View) -> Document:
    """Return what a view found; each row says which network and images it is about."""
    network, images, number = view.network, view.images, len(view.images.split)
    weights = f"weights {network.weights}" if network.trained else "untrained"
    title = f"{network.model}, {weights}; {images.name}: {number} of {times((images.config.size,) * 2)} pixels"
    rows, tables, notes = _BUILDERS[view.name](view.results, title)
    same: dict[str, Any] = {"view": view.name, "model": network.model, "weights": network.weights, "trained": network.trained}
    same |= {"data": images.name, "pictures": number}
    notes = notes if network.trained else [UNTRAINED, *notes]
    where = (network.device, network.threads, network.dtype)
    return Document("paths", tuple({**same, **row} for row in rows), tuple(tables), tuple(notes), *where)


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_FIELDS_NOTES = [
    "Window: side of a path's patch, in positions of the stage's input.",
    "Field: side of the receptive field of its tokens through convolutions, in pixels; attention then reaches everything.",
]
_EFFECTIVE_NOTES = [
    "Radius: that of the disc around the centre token with half of its squared gradients (Luo et al., NeurIPS 2016).",
    "Inside: share of them inside the field; the rest came through attention in earlier stages.",
    "Output radius: the same radius after the layers of the path.",
]


def geometry_document(model: str, fields: Sequence[PathField]) -> Document:
    """Return the receptive fields in closed form; effective radii need a trained network."""
    rows = tuple({"view": "geometry", "model": model, **field.as_row(), "effective_radius": None} for field in fields)
    columns: list[Field[PathField]] = [
        Field("Stage", lambda f: f.stage),
        Field("Path", lambda f: f.path),
        Field("Window", lambda f: f.embedding_window),
        Field("Field px", lambda f: f.receptive_field),
        Field("Stride px", lambda f: f.token_stride),
    ]
    table = build(f"{model}: receptive fields before attention", columns, fields)
    reason = "effective_radius is null: the view fields measures it on a network."
    return Document("paths", rows, (table,), (*_FIELDS_NOTES, reason))


_EFFECTIVE: tuple[Field[EffectiveField], ...] = (
    Field("Stage", lambda e: e.field.stage),
    Field("Path", lambda e: e.field.path),
    Field("Window", lambda e: e.field.embedding_window),
    Field("Field px", lambda e: e.field.receptive_field),
    Field("Stride px", lambda e: e.field.token_stride, optional=True),
    Field("Radius px", lambda e: f"{e.radius:.1f}"),
    Field("Inside", lambda e: percent(e.inside)),
    Field("Output radius px", lambda e: f"{e.output_radius:.1f}"),
)


def _effective_fields(found: Sequence[EffectiveField], title: str) -> Parts:
    return [each.as_row() for each in found], [build(title, _EFFECTIVE, found)], [*_FIELDS_NOTES, *_EFFECTIVE_NOTES]


# ── contribution ────────────────────────────────────────────────────────────────────────────────────────────────────

_CONTRIBUTION: tuple[Field[Contribution], ...] = (
    Field("Stage", lambda c: c.stage),
    Field("Branch", lambda c: c.branch, numeric=False),
    Field("Norm", lambda c: f"{c.norm:.3g}", optional=True),
    Field("Share", lambda c: percent(c.share)),
    Field("Varying", lambda c: percent(c.varying_share)),
    Field("Top-1 without", lambda c: c.ablation and share_text(c.ablation.correct, c.ablation.images)),
    Field("Lost", lambda c: c.ablation and c.ablation.lost),
    Field("Gained", lambda c: c.ablation and c.ablation.gained),
    Field("p", lambda c: c.ablation and f"{c.ablation.p_value:.2g}"),
)
_CONTRIBUTION_NOTES = [
    (
        "Share: the part of the fusion's output, the sum of W_p·x_p, that a branch adds. Varying: the same for the differences "
        "between images."
    ),
    "Without: the branch passes its mean over these images to the fusion. Intervals are Wilson's 95 % intervals.",
    "Lost, gained: images that are correct only with the branch, or only without it. p: McNemar's exact test of the two.",
]


def _contributions(found: Sequence[Contribution], title: str) -> Parts:
    def verdict(each: Contribution) -> str | None:
        return _verdict(each.ablation, len(found)) if each.ablation else None

    if known := found[0].ablation:
        title += f"; intact top-1 {share_text(known.intact, known.images)}"
    without: Field[Contribution] = Field("Without it", verdict, numeric=False)
    names = list(dict.fromkeys(name for each in found for name in each.cosines if name != "sum"))
    names = [*sorted(names, key=lambda name: (name != "local", name)), "sum"]
    cosines = tuple(
        (each.stage, each.branch, *(number_text(each.cosines.get(name), ".2f") for name in names)) for each in found
    )
    columns = (Column("Stage", numeric=True), Column("Branch"), *(Column(name, numeric=True) for name in names))
    level = f"A difference counts if p is below {LEVEL:g}/{len(found)}, because {len(found)} branches are tested (Bonferroni)."
    rows = [{**each.as_row(), "verdict": verdict(each)} for each in found]
    tables = [build(title, [*_CONTRIBUTION, without], found), Table("Cosines of W_p·x_p", columns, cosines)]
    return rows, tables, [*_CONTRIBUTION_NOTES, level]


def _verdict(ablation: BranchAblation, tests: int) -> str:
    if ablation.p_value >= LEVEL / tests:
        return "no difference seen"
    return "worse" if ablation.lost > ablation.gained else "better"


# ── similarity ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _similarities(found: Similarity, title: str) -> Parts:
    columns = (Column(""), *(Column(short_name(name), numeric=True) for name in found.names))
    cells = tuple(
        (name, *(number_text(value, ".2f") for value in line)) for name, line in zip(found.names, found.matrix, strict=True)
    )
    pairs = [
        {"first": name, "second": other, "cka": found.matrix[i][j]}
        for i, name in enumerate(found.names)
        for j, other in enumerate(found.names)
        if i <= j
    ]
    notes = [
        "Linear CKA (Kornblith et al., ICML 2019), unbiased: 1 if equal up to rotation and scale, near 0 if unrelated.",
    ]
    if any(pair["cka"] is None for pair in pairs):
        notes.append("– (null): the representation is the same for all images.")
    return pairs, [Table(title, columns, cells)], notes


def short_name(name: str) -> str:
    """Return the name of a representation for a column: "2 path 1"."""
    return name.removeprefix("stage ")


# ── attention ───────────────────────────────────────────────────────────────────────────────────────────────────────

_LAYER: tuple[Field[list[HeadMap]], ...] = (
    Field("Stage", lambda heads: heads[0].stage),
    Field("Path", lambda heads: heads[0].path),
    Field("Layer", lambda heads: heads[0].layer),
    Field("N", lambda heads: heads[0].tokens),
    Field("d", lambda heads: heads[0].head_dim),
    Field("Rank", lambda heads: max(head.implied.rank for head in heads)),
    Field("eff.", lambda heads: f"{fmean(head.implied.effective_rank for head in heads):.2f}"),
    Field("Distance px", lambda heads: f"{fmean(head.implied.distance_px for head in heads):.1f}"),
    Field("< 0", lambda heads: percent(fmean(head.implied.negative_share for head in heads)), optional=True),
    Field("full: rank", lambda heads: max(head.full.rank for head in heads)),
    Field("full: eff.", lambda heads: f"{fmean(head.full.effective_rank for head in heads):.2f}"),
    Field("full: px", lambda heads: f"{fmean(head.full.distance_px for head in heads):.1f}"),
    Field("uniform px", lambda heads: f"{heads[0].uniform_distance:.1f}"),
)
_ATTENTION_NOTES = [
    "The N×N map of each layer's attention, next to softmax(Q·Kᵀ/√d) of the same Q and K; mean over heads and images.",
    "eff.: effective rank, exp(entropy of the singular values). No map includes the relative position encoding.",
    "Distance: mean distance from a token to those it attends to, weighted by absolute value. uniform: for equal weights.",
]


def _attention_maps(found: AttentionMaps, title: str) -> Parts:
    layers = [list(group) for _, group in groupby(found.heads, lambda each: (each.stage, each.path, each.layer))]
    notes = list(_ATTENTION_NOTES)
    if found.left_out:
        stages = ", ".join(map(str, found.left_out))
        notes.append(f"Left out because its maps are too large: stage {stages}. A smaller image size includes it.")
    return [each.as_row() for each in found.heads], [build(title, _LAYER, layers)], notes


_BUILDERS: dict[str, Callable[[Any, str], Parts]] = {
    "fields": _effective_fields,
    "contribution": _contributions,
    "similarity": _similarities,
    "attention": _attention_maps,
}
