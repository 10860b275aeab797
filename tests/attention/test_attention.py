"""Each kind of attention against its formula, torch's dispatched operators, explicit float64 maps in numpy, and identities."""

from collections.abc import Callable, Mapping
from math import isqrt, prod

import numpy as np
import pytest
import torch
from chosen import chosen
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.architecture.closed_form import network
from mpvit.attention import KINDS, Sizes, get_kind, grid_of
from mpvit.attention.factorized_crpe import PUBLISHED_WINDOWS, split_heads
from mpvit.counting import count
from mpvit.errors import UsageError
from mpvit.operations import walk
from mpvit.operations.conventions import tally

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def sizes_of(kind: str, batch: int, heads: int, head_dim: int, height: int, width: int) -> Sizes:
    return Sizes(batch, heads, head_dim, height, width, get_kind(kind)[1])


def inputs(sizes: Sizes, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sizes.tokens + sizes.dim)
    query, key, value = torch.randn(3, *sizes.per_head, generator=generator, dtype=dtype)
    return query, key, value


def tensors_of(kind: str, sizes: Sizes, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    torch.manual_seed(7)
    made = get_kind(kind)[0]
    return {name: tensor.to(dtype) for name, tensor in {**made.parameters(sizes), **made.buffers(sizes)}.items()}


def attend(kind: str, sizes: Sizes, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return get_kind(kind)[0].attend(query, key, value, sizes, tensors_of(kind, sizes, query.dtype))


small = st.builds(Sizes, st.integers(1, 2), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))


# ── cost ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(sizes=small, option=st.integers(1, 9))
def test_cost_equals_what_torch_dispatches(kind: str, sizes: Sizes, option: int) -> None:
    made, default = get_kind(kind)
    sizes = sizes._replace(option=option if default else 0)
    with torch.device("meta"):
        tensors = {**made.parameters(sizes), **made.buffers(sizes)}
    query, key, value = torch.empty(3, *sizes.per_head, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = made.attend(query, key, value, sizes, tensors)
    tree = made.operations(sizes)
    if kind == "sdpa":  # torch counts the products of the fused kernel at any length: no einsum is simplified
        assert counter.get_total_flops() == 2 * tally(tree, "exact").cost.macs
    else:
        assert counter.get_total_flops() == 2 * tally(tree, "matmul").cost.macs
    assert tuple(output.shape) == sizes.per_head
    learned = made.parameters(sizes)
    assert sum(operation.params for _, _, operation in walk(tree)) == sum(tensor.numel() for tensor in learned.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("heads", "head_dim"), [(8, 8), (8, 16), (8, 60), (16, 3)])
@pytest.mark.parametrize("side", [56, 112])
def test_formula_gives_the_cost(kind: str, heads: int, head_dim: int, side: int) -> None:
    """The sides are multiples of the default window 7 and ratio 8."""
    sizes = sizes_of(kind, 1, heads, head_dim, side, side)
    letter = {"rank k": "k", "number of features m": "m", "window side M": "M", "reduction ratio R": "R", "": "_"}
    values = {"N": sizes.tokens, "C": sizes.dim, "h": heads, "d": head_dim, letter[get_kind(kind)[0].option]: sizes.option}
    expression = get_kind(kind)[0].formula.replace("·", "*").replace("²", "**2").replace("/", "//")
    counted = tally(get_kind(kind)[0].operations(sizes), "exact")
    expected = eval(expression, {}, values)  # noqa: S307 - this project's own formula
    assert counted.cost.macs - counted.by_kind["layer_norm"] == expected


@pytest.mark.parametrize(
    ("kind", "macs", "exponentials", "extra"),
    [  # stage 2 of xsmall at 224²: N = 3136, C = 64, h = 8, d = 8
        ("softmax", 1_258_815_488, 8 * 3136**2, 8 * 3136**2),
        ("sdpa", 1_258_815_488, 8 * 3136**2, 8 * 3136),
        ("factorized", 3_211_264, 3136 * 64, 8 * 64),
        ("factorized_crpe", 3_211_264 + 30 * 3136 * 64, 3136 * 64, 3136 * 64),
        ("efficient", 3_211_264, 2 * 3136 * 64, 8 * 64),
        ("linear", 3_211_264 + 3136 * 64, 2 * 3136 * 64, 8 * 64 + 64),
        ("cross_covariance", 3_211_264, 8 * 64, 8 * 64),
        ("hydra", 2 * 3136 * 64, 0, 64),
        ("linformer:128", 4 * 3136 * 128 * 64, 8 * 3136 * 128, 8 * 3136 * 128),
        ("performer:32", 4 * 3136 * 32 * 64 + 3136 * 32 * 8, 2 * 8 * 3136 * 32, 8 * 32 * 8),
        ("window:7", 2 * 49 * 3136 * 64, 8 * 3136 * 49, 8 * 3136 * 49),
        ("spatial_reduction:8", 2 * 3136**2 * 64 // 64 + 2 * 3136 * 64**2, 8 * 3136 * 49, 8 * 3136 * 49),
    ],
)
def test_costs_in_stage_2_of_xsmall(kind: str, macs: int, exponentials: int, extra: int) -> None:
    made, sizes = get_kind(kind)[0], sizes_of(kind, 1, 8, 8, 56, 56)
    counted = tally(made.operations(sizes), "exact")
    assert counted.cost.macs - counted.by_kind["layer_norm"] == macs
    assert (made.exponentials(sizes), made.extra_elements(sizes)) == (exponentials, extra)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((224, 224), (5.01, 6.56, 8.96, 24.36)), ((800, 1280), (1445, 1577, 1864, 3750))],
)
def test_cost_of_whole_networks_with_full_attention(size: tuple[int, int], expected: tuple[float, ...]) -> None:
    for variant, macs in zip(VARIANTS.values(), expected, strict=True):
        found = tally(network(variant.config.with_attention("softmax"), 1, *size), "exact").cost.macs / 1e9
        assert found == pytest.approx(macs, abs=0.005 if macs < 100 else 0.5)


SMALL = ModelConfig((StageConfig(2, 1, 16, 4, 2), StageConfig(1, 1, 24, 8, 2)), num_classes=3)


@pytest.mark.parametrize("counter", chosen(["torch", "fvcore"], "fvcore"))
@pytest.mark.parametrize("kind", [*KINDS, "linformer:5", "performer:7", "window:3", "spatial_reduction:2"])
def test_torch_and_fvcore_count_the_same_for_networks_of_every_kind(kind: str, counter: str) -> None:
    if (kind, counter) == ("sdpa", "fvcore"):
        pytest.skip("fvcore does not count the fused kernel")
    config = SMALL.with_attention(kind)
    found = count(config, 224 if kind.startswith("linformer") else (40, 72), counter=counter)
    assert found.macs == found.closed_form_macs
    assert found.params == count(config).params == sum(p.numel() for p in build_model(config).parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_in_a_network(kind: str) -> None:
    model = build_model(SMALL.with_attention(kind)).train()
    side = 224 if kind == "linformer" else 64
    model(torch.randn(2, 3, side, side)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_factorized_crpe_in_a_configuration_means_factorized() -> None:
    assert SMALL.with_attention("factorized_crpe") == SMALL
    with pytest.raises(UsageError, match="must have crpe_windows"):
        StageConfig(1, 1, 8, 2, 1, (), "factorized_crpe")


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def softmax(x: Array, axis: int) -> Array:
    exponentials = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis, keepdims=True))


def full_map(q: Array, k: Array) -> Array:
    return softmax(q @ k.T / np.sqrt(q.shape[1]), 1)


def rows_of_sum_one(weights: Array) -> Array:
    return np.asarray(weights / weights.sum(1, keepdims=True))


def unit(x: Array, axis: int) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=axis, keepdims=True))


