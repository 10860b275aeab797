"""Ablations: every edit is a network that live counters agree about, differences add up, matched rows meet their budget."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, prod

import pytest
import torch
from chosen import chosen
from torch import nn

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.ablation import measure
from mpvit.ablation.axes import AXES
from mpvit.ablation.knobs import KNOBS, scaled_amounts, with_amounts
from mpvit.ablation.results import PARTS, NetworkCost, Row
from mpvit.ablation.study import AblationStudy, ablate
from mpvit.architecture.config import FIRST_STAGE
from mpvit.counting import count
from mpvit.errors import UsageError
from mpvit.measurement import INTERRUPTED, Measurement
from mpvit.measurement.options import TimingOptions
from mpvit.measurement.timing import Case
from mpvit.network import NamedNetwork
from mpvit.operations import Cost
from mpvit.training_memory import MemoryOptions
from mpvit.training_memory.closed_form import training_memory

SMALL = ModelConfig((StageConfig(1, 1, 16, 8, 2), StageConfig(2, 1, 24, 8, 2)), num_classes=5)

SWEEPS = {
    "tiny": [(2_320_776, 0.718), (4_105_776, 1.261), (5_890_776, 1.804), (7_675_776, 2.347)],
    "xsmall": [(4_000_328, 1.198), (7_319_688, 2.188), (10_639_048, 3.179), (13_958_408, 4.170)],
    "small": [(8_187_280, 1.815), (15_572_640, 3.411), (22_958_000, 5.008), (30_343_360, 6.604)],
}
"""Parameters and fvcore's 10^9 MACs of the published implementation with 1 to 4 paths everywhere."""


def study(axes: Mapping[str, tuple[str, ...]], model: str | ModelConfig = "xsmall", **changes: object) -> AblationStudy:
    config = VARIANTS[model].config if isinstance(model, str) else model
    return replace(AblationStudy(model="it", config=config, axes={"paths": ("1",)}), axes=axes, **changes)  # type: ignore[arg-type]


# ── agreement ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("variant", SWEEPS)
def test_path_sweeps_are_those_of_the_published_implementation(variant: str) -> None:
    rows = ablate(study({"paths": ()}, variant)).rows
    assert [(row.cost.params, round(row.cost.macs / 1e9, 3)) for row in rows if row.cost] == SWEEPS[variant]


def assert_live_counters_agree(row: Row) -> None:
    """The row's network built, counted by fvcore and torch, trained one step."""
    config, found = row.config, row.cost
    assert config is not None
    assert found is not None
    for counter in ("fvcore", "torch"):
        live = count(config, row.size, counter=counter)
        passed_over = of_fused_kernels(config, row.size) if counter == "fvcore" else Cost()
        assert (live.params, live.macs) == (found.params, (live.closed_form_macs or 0) - passed_over.macs)
        if counter == "fvcore":
            assert (live.macs, live.activations) == (found.macs - passed_over.macs, found.activations - passed_over.activations)
    model = build_model(config).train()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    nn.functional.cross_entropy(model(torch.randn(2, 3, *row.size)), torch.tensor([0, 1])).backward()
    optimizer.step()
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert parameter.isfinite().all()
        assert parameter.grad is not None
        assert old.shape == parameter.shape
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def of_fused_kernels(config: ModelConfig, size: tuple[int, int]) -> Cost:
    """What fvcore passes over: the fused softmax attention's two N x N x C products a layer and its N x C outputs."""
    macs = activations = 0
    for index, stage in enumerate(config.stages):
        tokens = prod(ceil(side / 2 ** (index + 2)) for side in size)
        fused = stage.paths * stage.layers * (stage.attention == "sdpa")
        macs += fused * 2 * tokens**2 * stage.dim
        activations += fused * tokens * stage.dim
    return Cost(0, macs, activations)


