"""How long one closed-form count takes, and that the image's size does not matter."""

from functools import partial

from mpvit import VARIANTS
from mpvit.ablation.study import AblationStudy, ablate
from mpvit.architecture.closed_form import network
from mpvit.dense import TASKS
from mpvit.dense import network as task_network
from mpvit.operations.conventions import Tally, tally
from mpvit.search.criteria import Limits
from mpvit.search.examine import examine
from mpvit.search.results import search_result
from mpvit.search.space import Space
from mpvit.search.study import SearchStudy
from mpvit.units import grouped

from .plan import Benchmark, Ratio

LIMIT_S = 1e-3
"""One count in at most a millisecond."""

TASK_LIMIT_S = 2e-3
"""A detector or segmenter in at most two."""

GRID_LIMIT_S = 2.0
"""An ablation of 200 rows, training memory and parts included, in at most two seconds."""

SEARCH_LIMIT_S = 60.0
"""A search through 100 000 networks, each of them counted and ranked, in at most a minute."""

GRID = {
    "paths": ("1", "2", "3", "4"),
    "mlp-ratio": ("1", "2", "3", "4", "6"),
    "heads": ("4", "8"),
    "crpe": ("off", "3", "3/5", "3/5/7", "7"),
}


def variants() -> Benchmark:
    """Each variant at 224x224 against the limit."""
    cases = {f"count {name}": partial(_count, name, 224) for name in VARIANTS}
    return Benchmark(cases, tuple(Ratio(name, LIMIT_S, at_most=1) for name in cases), min_samples=20, min_time_s=1)


def sizes() -> Benchmark:
    """The same count of an image with 1338 times as many pixels."""
    small, large = "count xsmall 224×224", "count xsmall 8192×8192"
    cases = {small: partial(_count, "xsmall", 224), large: partial(_count, "xsmall", 8192)}
    return Benchmark(cases, (Ratio(large, small, at_most=1.5),), min_samples=20, min_time_s=1)


def tasks() -> Benchmark:
    """Each detector and segmenter on the largest variant at its own size against the limit."""
    cases = {f"count {name} on base": partial(_count_task, name) for name in TASKS}
    return Benchmark(cases, tuple(Ratio(name, TASK_LIMIT_S, at_most=1) for name in cases), min_samples=20, min_time_s=1)


def grid() -> Benchmark:
    """A grid of 200 edits of xsmall against the limit."""
    case = "ablate xsmall, 200 rows"
    study = AblationStudy(model="xsmall", config=VARIANTS["xsmall"].config, axes=GRID)
    return Benchmark({case: partial(ablate, study)}, (Ratio(case, GRID_LIMIT_S, at_most=1),), min_samples=5)


def search() -> Benchmark:
    """A space of somewhat more than 100 000 networks with limits that rule out none, on one core, against the limit."""
    space = Space(mlp_ratio=((4,), (4,), (2, 4), (2, 4)))
    study = SearchStudy(space=space, limits=Limits(macs=10**12, params=10**12))
    case = f"search {grouped(study.networks)} networks"
    return Benchmark({case: partial(_search, study)}, (Ratio(case, SEARCH_LIMIT_S, at_most=1),), min_samples=5)


def _count_task(name: str) -> Tally:
    task = TASKS[name]
    return tally(task_network(VARIANTS["base"].config, task, 1, *task.size), "published-dense")


def _search(study: SearchStudy) -> None:
    found = search_result(study, list(examine(study)))
    assert found.kept == study.networks >= 100_000  # each was counted: a bound rules out only what is over a limit


def _count(variant: str, side: int) -> Tally:
    return tally(network(VARIANTS[variant].config, 1, side, side), "fvcore")
