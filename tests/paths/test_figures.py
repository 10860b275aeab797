"""What the figures draw is what was found: outlines hold half of the energy, bars, cells and colours are the numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_networks import SMALL, drawn, images
from matplotlib.contour import ContourSet
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mpvit.paths.attention_maps import implied_map, layer_inputs, token_attention
from mpvit.paths.contribution import ablate_branches, contributions
from mpvit.paths.effective import effective_fields
from mpvit.paths.similarity import similarities
from mpvit.plots import save_figure
from mpvit.plots.paths import (
    attention_maps_figure,
    contribution_figure,
    fields_figure,
    similarity_figure,
    smoothed,
)

PICTURE = np.full((32, 32, 3), 0.5)


def test_an_outline_holds_half_of_the_energy_and_a_square_is_the_field(tmp_path: Path) -> None:
    found = effective_fields(drawn(SMALL), [images(4)])
    figure = fields_figure(found, PICTURE, "title")
    assert len(figure.axes) == 2 * 2  # two rows, two stages
    for column, own in enumerate((found[:2], found[2:])):
        above = figure.axes[column]
        outlines = [each for each in above.collections if isinstance(each, ContourSet)]
        squares = [patch for patch in above.patches if isinstance(patch, Rectangle)]
        sides = {each.field.receptive_field for each in own}
        assert sides <= {round(square.get_width()) for square in squares}
        for each, outline in zip(own, outlines, strict=True):
            smooth = smoothed(each.embedded, each.field.token_stride / 4)
            down, across = np.indices((32, 32))
            places = np.column_stack((across.ravel(), down.ravel()))
            (path,) = outline.get_paths()
            polygons = [np.asarray(polygon) for polygon in path.to_polygons(closed_only=False)]
            turns = np.sum([polygon_holds(polygon, places) for polygon in polygons], axis=0)
            inside = turns.reshape(32, 32) % 2 == 1  # a hole is within two
            assert smooth[inside].sum() == pytest.approx(0.5, abs=0.06)
            assert smooth[inside].min() >= smooth[~inside].max() * 0.9
    for suffix in ("png", "svg", "pdf"):
        save_figure(figure, tmp_path / f"figure.{suffix}")
        assert (tmp_path / f"figure.{suffix}").stat().st_size > 1000


def polygon_holds(polygon: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether points (n, 2) are in a polygon (m, 2): a ray to the right crosses its edges an odd number of times."""
    x, y = places[:, 0, None], places[:, 1, None] + 1e-9
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    with np.errstate(divide="ignore", invalid="ignore"):
        crosses = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return crosses.sum(1) % 2 == 1


def test_blurring_keeps_the_sum_and_spreads_a_point_as_a_gaussian() -> None:
    point = np.zeros((41, 41))
    point[20, 20] = 1
    spread = smoothed(point, 3)
    down, across = np.indices(spread.shape)
    assert spread.sum() == pytest.approx(1)
    assert (spread * (down - 20) ** 2).sum() == pytest.approx(9, rel=0.05)
    assert (spread * (across - 20) ** 2).sum() == pytest.approx(9, rel=0.05)
    assert smoothed(np.ones((8, 8)), 2) == pytest.approx(np.ones((8, 8)))


def test_bars_are_shares_and_points_are_accuracies() -> None:
    network, x = drawn(SMALL), images(12)
    parts, means = contributions(network, [x])
    found = ablate_branches(network, parts, means, [x], [0, 1, 2] * 4)
    shares, accuracy = contribution_figure(found, "title").axes
    bars = [patch for patch in shares.patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == pytest.approx([100 * each.share for each in found])
    dots = [np.asarray(line.get_xdata()).item() for line in accuracy.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([100 * each.ablation.correct / 12 for each in found if each.ablation])


def test_cells_are_the_matrix() -> None:
    found = similarities(drawn(SMALL), [images(8)])
    axes = similarity_figure(found, "title").axes[0]
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array(found.matrix))
    assert axes.texts[1].get_text() == f"{found.matrix[0][1]:.2f}"
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found.names)


def test_colours_are_weights_of_the_token_at_a_point() -> None:
    network, x = drawn(SMALL), images(1)
    found = token_attention(network, x, (31, 9), stage=3)  # stride 8: the token in column 3, row 1
    assert [(each.path, each.head, each.token) for each in found] == [(path, 1, (3, 1)) for path in (1, 2, 3)]
    figure = attention_maps_figure(found, PICTURE, "title")
    last = [layer for layer in layer_inputs(network, x) if (layer.stage, layer.layer) == (3, 2)]
    for column, layer in enumerate(last):
        for row, kind in enumerate(("factorized", "softmax")):
            expected = implied_map(kind, layer.query, layer.key, layer.grid)[0, 0, 1 * 4 + 3].reshape(4, 4)
            (mesh,) = figure.axes[3 * row + column].collections
            assert np.asarray(mesh.get_array()).ravel() == pytest.approx((expected / expected.abs().max()).flatten().numpy())
            frame = next(patch for patch in figure.axes[3 * row + column].patches if isinstance(patch, Rectangle))
            assert (frame.get_x(), frame.get_y()) == (20, 4)
            assert (frame.get_width(), frame.get_height()) == (11.5, 8)  # to the picture's edge, and 8 pixels


def test_the_heads_of_one_path_are_drawn_beside_each_other() -> None:
    network, x = drawn(SMALL), images(1)
    assert [(each.path, each.head) for each in token_attention(network, x, (0, 0), stage=2, path=2)] == [(2, 1), (2, 2)]
    (one,) = token_attention(network, x, (0, 0), stage=2, path=2, head=2)
    assert torch.tensor(one.full.sum()).item() == pytest.approx(1)
    assert len(attention_maps_figure([one], PICTURE, "title").axes) == 3  # two maps and what their colours are
