"""The counters against the published integers, each other and the network itself."""

import io
import random
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from published import PUBLISHED
from recorded import trace_config
from strategies import configs, shapes

import mpvit
from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.counting import COUNTERS, count, count_parts, is_installed, try_count
from mpvit.counting.published import check, require_published
from mpvit.counting.results import Count
from mpvit.errors import CheckError, MpvitError, UsageError
from mpvit.network import NamedNetwork
from mpvit.reconcile.explain import explain
from mpvit.tools import TOOLS

EXACT = {"tiny": 1_654_164_352, "xsmall": 2_971_402_752, "small": 4_799_656_896, "base": 16_445_319_040}
TORCH = {"tiny": 1_635_527_496, "xsmall": 2_950_215_936}


LIVE = [pytest.param(variant, marks=[] if variant == "tiny" else [pytest.mark.slow]) for variant in PUBLISHED]


SMALL = ModelConfig((StageConfig(2, 1, 8, 2, 2),), num_classes=3)


@cache
def by_fvcore(variant: str) -> Count:
    """Once for all tests: it takes seconds."""
    return count(variant, counter="fvcore")


def assert_published(found: Count, variant: str) -> None:
    assert (found.params, found.macs, found.activations) == PUBLISHED[variant]
    assert found.agrees is True


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_integers(variant: str) -> None:
    assert_published(count(variant), variant)


@pytest.mark.parametrize("variant", LIVE)
def test_fvcore_counts_the_published_integers(variant: str) -> None:
    assert_published(by_fvcore(variant), variant)


@pytest.mark.parametrize("variant", EXACT)
def test_exact_einsum(variant: str) -> None:
    assert count(variant, convention="exact").macs == EXACT[variant]


@pytest.mark.parametrize("counter", ["analytic", "torch"])
@pytest.mark.parametrize("variant", TORCH)
def test_the_figures_of_torchs_counter(variant: str, counter: str) -> None:
    found = count(variant, counter=counter, convention="matmul")
    assert (found.params, found.macs) == (PUBLISHED[variant][0], TORCH[variant])