def defaults(axis: str) -> AblationStudy:
    values: dict[str, tuple[str, ...]] = {
        "resolution": ("32", "33x47"),
        "attention": tuple(
            kind for kind in AXES["attention"].values if kind != "linformer"
        ),  # its parameters are for 224x224 only
    }
    return study({axis: values.get(axis, ())}, SMALL, size=(32, 32))


@pytest.mark.parametrize("axis", [axis if axis == "paths" else pytest.param(axis, marks=pytest.mark.slow) for axis in AXES])
def test_every_edit_is_a_network_that_live_counters_agree_about(axis: str) -> None:
    """With the first and the last of the axis's values; every value stands in the slow test."""
    found = ablate(defaults(axis))
    assert [row.error for row in found.rows] == [""] * len(found.rows)
    for row in (found.rows[0], found.rows[-1]):
        assert_live_counters_agree(row)


@pytest.mark.slow
@pytest.mark.parametrize("axis", AXES)
def test_so_is_every_edit_of_a_published_variant(axis: str) -> None:
    """At a small size, except for the attention whose parameters are for 224x224 pixels."""
    size = (224, 224) if axis == "attention" else (64, 64)
    for row in ablate(study({axis: ()}, "tiny", size=size)).rows:
        assert_live_counters_agree(row)


@pytest.mark.parametrize("axis", AXES)
def test_training_memory_is_that_of_the_memory_command(axis: str) -> None:
    """Which is held against what autograd keeps of the built network elsewhere."""
    for row in ablate(defaults(axis)).rows:
        assert row.config is not None
        expected = training_memory(NamedNetwork("", row.config, row.size), batch=1, options=MemoryOptions())
        assert row.saved_activation_bytes == expected.activations.saved_bytes
        assert row.training_peak_bytes == expected.peak_bytes


# ── what adds up ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("convention", ["fvcore", "exact", "matmul"])
@pytest.mark.parametrize("axis", AXES)
def test_parts_and_differences_add_up_to_the_integer(axis: str, convention: str) -> None:
    found = ablate(replace(defaults(axis), convention=convention))
    for row in (found.baseline, *found.rows):
        delta, own, base = found.delta(row), row.cost, found.baseline.cost
        assert row.config is not None
        assert delta is not None
        assert own is not None
        assert base is not None
        assert own == base + delta
        assert tuple(row.parts) == PARTS
        whole = count(row.config, row.size, convention=convention)
        assert (own.params, own.macs, own.activations) == (whole.params, whole.macs, whole.activations)


def test_a_step_is_what_each_path_adds() -> None:
    found = ablate(study({"paths": ()}))
    assert found.step(found.baseline) is found.step(found.rows[0]) is None
    for before, row in zip(found.rows, found.rows[1:], strict=False):
        step = found.step(row)
        assert step is not None
        assert {part: before.parts[part] + cost for part, cost in step.items()} == row.parts
        assert {part for part, cost in step.items() if cost != Cost()} == {"paths", "fusion"}
        assert step["fusion"].params == 64 * 128 + 128 * 192 + 192 * 256 + 256 * 256  # one more C channels into each 1x1


def test_a_step_compares_rows_that_are_equal_in_all_else() -> None:
    found = ablate(study({"attention": ("factorized", "hydra"), "paths": ("1", "3")}))
    steps = [found.step(row) for row in found.rows]
    assert [bool(step) for step in steps] == [False, True, False, True]
    by_row = {tuple(row.values.values()): row for row in found.rows}
    for kind, step in (("factorized", steps[1]), ("hydra", steps[3])):
        assert step
        expected = by_row[kind, "3"].parts["paths"] - by_row[kind, "1"].parts["paths"]
        assert step["paths"] == expected


def test_flat_rows_carry_all_of_it() -> None:
    base, one, two = ablate(study({"paths": ("1", "2")}, "tiny")).as_rows()
    assert (base["values"], base["baseline"], base["delta_macs"], base["step_macs"]) == ({"paths": "2/3/3/3"}, True, 0, None)
    assert base["macs"] == 1_654_163_812
    assert two["step_macs"] == two["macs"] - one["macs"] == sum(two["step_macs_by_part"].values())
    assert two["flops"] == 2 * two["macs"] == 2 * sum(two["macs_by_part"].values())
    assert set(base) == set(one) == set(two)


