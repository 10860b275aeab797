"""The pieces of an ablation: values as they are read and written, steps, and what comes nearest to a budget."""

from dataclasses import replace
from itertools import product

import pytest

from mpvit import VARIANTS, ModelConfig, StageConfig
from mpvit.ablation.axes import AXES, get_axis
from mpvit.ablation.knobs import KNOBS, amount_steps, get_knob, scaled_amounts, with_amounts
from mpvit.ablation.matching import _neighbours, match_budget
from mpvit.ablation.study import AblationStudy, ablate
from mpvit.counting import count
from mpvit.errors import UsageError
from mpvit.network import NamedNetwork

TINY = VARIANTS["tiny"].config


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("axis", "text", "expected"),
    [
        ("paths", "2", (2,)),
        ("layers", "1/3/6/3", (1, 3, 6, 3)),
        ("mlp-ratio", "0.5/4", (0.5, 4.0)),
        ("width", "0.5x", 0.5),
        ("width", "48", (48,)),
        ("width", "48/96", (48, 96)),
        ("local", "on/off", (True, False)),
        ("fusion", "sum", ("sum",)),
        ("patch-embed", "series/parallel", ("series", "parallel")),
        ("attention", "softmax/window:5", ("softmax", "window:5")),
        ("crpe", "off", ()),
        ("crpe", "3/5/7", ((3, 2), (5, 3), (7, 3))),  # heads as published, of 8
        ("resolution", "33", (33, 33)),
        ("resolution", "33x47", (33, 47)),
        ("resolution", "33X47", (33, 47)),
        ("resolution", "33×47", (33, 47)),
    ],
)
def test_a_value_is_read(axis: str, text: str, expected: object) -> None:
    assert get_axis(axis).parse(text) == expected


@pytest.mark.parametrize(
    ("axis", "text", "said"),
    [
        ("paths", "0", "'0': must be a whole number of at least 1"),
        ("paths", "2//3", "'': must be a whole number of at least 1"),
        ("mlp-ratio", "0", "'0': must be a number above 0"),
        ("mlp-ratio", "", "'': must be a number above 0"),
        ("mlp-ratio", ".", "'.': must be a number above 0"),
        ("mlp-ratio", "1.2.3", "'1.2.3': must be a number above 0"),
        ("mlp-ratio", "-1", "'-1': must be a number above 0"),
        ("mlp-ratio", "²", "'²': must be a number above 0"),
        ("mlp-ratio", "1" * 19, f"'{'1' * 19}': must be a number above 0"),
        ("width", "0x", "'0': must be a number above 0"),
        ("crpe", "3/3", "'3/3': must be off, or different odd windows"),
        ("crpe", "4", "'4': must be off, or different odd windows"),
        ("crpe", "on", "'on': must be a whole number of at least 1"),
        ("resolution", "1x2x3", "'1x2x3': must be one side, or HEIGHTxWIDTH"),
        ("local", "of", "unknown switch 'of'"),
        ("fusion", "som", "unknown fusion 'som'"),
        ("patch-embed", "serial", "unknown patch-embed 'serial'"),
        ("attention", "hidra", "unknown attention 'hidra'"),
    ],
)
def test_what_is_no_value_is_named(axis: str, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_axis(axis).parse(text)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("axis", "wrong", "near"), [("fusion", "som", "sum"), ("local", "of", "off"), ("patch-embed", "serial", "series")]
)
def test_the_nearest_word_is_proposed(axis: str, wrong: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_axis(axis).parse(wrong)
    assert near in caught.value.hint


@pytest.mark.parametrize("name", ["axis", "knob"])
def test_a_name_that_there_is_not(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown {name} 'layer'") as caught:
        get_axis("layer") if name == "axis" else get_knob("layer")
    assert "layers" in caught.value.hint


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("paths", "2/3/3/3"),
        ("layers", "1/2/4/1"),
        ("width", "64/96/176/216"),
        ("mlp-ratio", "2"),
        ("heads", "8"),
        ("attention", "factorized"),
        ("local", "on"),
        ("cpe", "on"),
        ("crpe", "3/5/7"),
        ("fusion", "concat"),
        ("patch-embed", "series"),
        ("resolution", "192x256"),
    ],
)
def test_a_networks_own_value_is_written(axis: str, expected: str) -> None:
    """Those of tiny, as in table 1 of the paper."""
    assert AXES[axis].read(NamedNetwork("it", TINY, (192, 256))) == expected