@pytest.mark.parametrize("variant", ["tiny", pytest.param("xsmall", marks=pytest.mark.slow)])
def test_thop_counts_convolutions_linear_layers_and_norms(variant: str) -> None:
    """Convolutions, linear layers and 4 MACs for each element that a norm writes; no einsum."""
    found, fvcore = count(variant, counter="thop"), by_fvcore(variant).by_kind
    norms = {"batch_norm": 2 * fvcore["batch_norm"], "layer_norm": 4 * fvcore["layer_norm"] // 5}
    assert found.by_kind == {"conv": fvcore["conv"], "linear": fvcore["linear"], **norms}
    assert found.params == PUBLISHED[variant][0]  # right here, where a shared module is registered once
    assert found.convention == "thop"
    assert found.agrees is None
    assert {"matmul", "softmax", "Hardswish"} <= found.not_counted.keys()


@pytest.mark.parametrize("counter", TOOLS)
def test_every_tool_is_a_counter(counter: str) -> None:
    """Under this project's layout, where a shared module has one name, each counts as its rule says."""
    network = NamedNetwork("small", SMALL, (32, 32))
    found = try_count(network, counter=counter, convention=None)
    expected = explain(trace_config(SMALL, 1, 32, 32), "small", counter)
    if is_installed(counter):
        assert (found.macs, found.error) == (expected.tool_macs, "")
        assert found.params == (expected.params if expected.tool_params is None else expected.tool_params)
    else:
        assert (found.macs, found.params, found.error) == (None, None, f"{counter} is not installed")


def assert_live_counters_agree(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    batch, *size = shape
    learned = sum(parameter.numel() for parameter in build_model(config).parameters())
    for counter in ("torch", "fvcore"):
        live = count(config, (size[0], size[1]), batch=batch, counter=counter)
        closed = count(config, (size[0], size[1]), batch=batch, convention=live.convention)
        assert live.macs == closed.macs == live.closed_form_macs
        assert live.by_kind == {kind: macs for kind, macs in closed.by_kind.items() if kind in live.by_kind}
        assert sum(live.by_kind.values()) == live.macs
        assert live.params == closed.params == learned
        if counter == "fvcore":
            assert live.activations == closed.activations
            for theirs, ours in (("softmax", "softmax"), ("add", "add")):
                assert live.not_counted[f"aten::{theirs}"] == closed.not_counted[ours]


@pytest.mark.slow
@settings(max_examples=5)
@given(configs(), shapes())
def test_live_counters_agree_on_random_networks(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    assert_live_counters_agree(config, shape)


@pytest.mark.slow
@settings(max_examples=80)
@given(configs(most_stages=4), shapes())
def test_live_counters_agree_on_many_random_networks(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    assert_live_counters_agree(config, shape)


@settings(max_examples=25)
@given(configs(), shapes())
def test_parts_of_every_cut_sum_to_the_total(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    whole = count(config, (height, width), batch=batch)
    for by in ("stage", "path", "kind", "layer"):
        pieces = count_parts(NamedNetwork("random", config, (height, width)), by, batch)
        for figure in ("params", "macs", "flops", "activations"):
            assert sum(getattr(piece, figure) for piece in pieces) == getattr(whole, figure)


def test_a_layer_has_its_kind_shapes_and_calls() -> None:
    layers = {c.part: c for c in count_parts(NamedNetwork("small", VARIANTS["small"].config), "layer")}
    shared = layers["stages.2.paths.1.cpe.conv"]
    assert shared.layer is not None
    assert (shared.layer.kind, shared.layer.calls, shared.params) == ("conv", 6, 216 * 9 + 216)
    assert shared.macs == 6 * 216 * 9 * 14 * 14
    first = layers["stem.0.conv"]
    assert first.layer is not None
    assert (first.layer.input_shape, first.layer.output_shape) == ((1, 3, 224, 224), (1, 32, 112, 112))


def global_state() -> list[object]:
    return [
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(np.random.get_state()),  # noqa: NPY002 - the state that a tool could disturb
        warnings.filters[:],
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    ]


INSTALLED = [counter for counter in COUNTERS if is_installed(counter)]


@pytest.mark.parametrize("counter", INSTALLED)
def test_a_counter_leaves_no_trace(counter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda *_: pytest.fail("a warning was shown"))
    torch.manual_seed(1)
    before, out, err = global_state(), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        first, second = (count(SMALL, 32, counter=counter) for _ in range(2))
    assert first == second
    assert (out.getvalue(), err.getvalue()) == ("", "")
    assert global_state() == before


def test_counters_do_not_touch_a_model_built_before() -> None:
    model = build_model(SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for counter in INSTALLED:
        count(model.config, 32, counter=counter)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())  # noqa: SLF001 - torch has no public way
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_published_figures_are_for_the_published_network_and_input_only() -> None:
    config = VARIANTS["tiny"].config
    assert count(replace(config, drop_path=0.2)).agrees is True  # training alone sees drop path
    for other in (count("tiny", 256), count("tiny", batch=2), count(replace(config, num_classes=10))):
        assert other.published is None
        assert other.agrees is None


def test_check_names_what_differs() -> None:
    good = count("tiny")
    check([good])
    with pytest.raises(CheckError, match="1654163813"):
        check([good, replace(good, macs=1_654_163_813)])
    with pytest.raises(CheckError, match="closed form"):
        check([good, replace(count(SMALL, 32, counter="torch"), macs=1)])
    with pytest.raises(UsageError, match="nothing is published to compare"):
        require_published([count("tiny", 256)])
    require_published([good])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"counter": "thopp"}, "unknown counter 'thopp'"),
        ({"convention": "exakt"}, "unknown convention 'exakt'"),
        ({"counter": "torch", "convention": "fvcore"}, "the counter torch counts by 'matmul' only"),
        ({"size": 0}, "height = 0"),
        ({"size": (3, -1)}, "width = -1"),
        ({"batch": 0}, "batch = 0"),
        ({"model": "huge"}, "unknown variant 'huge'"),
    ],
)
def test_errors_name_the_wrong_value(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        mpvit.count(**{"model": "tiny", **arguments})  # type: ignore[arg-type]


def test_a_trace_that_would_not_fit_into_memory_is_refused_before_it_starts() -> None:
    with pytest.raises(MpvitError, match="fvcore failed: its trace of"):
        count("base", 30_000, counter="fvcore")
    failed = try_count(NamedNetwork("base", VARIANTS["base"].config, (30_000, 30_000)), counter="fvcore", convention=None)
    assert isinstance(failed, Count)
    assert (failed.macs, failed.flops, failed.params) == (None, None, None)
    assert "GB are free" in failed.error


def test_torch_answers_where_fvcore_cannot() -> None:
    assert count("tiny", 2048, counter="torch").agrees_with_closed_form is True