# ── axes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("axis", AXES)
def test_the_baselines_own_value_is_the_baseline(axis: str) -> None:
    own = ablate(study({axis: ()})).baseline.values[axis]
    found = ablate(study({axis: (own,)}))
    assert found.rows[0].config == found.baseline.config
    assert found.delta(found.rows[0]) == NetworkCost(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("axis", "value", "field", "expected"),
    [
        ("paths", "2/3/3/4", "paths", [2, 3, 3, 4]),
        ("layers", "2", "layers", [2, 2, 2, 2]),
        ("width", "0.5x", "dim", [32, 64, 96, 128]),
        ("width", "48", "dim", [48, 96, 144, 192]),
        ("width", "48/96/96/96", "dim", [48, 96, 96, 96]),
        ("width", "0.01x", "dim", [8, 8, 8, 8]),
        ("mlp-ratio", "2.5", "hidden_dim", [160, 320, 480, 640]),
        ("heads", "4/4/8/16", "heads", [4, 4, 8, 16]),
        ("attention", "sdpa/factorized/factorized/window:5", "attention", ["sdpa", "factorized", "factorized", "window:5"]),
        ("local", "off/on/on/off", "local", [False, True, True, False]),
        ("cpe", "off", "cpe", [False] * 4),
        ("crpe", "off", "crpe_windows", [()] * 4),
        ("crpe", "3/9", "crpe_windows", [((3, 2), (9, 3))] * 4),
        ("fusion", "sum", "fusion", ["sum"] * 4),
        ("patch-embed", "parallel", "patch_embed", ["parallel"] * 4),
    ],
)
def test_an_edit_changes_its_field_of_the_stages(axis: str, value: str, field: str, expected: list[object]) -> None:
    (row,) = ablate(study({axis: (value,)})).rows
    assert row.config
    assert [getattr(stage, field) for stage in row.config.stages] == expected


@pytest.mark.parametrize(
    ("axis", "value", "why"),
    [
        ("heads", "3", "must be divisible by heads = 3"),
        ("width", "50", "50 channels in stage 2: the heads allow 48"),
        ("paths", "1/2", "2 values: must be one for all stages, or 4, one for each"),
        ("mlp-ratio", "0.3", "must be a whole number of hidden channels"),
        ("layers", "5000", "stage 2: layers = 5000"),
    ],
)
def test_what_the_constraints_refuse_is_a_row_that_says_why(axis: str, value: str, why: str) -> None:
    found = ablate(study({axis: (value,)}))
    assert why in found.rows[0].error
    assert (found.rows[0].cost, found.delta(found.rows[0])) == (None, None)
    assert found.as_rows()[1]["macs"] is None


def test_what_cannot_be_trained_is_counted_and_says_why() -> None:
    (row,) = ablate(study({"resolution": ("32",)})).rows
    assert row.cost
    assert row.cost.macs == count("xsmall", 32).macs
    assert (row.error, row.cost.saved_activation_bytes, row.cost.training_peak_bytes) == ("", None, None)
    assert "batch norm cannot train on one value per channel" in row.as_row()["training_error"]


def test_an_attention_of_another_size_is_refused() -> None:
    (row,) = ablate(study({"attention": ("linformer",)}, size=(64, 64))).rows
    assert "its parameters are for 3136" in row.error


