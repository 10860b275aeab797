"""Searches: sums of look-ups are the count of the whole network, and what is found is what going through all of them finds."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice, pairwise, product
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs

from mpvit import VARIANTS, ModelConfig, StageConfig
from mpvit.architecture.config import config_from_dict, config_to_toml, load_config, save_config
from mpvit.counting import count
from mpvit.errors import MpvitError, UsageError
from mpvit.measurement import Measurement
from mpvit.operations.conventions import CONVENTIONS
from mpvit.plots.search import search_figure
from mpvit.search.criteria import CRITERIA, Limits
from mpvit.search.examine import Batch, examine, examine_without_limits
from mpvit.search.results import Candidate, SearchResult, nothing_within_limits, search_result
from mpvit.search.space import DEFAULT, Space, choices_text, parse_choices, stages_text
from mpvit.search.study import SearchStudy
from mpvit.units import parse_ratio

ACCURACIES = {"tiny": (78.210, 94.270), "xsmall": (80.896, 95.352), "small": (82.960, 96.154), "base": (84.292, 96.820)}
"""Percent top-1 and top-5 of the authors' released evaluation."""

COUNTS = {
    "tiny": (1_654_163_812, 5_843_736, 16_641_952),
    "xsmall": (2_971_396_560, 10_573_448, 21_983_464),
    "small": (4_799_650_824, 22_892_400, 30_601_880),
    "base": (16_445_326_240, 74_845_976, 60_204_392),
}
"""MACs, parameters and activations as published."""

FEW = Space(
    paths=((1, 2), (2,), (1, 3), (2,)),
    layers=((1,), (1, 2), (1,), (1, 2)),
    dim=((16, 32), (16, 24), (24, 32), (32, 48)),
    mlp_ratio=((2,), (2,), (1, 2), (2,)),
    heads=((4,), (8,), (8,), (4, 8)),
)


class Counted(NamedTuple):
    """A network of a space, counted as a whole."""

    config: ModelConfig
    macs: int
    params: int

    def within(self, limits: Limits) -> bool:
        return self.macs <= (limits.macs or self.macs) and self.params <= (limits.params or self.params)


def search(study: SearchStudy) -> SearchResult:
    return search_result(study, list(examine(study)))


def stages_of(space: Space, index: int) -> list[StageConfig]:
    """Every combination of one stage's choices that makes a stage."""
    found = []
    for paths, layers, dim, mlp_ratio, heads in product(*(choices[index] for choices in space.choices().values())):
        if dim % heads == 0 and float(mlp_ratio * dim).is_integer() and (index or dim % 2 == 0):
            found.append(StageConfig(paths, layers, dim, heads, mlp_ratio))
    return found


def everything(study: SearchStudy) -> list[Counted]:
    """Each network of the study's space, counted one by one."""
    return _everything(study.space, study.size, study.convention)


@lru_cache(maxsize=8)
def _everything(space: Space, size: tuple[int, int], convention: str) -> list[Counted]:
    found = []
    for stages in product(*(stages_of(space, index) for index in range(4))):
        if all(stage.dim <= following.dim for stage, following in pairwise(stages)):
            counted = count(ModelConfig(stages), size, convention=convention)
            assert counted.macs
            assert counted.params
            found.append(Counted(ModelConfig(stages), counted.macs, counted.params))
    return found


def ranked(study: SearchStudy, networks: Sequence[Counted]) -> list[tuple[float, ...]]:
    """What the criterion says, written down once more."""
    limits = study.limits
    shares = [[figure / most for figure, most in ((n.macs, limits.macs), (n.params, limits.params)) if most] for n in networks]
    keys: dict[str, list[tuple[float, ...]]] = {
        "budget": [(min(share, default=0), -n.macs, -n.params) for n, share in zip(networks, shares, strict=True)],
        "params": [(n.params, -n.macs) for n in networks],
        "macs": [(n.macs, -n.params) for n in networks],
    }
    return sorted(keys[study.criterion], reverse=True)[: study.top]


def front(networks: Sequence[Counted]) -> list[tuple[int, int]]:
    """The figures that no other network's are as good as in both and better in one."""
    figures = {(n.macs, n.params) for n in networks}
    return sorted(
        (macs, params)
        for macs, params in figures
        if not any(m <= macs and p >= params and (m, p) != (macs, params) for m, p in figures)
    )