def test_values_that_differ_between_stages_are_written_stage_by_stage() -> None:
    first, *others = TINY.stages
    mixed = replace(TINY, stages=(replace(first, crpe_windows=(), local=False), *others))
    network = NamedNetwork("it", mixed, (224, 224))
    assert AXES["crpe"].read(network) == "off 3/5/7 3/5/7 3/5/7"
    assert AXES["local"].read(network) == "off/on/on/on"
    assert AXES["resolution"].read(network) == "224"
    assert (
        AXES["crpe"].read(NamedNetwork("it", replace(TINY, stages=TINY.stages[:1]), (224, 224))) == "3/5/7"
    )  # one stage is enough


def test_where_no_value_is_given_these_are_taken() -> None:
    taken = {name: axis.values for name, axis in AXES.items()}
    assert taken["local"] == taken["cpe"] == ("on", "off")
    assert (taken["fusion"], taken["patch-embed"]) == (("concat", "sum"), ("series", "parallel"))
    assert "factorized_crpe" not in taken["attention"]
    for name, axis in AXES.items():
        for value in axis.values:
            axis.parse(value)
        assert axis.what, name


def test_an_edit_leaves_all_else() -> None:
    network = NamedNetwork("it", TINY, (64, 96))
    found = AXES["paths"].edit(network, (1,))
    assert found.size == (64, 96)
    assert [replace(stage, paths=own.paths) for stage, own in zip(found.config.stages, TINY.stages, strict=True)] == list(
        TINY.stages
    )
    assert AXES["resolution"].edit(network, (7, 8)) == NamedNetwork("it", TINY, (7, 8))
    assert AXES["crpe"].edit(network, ()).size == AXES["width"].edit(network, 1.0).size == (64, 96)


# ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("heads", "mlp_ratio", "expected"),
    [(5, 2, (10, 5)), (8, 4, (8, 8)), (1, 2.5, (2, 2)), (3, 0.25, (12, 12)), (3, 0.5, (6, 6)), (1, 1, (2, 1))],
)
def test_channels_are_what_heads_divide_the_stem_halves_and_whose_mlp_is_whole(
    heads: int, mlp_ratio: float, expected: tuple[int, int]
) -> None:
    stage = StageConfig(1, 1, 240, heads, mlp_ratio)
    assert amount_steps(ModelConfig((stage, stage)), KNOBS["width"]) == expected


@pytest.mark.parametrize(("dim", "step"), [(64, 4), (24, 3), (50, 25), (8, 1)])
def test_hidden_channels_are_such_that_their_ratio_is_exact(dim: int, step: int) -> None:
    config = ModelConfig((StageConfig(1, 1, dim, 2, 2),))
    assert amount_steps(config, KNOBS["mlp-ratio"]) == (step,)
    (more,) = with_amounts(config, KNOBS["mlp-ratio"], (2 * dim + step,)).stages
    assert more.hidden_dim == 2 * dim + step


def test_amounts_are_rounded_to_their_step_and_are_never_none() -> None:
    assert scaled_amounts(TINY, KNOBS["width"], 0.7) == (48, 64, 120, 152)  # 44.8, 67.2, 123.2 and 151.2 to multiples of 8
    assert scaled_amounts(TINY, KNOBS["width"], 0.001) == (8, 8, 8, 8)
    assert scaled_amounts(TINY, KNOBS["layers"], 1.6) == (2, 3, 6, 2)
    assert scaled_amounts(TINY, KNOBS["layers"], 0.1) == (1, 1, 1, 1)


def test_a_stage_that_cannot_have_its_amount_is_named() -> None:
    with pytest.raises(UsageError, match=r"^stage 3: dim = 97: must be divisible by heads = 8") as caught:
        with_amounts(TINY, KNOBS["width"], (64, 97, 176, 216))
    assert caught.value.hint == "see docs/configurations.md"


# ── budgets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_around_a_network_at_most_two_stages_are_a_step_away() -> None:
    assert set(_neighbours((8, 16), (8, 8))) == {(8, 16), (16, 16), (8, 8), (8, 24), (16, 8), (16, 24)}  # none below a step
    found = set(_neighbours((40, 40, 40), (8, 8, 8)))
    steps_away = set(product((32, 40, 48), repeat=3))
    assert found == {amounts for amounts in steps_away if amounts.count(40) >= 1}


WEIGHTS = (7, 31, 101, 13)


def weighed(config: ModelConfig) -> int:
    """A cost that rises with every stage's layers, each at its own price."""
    return sum(weight * stage.layers for weight, stage in zip(WEIGHTS, config.stages, strict=True))