# ── the same budget ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("quantity", ["macs", "params"])
@pytest.mark.parametrize("knob", KNOBS)
@pytest.mark.parametrize("variant", chosen(["tiny", "small"], "tiny"))
def test_matched_rows_are_within_1_percent_of_the_budget(variant: str, knob: str, quantity: str) -> None:
    axes: dict[str, tuple[str, ...]] = {"paths": ("1", "2", "4"), "local": ("on", "off")}
    found = ablate(study(axes, variant, match=quantity, knob=knob))
    budget = getattr(count(variant), quantity)
    assert sum(not row.error for row in found.rows) >= 4  # layers are few: not every budget is near a whole number of them
    for row in found.rows:
        if row.error:
            assert f"{quantity}: the nearest that {knob} reaches" in row.error
            continue
        assert row.config
        assert row.matched
        reached = getattr(count(row.config), quantity)
        assert reached / budget - 1 == pytest.approx(row.matched.off, abs=1e-12)
        assert abs(row.matched.off) <= 0.01
        assert row.matched.amounts == tuple(KNOBS[knob].read(stage) for stage in row.config.stages)
        paths, local = row.values["paths"], row.values["local"]
        assert all((str(stage.paths), stage.local) == (paths, local == "on") for stage in row.config.stages)


def test_matching_leaves_alone_what_costs_the_same() -> None:
    found = ablate(study({"attention": ("efficient",)}, match="macs"))
    assert found.rows[0].config == VARIANTS["xsmall"].config.with_attention("efficient")
    assert found.rows[0].matched
    assert found.rows[0].matched.off == 0


def test_the_nearest_is_nearer_than_any_common_factor() -> None:
    (row,) = ablate(study({"paths": ("2",)}, match="macs")).rows
    config = ablate(study({"paths": ("2",)})).rows[0].config
    assert config
    assert row.matched
    knob, budget = KNOBS["width"], 2_971_396_560
    nets = [with_amounts(config, knob, scaled_amounts(config, knob, factor / 100)) for factor in range(100, 150)]
    offs = [abs(found / budget - 1) for net in nets if (found := count(net).macs)]
    assert abs(row.matched.off) <= min(offs)


def test_a_budget_out_of_reach_is_refused() -> None:
    coarse = ModelConfig((StageConfig(2, 1, 64, 64, 2),))
    (row,) = ablate(study({"paths": ("3",)}, coarse, match="macs")).rows
    assert "macs: the nearest that width reaches is +" in row.error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"match": "flops"}, "unknown budget 'flops'"),
        ({"match": "macs", "knob": "depth"}, "unknown knob 'depth'"),
        ({"match": "macs", "knob": "width", "axes": {"width": ()}}, "it would undo the axis"),
        ({"axes": {}}, "no axis"),
        ({"axes": {"path": ()}}, "unknown axis 'path'"),
        ({"axes": {"attention": ("sofmax",)}}, "attention: unknown attention 'sofmax'"),
        ({"axes": {"crpe": ("4",)}}, "crpe: '4': must be off, or different odd windows"),
        ({"axes": {"width": ("x",)}}, "width: ''"),
        ({"axes": {"local": ("maybe",)}}, "local: unknown switch 'maybe'"),
        ({"axes": {"layers": tuple(map(str, range(1, 5003)))}}, "a grid of 5002 rows"),
        ({"convention": "thop"}, "unknown convention"),
        ({"size": (0, 3)}, "height = 0"),
    ],
)
def test_a_wrong_study_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        study(**{"axes": {"paths": ()}, **changes})  # type: ignore[arg-type]


def test_latency_cannot_match_unmeasured() -> None:
    with pytest.raises(UsageError, match="match latency: must be measured"):
        ablate(study({"paths": ()}, match="latency"))


# ── measured ────────────────────────────────────────────────────────────────────────────────────────────────────────

TIMING = TimingOptions(threads=1, min_time_s=0.01)


def test_measure_rows_have_their_time_beside_the_baselines() -> None:
    state = torch.random.get_rng_state()
    baseline, *rows = measure.measure_rows(study({"paths": ("1", "8"), "heads": ("8", "5")}, SMALL, size=(32, 32)), TIMING)
    assert baseline.time
    assert baseline.time.samples_s
    assert [bool(row.error) for row in rows] == [False, True, False, True]
    for row in rows[::2]:
        assert row.time
        assert row.time.samples_s
        assert row.latency_ratio
        assert row.latency_ratio.low <= row.latency_ratio.estimate <= row.latency_ratio.high
    assert torch.equal(state, torch.random.get_rng_state())