def assert_same(found: SearchResult, networks: Sequence[Counted]) -> None:
    study = found.study
    kept = [network for network in networks if network.within(study.limits)]
    assert (found.examined, found.kept) == (len(networks), len(kept))
    best = [Counted(candidate.config, candidate.macs, candidate.params) for candidate in found.candidates]
    assert [study.rank(network.macs, network.params) for network in best] == ranked(study, kept)
    assert set(best) <= set(kept)
    assert len(set(best)) == len(best)
    assert [(candidate.macs, candidate.params) for candidate in found.front] == front(kept)
    assert {Counted(candidate.config, candidate.macs, candidate.params) for candidate in found.front} <= set(kept)


# ── found is what there is ──────────────────────────────────────────────────────────────────────────────────────────


def choices(values: Sequence[float], most: int) -> st.SearchStrategy[tuple[tuple[float, ...], ...]]:
    one = st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True).map(tuple)
    return st.tuples(one, one, one, one)


@st.composite
def studies(draw: st.DrawFn) -> SearchStudy:
    fields = {
        "paths": choices([1, 2, 3], 2),
        "layers": choices([1, 2], 1),
        "dim": choices([4, 6, 8, 12, 16, 24], 2),
        "mlp_ratio": choices([1, 2, 0.5, 2.5], 1),
        "heads": choices([1, 2, 3, 4], 2),
    }
    space = None
    while space is None:
        try:
            space = Space(**{name: draw(values) for name, values in fields.items()})
        except UsageError:  # a stage without a choice, or narrower than the one before
            continue
    criterion = draw(st.sampled_from(list(CRITERIA)))
    some = Limits(macs=1) if criterion == "budget" else Limits()
    size = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    convention = draw(st.sampled_from(list(CONVENTIONS)))
    return SearchStudy(
        space=space, limits=some, criterion=criterion, top=draw(st.integers(1, 9)), size=size, convention=convention
    )


@settings(max_examples=30)
@given(studies(), st.data())
def test_a_search_finds_what_there_is(study: SearchStudy, data: st.DataObject) -> None:
    networks = everything(study)
    assert study.networks == len(networks)
    edge = data.draw(st.sampled_from(networks))
    limits = [Limits(edge.macs, None), Limits(None, edge.params), Limits(edge.macs, edge.params), Limits(edge.macs + 1, 10**9)]
    study = replace(study, limits=data.draw(st.sampled_from(limits)))
    batches = list(examine(study))
    assert len(batches) == study.batches
    assert_same(search_result(study, batches), networks)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(
    "limits", [Limits(4_000_000, 140_000), Limits(params=120_000), Limits(macs=3_400_000)], ids=Limits.text
)
def test_so_it_does_where_much_is_ruled_out(criterion: str, limits: Limits) -> None:
    study = SearchStudy(space=FEW, limits=limits, criterion=criterion, size=(64, 64))
    found = search(study)
    assert 0 < found.kept < found.examined == study.networks == 512
    assert_same(found, everything(study))


def test_a_part_of_the_batches_is_a_search_of_that_part() -> None:
    study = SearchStudy(space=FEW, limits=Limits(macs=4_000_000), top=5, size=(64, 64))
    networks = everything(study)
    batches: list[Batch] = []
    for batch in examine(study):
        batches.append(batch)
        examined = sum(each.examined for each in batches)
        assert_same(search_result(study, batches), networks[:examined])
    assert examined == len(networks)


def test_what_is_held_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    study = SearchStudy(space=FEW, limits=Limits(macs=4_000_000), top=5, size=(64, 64))
    expected = search(study)
    monkeypatch.setattr("mpvit.search.examine._MAX_HELD", 3)
    assert search(study) == expected


@pytest.mark.parametrize("counter", ["torch", pytest.param("fvcore", marks=pytest.mark.slow)])
def test_live_counters_agree_about_the_candidates(counter: str) -> None:
    convention = {"fvcore": "fvcore", "torch": "matmul"}[counter]
    limits = Limits(4_000_000, 130_000)
    for candidate in search(SearchStudy(space=FEW, limits=limits, top=2, size=(64, 64), convention=convention)).candidates:
        live = count(candidate.config, 64, counter=counter)
        assert (live.macs, live.params) == (candidate.macs, candidate.params)