@pytest.mark.parametrize("budget", [152, 200, 333, 500, 1000, 1717, 12_345])
def test_nothing_that_is_allowed_is_nearer_to_the_budget(budget: int) -> None:
    knob = KNOBS["layers"]
    config, reached = match_budget(TINY, knob, budget, weighed)
    assert weighed(config) == reached
    factors = [2 ** (k / 200) for k in range(-800, 1600)]
    common = [sum(w * n for w, n in zip(WEIGHTS, scaled_amounts(TINY, knob, factor), strict=True)) for factor in factors]
    assert abs(reached - budget) <= min(abs(each - budget) for each in common)
    low = max((each for each in common if each < budget), default=min(common))
    at = scaled_amounts(TINY, knob, factors[common.index(low)])
    for amounts in _neighbours(at, (1, 1, 1, 1)):
        assert abs(reached - budget) <= abs(sum(w * n for w, n in zip(WEIGHTS, amounts, strict=True)) - budget)


def test_a_network_that_meets_the_budget_already_is_left_alone() -> None:
    assert match_budget(TINY, KNOBS["layers"], weighed(TINY), weighed) == (TINY, weighed(TINY))


def test_a_budget_beyond_what_a_network_may_have_is_approached() -> None:
    config, reached = match_budget(TINY, KNOBS["layers"], 10**9, weighed)
    assert weighed(TINY) < reached == weighed(config)
    config, reached = match_budget(TINY, KNOBS["layers"], 1, weighed)
    assert [stage.layers for stage in config.stages] == [1, 1, 1, 1]
    assert reached == sum(WEIGHTS)


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_last_axis_changes_fastest() -> None:
    study = AblationStudy(model="it", config=TINY, axes={"paths": ("1", "2"), "local": ("on", "off", "on")})
    assert study.axes == {"paths": ("1", "2"), "local": ("on", "off")}
    assert [tuple(values.values()) for values in study.grid] == [("1", "on"), ("1", "off"), ("2", "on"), ("2", "off")]
    assert study.input_shape == (1, 3, 224, 224)
    assert AblationStudy(model="it", config=TINY, axes={"layers": tuple(map(str, range(1, 5001)))}).grid[-1] == {
        "layers": "5000"
    }


def test_a_matched_row_says_what_was_turned_and_how_far_it_is_off() -> None:
    study = AblationStudy(model="it", config=TINY, axes={"paths": ("1", "2"), "heads": ("8", "7")}, match="params", batch=2)
    found = ablate(study)
    baseline, matched, refused, *_ = found.as_rows()
    assert matched["values"] == {"paths": "1", "heads": "8"}
    assert (matched["model"], matched["batch"], matched["convention"], matched["error"]) == ("it", 2, "fvcore", None)
    assert (matched["input_shape"], matched["baseline"], baseline["baseline"]) == ([2, 3, 224, 224], False, True)
    assert (matched["match"], matched["knob"]) == ("params", "width")
    config = found.rows[0].config
    assert config is not None
    assert matched["knob_amounts"] == [stage.dim for stage in config.stages]
    assert matched["params"] == count(config).params
    assert matched["matched_off"] == pytest.approx(matched["params"] / baseline["params"] - 1, abs=1e-12)
    assert matched["delta_params"] == matched["params"] - baseline["params"]
    assert (matched["step_params"], matched["step_params_by_part"]) == (None, None)  # rows of another width are no steps
    assert "divisible by heads = 7" in refused["error"]
    for field in ("params", "macs", "activations", "flops", "delta_params", "saved_activation_bytes", "params_by_part"):
        assert refused[field] is None
    assert refused["values"] == {"paths": "1", "heads": "7"}
    assert refused["input_shape"] == [2, 3, 224, 224]
    assert "match" not in refused


@pytest.mark.parametrize(
    ("axes", "match", "said", "hint"),
    [
        ({}, "none", "no axis: must be at least one", "for example paths"),
        ({"width": ()}, "macs", "match macs with knob 'width': it would undo the axis", "choose another knob"),
        ({"paths": ()}, "latency", "match latency: must be measured", "measure the rows, or match macs"),
    ],
)
def test_a_study_that_cannot_be_says_what_to_do(axes: dict[str, tuple[str, ...]], match: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ablate(AblationStudy(model="it", config=TINY, axes=axes, match=match))
    assert (str(caught.value), caught.value.hint) == (said, hint)