def pretend(monkeypatch: pytest.MonkeyPatch, exponent: float, *, penalty: float = 1, stop_at: int = 10**9) -> None:
    """Times that grow with a power of the MACs, times ``penalty`` for edited rows, without noise; one run is interrupted."""
    macs: list[int] = []

    def case(_: AblationStudy, __: TimingOptions, row: Row) -> Case:
        assert row.cost
        macs.append(row.cost.macs)
        return lambda: None

    runs: list[int] = []

    def run(cases: Mapping[str, Case], **_: object) -> tuple[Measurement, ...]:
        runs.append(1)
        seconds = [(count / 1e9) ** exponent for count in macs[-len(cases) :]]
        seconds[0] *= penalty if len(cases) > 1 else 1
        stopped = INTERRUPTED if len(runs) == stop_at else ""
        return tuple(
            Measurement(name=name, samples_s=(s,) * 5, device="cpu", threads=1, stopped=stopped)
            for name, s in zip(cases, seconds, strict=True)
        )

    monkeypatch.setattr(measure, "_case", case)
    monkeypatch.setattr(measure, "run", run)


@pytest.mark.parametrize("exponent", chosen([0.6, 1.0, 1.4], 0.6))
def test_latency_is_matched_by_trial(exponent: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though edited rows take longer than the baseline for the same MACs."""
    pretend(monkeypatch, exponent, penalty=1.3)
    axes: dict[str, tuple[str, ...]] = {"paths": ("1", "2", "4"), "resolution": ("224", "256")}
    baseline, *rows = measure.measure_rows(study(axes, "tiny", match="latency"), TIMING)
    for row in rows:
        assert row.matched, row.error
        assert row.matched.quantity == "latency"
        assert abs(row.matched.off) <= 0.01
        assert row.cost
        assert baseline.cost
        assert 1.3 * (row.cost.macs / baseline.cost.macs) ** exponent - 1 == pytest.approx(row.matched.off, abs=1e-9)


def test_a_latency_out_of_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, exponent=0, penalty=1.05)  # whatever the work
    (_, row) = measure.measure_rows(study({"paths": ("1",)}, match="latency"), TIMING)
    assert row.error == "latency: the nearest of 6 networks is +5.0 % from the baseline's"
    assert (row.cost, row.matched) == (None, None)
    assert (row.values, row.size) == ({"paths": "1"}, (224, 224))


def test_so_is_an_edit_that_the_constraints_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, exponent=1)
    (_, row) = measure.measure_rows(study({"heads": ("7",)}, match="latency"), TIMING)
    assert "divisible by heads = 7" in row.error
    assert (row.values, row.size, row.cost) == ({"heads": "7"}, (224, 224), None)


def test_an_interrupt_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1.0, stop_at=3)
    rows = measure.measure_rows(study({"paths": ()}), TIMING)
    kept = [next(rows) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        next(rows)
    assert [row.values["paths"] for row in kept] == ["2/3/3/3", "1", "2"]


def test_what_does_not_fit_says_so_and_the_rest_goes_on() -> None:
    found = list(measure.measure_rows(study({"resolution": ("32", "999999", "48")}, SMALL, size=(32, 32)), TIMING))
    assert [bool(row.time and row.time.samples_s) for row in found] == [True, True, False, True]
    assert found[2].time
    assert found[2].time.out_of_memory
    assert (found[2].time.device, found[2].time.dtype, found[2].time.threads) == ("cpu", "float32", 1)
    assert found[2].as_row()["error"] == found[2].time.error
    assert found[1].as_row()["error"] is None
    assert found[2].cost


def test_stages_are_numbered_as_in_the_paper() -> None:
    (row,) = ablate(study({"heads": ("8/8/8/7",)})).rows
    assert row.error.startswith(f"stage {FIRST_STAGE + 3}: dim = 256")