def test_every_figure_is_that_of_the_network_alone() -> None:
    found = search(SearchStudy(limits=Limits(3 * 10**9, 11 * 10**6), top=10))
    for candidate in (*found.candidates, *found.front[::5]):
        counted = count(candidate.config)
        assert (counted.macs, counted.params, counted.activations) == candidate[1:]


# ── the published variants ──────────────────────────────────────────────────────────────────────────────────────────


def test_published_variants_stand_beside_with_their_figures_and_accuracy() -> None:
    published = search(SearchStudy(space=FEW, limits=Limits(macs=10**9))).published
    assert {each.name: each.candidate[1:] for each in published} == COUNTS
    assert {each.name: (each.accuracy.top1, each.accuracy.top5) for each in published} == ACCURACIES
    assert all("arXiv:2112.11010" in each.accuracy.source for each in published)
    assert Candidate._fields == ("config", "macs", "params", "activations")  # nowhere to put an accuracy


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_default_space_holds_every_published_variant(variant: str) -> None:
    config = VARIANTS[variant].config
    for choices, stage in zip(DEFAULT.stages(), config.stages, strict=True):
        assert stage in choices
    macs, params, _ = COUNTS[variant]
    shape = {name: tuple((getattr(stage, name),) for stage in config.stages) for name in DEFAULT.choices()}
    found = search(SearchStudy(space=Space(**shape), limits=Limits(macs, params)))
    assert [candidate[1:] for candidate in found.candidates] == [COUNTS[variant]]


# ── nothing within the limits ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limits", [Limits(1000), Limits(params=1000), Limits(10**7, 10**4), Limits(10**6, 5 * 10**4)])
def test_with_nothing_within_the_limits_the_nearest_is_named(limits: Limits) -> None:
    study = SearchStudy(space=FEW, limits=limits, size=(64, 64))
    assert search(study).kept == 0
    error = nothing_within_limits(study, list(examine_without_limits(study)))
    networks = everything(study)
    over = [max(n.macs / (limits.macs or 10**18), n.params / (limits.params or 10**18)) for n in networks]
    nearest = networks[over.index(min(over))]
    assert isinstance(error, MpvitError)
    assert error.exit_code == 1
    for figure in (nearest.macs, nearest.params):
        assert f"{figure:,}".replace(",", " ") in str(error)
    names = {"macs": limits.macs and nearest.macs / limits.macs, "params": limits.params and nearest.params / limits.params}
    worst = max(names, key=lambda name: names[name] or 0)
    assert f"{min(over):.3g} × max {worst}" in str(error)
    assert f"raise max {worst}," in error.hint
    for what, field in (("paths", "paths"), ("layers", "layers"), ("width", "dim"), ("MLP ratio", "mlp_ratio")):
        assert f", {what} {stages_text(nearest.config, field)}".removeprefix(", ") in str(error)


# ── spaces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2,3", ((2, 3),) * 4),
        ("2/2,3/3/4, 5", ((2,), (2, 3), (3,), (4, 5))),
        ("8", ((8,),) * 4),
    ],
)
def test_choices_are_read(text: str, expected: tuple[tuple[int, ...], ...]) -> None:
    assert parse_choices(text) == expected
    assert parse_choices(choices_text(expected)) == expected


def test_ratios_need_not_be_whole() -> None:
    assert parse_choices("2,3.5", parse_ratio) == ((2, 3.5),) * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2,3,3,3", "3 comes 3 times among the choices of one stage"),
        ("2/3", "2 stages, must be one list for all or 4"),
        ("2//3/3", "must be a whole number"),
        ("", "must be a whole number"),
        ("1.5", "must be a whole number"),
        ("²", "must be a whole number"),
        ("9" * 400, "must be a whole number"),
    ],
)
def test_wrong_choices_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_choices(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": ((7,),) * 4}, "stage 2 has no choice that makes a stage: dim = 128: must be divisible by heads = 7"),
        (
            {"dim": ((9,),) * 4, "heads": ((3,),) * 4},
            "stage 2 has no choice that makes a stage: stages.0..dim = 9: must be even",
        ),
        ({"dim": ((32,), (24,), (16,), (8,))}, "every choice has a stage narrower than the one before"),
        ({"dim": ((8,),)}, "choices of 1 stages"),
        ({"dim": (tuple(range(8, 80_000, 8)),) * 4}, "choices: must be from 1 to 5000"),
        ({"paths": ((1,), (), (1,), (1,))}, "stage 3 has 0 choices"),
    ],
)
def test_a_wrong_space_is_refused(changes: dict[str, tuple[tuple[int, ...], ...]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Space(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"criterion": "best"}, "unknown criterion 'best'"),
        ({"limits": Limits()}, "criterion 'budget': must have a limit"),
        ({"top": 0}, "top = 0"),
        ({"size": (224, 0)}, "^width = 0: must be at least 1"),
        ({"size": (0, 224)}, "^height = 0: must be at least 1"),
        ({"convention": "thop"}, "unknown convention 'thop'"),
    ],
)
def test_a_wrong_study_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SearchStudy(**{"limits": Limits(macs=10**9), **changes})  # type: ignore[arg-type]


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="max params = 0"):
        Limits(params=0)