def elu_plus_one(x: Array) -> Array:
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def factorized_map(q: Array, k: Array) -> Array:
    return np.asarray(q @ softmax(k, 0).T / np.sqrt(q.shape[1]))


def performer_map(q: Array, k: Array, features: Array) -> Array:
    """The paper's estimator of exp(q·k / √d), without a shift of the exponents."""
    q, k = (x * x.shape[1] ** -0.25 for x in (q, k))
    phi_q, phi_k = (np.exp(x @ features.T - (x**2).sum(1, keepdims=True) / 2) for x in (q, k))
    return rows_of_sum_one(phi_q @ phi_k.T)


def window_map(q: Array, k: Array, sizes: Sizes) -> Array:
    rows, columns = np.divmod(np.arange(sizes.tokens), sizes.width)
    window = rows // sizes.option * 1000 + columns // sizes.option
    scores = np.where(window[:, None] == window[None], q @ k.T / np.sqrt(q.shape[1]), -np.inf)
    return softmax(scores, 1)


Maps = Mapping[str, Callable[[Array, Array, Sizes, dict[str, Array]], Array]]
MAPS: Maps = {  # kinds whose output is, in each head, an N x N map times the values
    "softmax": lambda q, k, _, __: full_map(q, k),
    "sdpa": lambda q, k, _, __: full_map(q, k),
    "factorized": lambda q, k, _, __: factorized_map(q, k),
    "efficient": lambda q, k, _, __: np.asarray(softmax(q, 1) @ softmax(k, 0).T),
    "linear": lambda q, k, _, __: rows_of_sum_one(elu_plus_one(q) @ elu_plus_one(k).T),
    "performer": lambda q, k, _, t: performer_map(q, k, t["features"]),
    "window:2": lambda q, k, sizes, _: window_map(q, k, sizes),
    "window:3": lambda q, k, sizes, _: window_map(q, k, sizes),
    "linformer:3": lambda q, k, _, t: full_map(q, t["key_projection"] @ k) @ t["value_projection"],
}
GRIDS = [(1, 1), (1, 5), (4, 6), (5, 3)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("kind", MAPS)
def test_output_is_the_explicit_map_times_the_values(kind: str, grid: tuple[int, int]) -> None:
    sizes = sizes_of(kind, 2, 3, 4, *grid)
    query, key, value = inputs(sizes)
    found = attend(kind, sizes, query, key, value)
    tensors = {name: tensor.numpy() for name, tensor in tensors_of(kind, sizes).items()}
    for image, head in np.ndindex(2, 3):
        q, k, v = (x[image, head].numpy() for x in (query, key, value))
        expected = MAPS[kind](q, k, sizes, tensors) @ v
        tolerance = 1e-5 if kind == "performer" else 1e-12  # its ε moves every feature by 1e-6 of the largest
        np.testing.assert_allclose(found[image, head].numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_cross_covariance_maps_channels_to_channels(grid: tuple[int, int]) -> None:
    sizes = sizes_of("cross_covariance", 1, 3, 4, *grid)
    query, key, value = inputs(sizes)
    temperature = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).reshape(3, 1, 1)
    kind = get_kind("cross_covariance")[0]
    found = kind.attend(query, key, value, sizes, {"temperature": temperature})
    for head in range(3):
        q, k, v = (x[0, head].numpy() for x in (query, key, value))
        # XCiT, equation 2: V · softmax(K̂ᵀQ̂ τ); each output channel is a mean of v's channels
        weights = softmax(unit(k, 0).T @ unit(q, 0) * temperature[head].item(), 0)
        np.testing.assert_allclose(found[0, head].numpy(), v @ weights, rtol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_hydra_gates_a_global_sum_with_the_query(grid: tuple[int, int]) -> None:
    sizes = sizes_of("hydra", 1, 3, 4, *grid)
    tensors = inputs(sizes)
    q, k, v = (x[0].numpy().transpose(1, 0, 2).reshape(sizes.tokens, 12) for x in tensors)
    expected = unit(q, 1) * (unit(k, 1) * v).sum(0)
    found = attend("hydra", sizes, *tensors)[0].numpy().transpose(1, 0, 2).reshape(sizes.tokens, 12)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("grid", [*GRIDS, (9, 7)], ids=str)
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_crpe_adds_the_query_times_a_convolution_of_the_values(heads: int, grid: tuple[int, int]) -> None:
    sizes = sizes_of("factorized_crpe", 1, heads, 2, *grid)
    query, key, value = inputs(sizes)
    tensors = {name: tensor.numpy() for name, tensor in tensors_of("factorized_crpe", sizes).items()}
    found = attend("factorized_crpe", sizes, query, key, value)[0].numpy()
    first = 0
    for window, count_of_heads in split_heads(heads, PUBLISHED_WINDOWS):
        weight, bias = tensors[f"weight_{window}"], tensors[f"bias_{window}"]
        for offset in range(count_of_heads):
            q, k, v = (x[0, first + offset].numpy() for x in (query, key, value))
            near = np.zeros_like(v)
            for token, channel in np.ndindex(*v.shape):
                row, column = divmod(token, sizes.width)
                for i, j in np.ndindex(window, window):
                    y, x = row + i - window // 2, column + j - window // 2
                    if 0 <= y < sizes.height and 0 <= x < sizes.width:
                        near[token, channel] += weight[2 * offset + channel, 0, i, j] * v[y * sizes.width + x, channel]
            expected = factorized_map(q, k) @ v + q * (near + bias[2 * offset : 2 * offset + 2])
            np.testing.assert_allclose(found[first + offset], expected, rtol=1e-10, atol=1e-12)
        first += count_of_heads


@pytest.mark.parametrize(("grid", "ratio"), [((1, 1), 1), ((4, 6), 2), ((5, 3), 2), ((3, 3), 4)], ids=str)
def test_spatial_reduction_attends_to_merged_tokens(grid: tuple[int, int], ratio: int) -> None:
    heads, head_dim = 2, 3
    sizes = Sizes(1, heads, head_dim, *grid, ratio)
    tensors = tensors_of("spatial_reduction", sizes)
    query, key, value = inputs(sizes)

    def merged(x: Tensor) -> Array:  # (1, h, N, d) -> (h, N', d), patch by patch
        on_grid = np.zeros((sizes.dim, -(-grid[0] // ratio) * ratio, -(-grid[1] // ratio) * ratio))
        on_grid[:, : grid[0], : grid[1]] = x[0].numpy().transpose(0, 2, 1).reshape(sizes.dim, *grid)
        tokens = []
        for i, j in np.ndindex(on_grid.shape[1] // ratio, on_grid.shape[2] // ratio):
            patch = on_grid[:, i * ratio : (i + 1) * ratio, j * ratio : (j + 1) * ratio]
            token = np.tensordot(tensors["weight"].numpy(), patch, 3) + tensors["bias"].numpy()
            tokens.append((token - token.mean()) / np.sqrt(token.var() + 1e-5))
        return np.array(tokens).reshape(-1, heads, head_dim).transpose(1, 0, 2)

    found = attend("spatial_reduction", sizes, query, key, value)[0].numpy()
    for head, (k, v) in enumerate(zip(merged(key), merged(value), strict=True)):
        np.testing.assert_allclose(found[head], full_map(query[0, head].numpy(), k) @ v, rtol=1e-9, atol=1e-9)


# ── identities ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(small)
def test_fused_attention_and_a_single_window_equal_full_attention(sizes: Sizes) -> None:
    tensors = inputs(sizes)
    full = attend("softmax", sizes, *tensors)
    torch.testing.assert_close(attend("sdpa", sizes, *tensors), full)
    one_window = sizes._replace(option=max(sizes.height, sizes.width))
    torch.testing.assert_close(attend("window", one_window, *tensors), full)


@given(small)
def test_zero_keys_give_the_mean_of_the_values(sizes: Sizes) -> None:
    query, _, value = inputs(sizes)
    mean = value.mean(dim=2, keepdim=True)
    zero = torch.zeros_like(query)
    torch.testing.assert_close(attend("softmax", sizes, query, zero, value), mean.expand_as(value))
    scale = sizes.head_dim**-0.5
    torch.testing.assert_close(attend("factorized", sizes, query, zero, value), scale * query.sum(-1, keepdim=True) * mean)


def test_factorized_attention_does_not_approximate_softmax_attention() -> None:
    sizes = sizes_of("factorized", 1, 1, 4, 6, 6)
    query, key, _ = inputs(sizes)
    q, k = query[0, 0].numpy(), key[0, 0].numpy()
    implied = attend("factorized", sizes, query, key, torch.eye(36, dtype=torch.float64).reshape(1, 1, 36, 36))[0, 0].numpy()
    np.testing.assert_allclose(implied, factorized_map(q, k), atol=1e-12)
    assert np.linalg.matrix_rank(implied) == 4  # at most d; softmax's has full rank
    assert np.linalg.matrix_rank(full_map(q, k)) == 36
    assert implied.min() < 0
    np.testing.assert_allclose(implied.sum(1), q.sum(1) / 2, atol=1e-12)  # scale · Σq, not 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_and_parameter_gets_a_gradient(kind: str) -> None:
    sizes = sizes_of(kind, 1, 2, 3, 9, 10)
    query, key, value = (x.requires_grad_() for x in inputs(sizes))
    made = {name: tensor.requires_grad_() for name, tensor in tensors_of(kind, sizes).items()}
    get_kind(kind)[0].attend(query, key, value, sizes, made).square().sum().backward()
    for tensor in [query, key, value, *made.values()]:
        assert tensor.grad is not None
        assert tensor.grad.any()


def test_performer_with_many_features_approximates_full_attention() -> None:
    sizes = sizes_of("performer", 1, 2, 8, 5, 5)._replace(option=20_000)
    query, key, value = (x / 2 for x in inputs(sizes))
    estimate, full = (attend(kind, sizes, query, key, value) for kind in ("performer", "softmax"))
    assert (estimate - full).abs().max() < 0.02


# ── names and sizes ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("sofmax", "unknown attention 'sofmax'"),
        ("", "unknown attention ''"),
        ("softmax:3", "softmax takes no number"),
        ("linformer:0", "the rank k must be a whole number"),
        ("window:7.5", "the window side M must be a whole number"),
        ("performer:", "the number of features m must be a whole number"),
        ("linformer:9999999", "the rank k must be a whole number"),
    ],
)
def test_wrong_name_is_refused_with_the_rule(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        StageConfig(1, 1, 8, 2, 1, attention=name)


def test_linformer_refuses_other_sizes_than_its_own() -> None:
    config = VARIANTS["tiny"].config.with_attention("linformer")
    assert (count(config).macs or 0) > 0
    with pytest.raises(UsageError, match="over 4096 tokens in stage 2: its parameters are for 3136"):
        count(config, 256)
    model = build_model(SMALL.with_attention("linformer")).eval()
    with pytest.raises(UsageError, match="over 4096 tokens: its projections are for 3136"):
        model(torch.zeros(1, 3, 256, 256))


@given(st.integers(1, 5000))
def test_grid_is_as_square_as_possible(tokens: int) -> None:
    height, width = grid_of(tokens)
    assert height * width == prod((height, width)) == tokens
    assert not any(tokens % side == 0 for side in range(height + 1, isqrt(tokens) + 1))


def test_random_features_are_buffers() -> None:
    model = build_model(SMALL.with_attention("performer"))
    assert not any("features" in name for name, _ in model.named_parameters())
    assert sum("features" in name for name, _ in model.named_buffers()) == 2 + 1  # one a layer of each path
    assert isinstance(build_model(SMALL.with_attention("linformer")), nn.Module)
