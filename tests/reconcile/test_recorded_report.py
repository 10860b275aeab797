"""The rules give what is recorded in ``reports/reconcile.json``, words included."""

import json
from pathlib import Path

import pytest
from recorded import trace_config

from mpvit import VARIANTS
from mpvit.reconcile.explain import explain
from mpvit.tools import TOOLS

RECORDED = json.loads((Path(__file__).parents[2] / "reports" / "reconcile.json").read_text(encoding="utf-8"))["results"]
SAID = ("tool", "macs", "terms", "reasons", "params", "param_terms", "param_reasons", "source", "printed")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_rules_give_the_recorded_report(variant: str) -> None:
    """``make record-counts`` makes it again."""
    trace = trace_config(VARIANTS[variant].config, 1, 224, 224, layout="published")
    rows = [explain(trace, variant, tool).as_row() for tool in TOOLS]
    recorded = [row for row in RECORDED if row["model"] == variant]
    assert [{name: row[name] for name in SAID} for row in rows] == [{name: row[name] for name in SAID} for row in recorded]