# ── latency ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def timed(*milliseconds: float) -> SearchResult:
    """The best of a search with these latencies, none for what an interruption left unmeasured."""
    times = tuple(Measurement(name="", samples_s=(ms / 1e3,), device="cpu", threads=1) for ms in milliseconds)
    found = search(SearchStudy(space=FEW, limits=Limits(macs=10**9), top=3))
    return replace(found, max_latency_s=0.02, times=times)


def test_the_best_within_the_latency_is_picked() -> None:
    outcome = timed(25, 15, 10)
    assert [row.within for row in outcome.ranked] == [False, True, True]
    assert outcome.best == outcome.pick(2) == outcome.ranked[1]
    assert [row.rank for row in outcome.ranked] == [1, 2, 3]
    assert timed(20).ranked[0].within  # the limit itself


def test_what_was_not_measured_is_not_within() -> None:
    outcome = timed(25)
    assert [row.within for row in outcome.ranked] == [False, None, None]
    assert outcome.best is None
    assert str(outcome.too_slow()) == "none of the 1 candidates measured is within 20 ms: the fastest, #1, takes 25 ms"


def test_with_nothing_timed_the_best_is_that_of_the_limits_counted() -> None:
    assert timed().best == timed().ranked[0]


def test_a_rank_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="pick = 4: must be from 1 to 3"):
        timed().pick(4)


# ── the figure ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_in_the_figure_only_published_variants_have_an_accuracy() -> None:
    (axes,) = search_figure(search(SearchStudy(limits=Limits(macs=3 * 10**9, params=11 * 10**6)))).axes
    names = {text.get_text() for text in axes.texts}
    assert names == {"tiny, 78.2 %", "xsmall, 80.9 %", "small, 83.0 %", "base, 84.3 %"}
    lines = {str(line.get_label()): line for line in axes.lines}
    published = lines["published, with ImageNet-1K top-1"]
    assert published.get_xydata().tolist() == [[macs / 1e9, params / 1e6] for macs, params, _ in COUNTS.values()]  # type: ignore[union-attr]


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(configs(most_stages=4), st.sampled_from(["factorized", "softmax", "linformer:16", "window:5"]), st.booleans())
def test_a_configuration_comes_back_from_toml(config: ModelConfig, kind: str, crpe: bool) -> None:  # noqa: FBT001
    config = config.with_attention(kind)
    if not crpe:
        ratios = [1.5 if stage.dim % 2 == 0 else stage.mlp_ratio for stage in config.stages]
        stages = (replace(s, crpe_windows=(), mlp_ratio=ratio) for s, ratio in zip(config.stages, ratios, strict=True))
        config = replace(config, stages=tuple(stages))
    text = config_to_toml(config)
    assert config_from_dict(tomllib.loads(text)) == config


def test_and_from_a_file(tmp_path: Path) -> None:
    for candidate in islice(search(SearchStudy(space=FEW, limits=Limits(macs=10**9))).candidates, 3):
        save_config(candidate.config, tmp_path / "found.toml")
        assert load_config(tmp_path / "found.toml") == candidate.config


def test_a_published_network_is_written_without_what_is_published_anyway() -> None:
    text = config_to_toml(VARIANTS["xsmall"].config)
    assert text.splitlines()[:6] == ["[[stages]]", "paths = 2", "layers = 1", "dim = 64", "heads = 8", "mlp_ratio = 4"]
    assert text.count("\n") == 4 * 6 + 3


def test_stages_are_written_one_by_one() -> None:
    assert stages_text(VARIANTS["small"].config, "dim") == "64/128/216/288"
