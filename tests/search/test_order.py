"""What is read, ranked and said of a search, piece by piece."""

import pytest

from mpvit import VARIANTS
from mpvit.errors import UsageError
from mpvit.search.criteria import CRITERIA, Limits
from mpvit.search.examine import pareto_front
from mpvit.search.space import choices_text, parse_choices, shape_text
from mpvit.units import parse_ratio


@pytest.mark.parametrize("text", ["0", "", "1..5", "x", "-1", "1e3", "²", "1234567890", "nan"])
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^'.*': must be a number above 0$") as caught:
        parse_choices(text, parse_ratio)
    assert len(parse_choices(caught.value.hint.split()[-1], parse_ratio)) == 4  # its example is right


def test_a_ratio_below_1_is_one() -> None:
    assert parse_choices("0.5,1.0", parse_ratio) == ((0.5, 1),) * 4


@pytest.mark.parametrize("text", ["1.5", "2,2", "2/3"])
def test_a_hint_has_an_example_that_is_right(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_choices(text)
    assert str(caught.value).startswith(f"'{text}'")
    assert len(parse_choices(caught.value.hint.split()[-1])) == 4


def test_choices_of_every_stage_are_written_once() -> None:
    assert choices_text(((8,),) * 4) == "8"
    assert choices_text(((2,), (2, 3), (2, 3), (2, 3))) == "2/2,3/2,3/2,3"


def test_limits_are_said_with_what_they_limit() -> None:
    assert Limits(3_000_000, 11_000).text() == "3 000 000 MACs and 11 000 parameters"
    assert Limits(params=11_000).text() == "11 000 parameters"


def test_of_networks_equally_near_the_cheaper_comes_first() -> None:
    limits = Limits(100, 100)
    networks = [(150, 120), (120, 150), (150, 150), (150, 110), (160, 100)]
    expected = [(120, 150), (150, 110), (150, 120), (150, 150), (160, 100)]
    assert sorted(networks, key=lambda network: limits.nearness(*network), reverse=True) == expected
    assert sorted(networks, key=lambda network: Limits(100).nearness(*network), reverse=True) == expected


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("budget", [(90, 90), (80, 95), (95, 71), (95, 70)]),  # the limit used least: 0.9, 0.8, 0.71, 0.7
        ("params", [(80, 95), (90, 90), (95, 71), (95, 70)]),
        ("macs", [(95, 70), (95, 71), (90, 90), (80, 95)]),
    ],
)
def test_a_criterion_ranks(criterion: str, expected: list[tuple[int, int]]) -> None:
    rank = CRITERIA[criterion].key
    assert sorted(expected, key=lambda network: rank(network[0], network[1], Limits(100, 100)), reverse=True) == expected


def test_the_front_has_the_most_parameters_for_as_many_macs() -> None:
    points = [(3, 9, (0,)), (1, 5, (1,)), (1, 7, (2,)), (2, 7, (3,)), (2, 6, (4,)), (4, 8, (5,))]
    assert pareto_front(points) == [(1, 7, (2,)), (3, 9, (0,))]


def test_a_shape_is_said_stage_by_stage() -> None:
    expected = "paths 2/3/3/3, layers 1/3/6/3, width 64/128/216/288, MLP ratio 4/4/4/4, heads 8/8/8/8"
    assert shape_text(VARIANTS["small"].config) == expected
