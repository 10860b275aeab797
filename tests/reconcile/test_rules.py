"""What every rule says: terms that a person can read, in whole numbers, and the same as in the recorded report."""

import json
from pathlib import Path

import pytest
from recorded import trace_config
from zoo.modules import MODULES

from mpvit import VARIANTS
from mpvit.reconcile.explain import Explanation, explain
from mpvit.tools import TOOLS, trace_options
from mpvit.trace.user_model import trace_user_model
from mpvit.user_model import UserModel
from mpvit.user_model.inputs import parse_input


def explained(name: str) -> list[Explanation]:
    make, inputs = MODULES[name]
    found = trace_user_model(
        UserModel(name, lambda: make().eval(), tuple(map(parse_input, inputs.split()))), **trace_options(TOOLS)
    )
    trace = found.trace
    return [explain(trace, name, tool) for tool in TOOLS]


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # people still write the old one
@pytest.mark.parametrize("name", [name for name in MODULES if name != "bmm into out"])  # on which fvcore itself fails
def test_every_term_has_a_name_a_reason_and_a_whole_number(name: str) -> None:
    for each in explained(name):
        terms = (*each.terms, *(each.param_terms or ()))
        for term in terms:
            assert type(term.amount) is int
            assert term.name
            assert len(term.reason.split()) > 2
            assert term.reason == term.reason.strip()
        for names in (each.terms, each.param_terms or ()):
            assert len({term.name for term in names}) == len(names)


RECORDED = json.loads((Path(__file__).parents[2] / "reports" / "reconcile.json").read_text(encoding="utf-8"))["results"]
SAID = ("tool", "macs", "terms", "reasons", "params", "param_terms", "param_reasons", "source", "printed")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_recorded_report_is_what_the_rules_say_today(variant: str) -> None:
    """``make record-counts`` makes it again."""
    trace = trace_config(VARIANTS[variant].config, 1, 224, 224, layout="published")
    rows = [explain(trace, variant, tool).as_row() for tool in TOOLS]
    recorded = [row for row in RECORDED if row["model"] == variant]
    assert [{name: row[name] for name in SAID} for row in rows] == [{name: row[name] for name in SAID} for row in recorded]
