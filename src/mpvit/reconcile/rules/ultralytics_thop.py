"""ultralytics-thop (2.2.3), known from its recorded figures alone: its licence (AGPL) keeps it out of this project.

What it does with operators that MPViT does not use is not known, so the rule says nothing of them.
"""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term, right
from mpvit.trace import Trace

_NORMS = ("batch_norm", "layer_norm")


def _macs(trace: Trace) -> Iterator[Term]:
    for call in trace.calls:
        if call.operator in _NORMS:
            yield Term("norms", 4 * call.elements, "4 an element with learned scale and shift")


RULE = Rule(_macs, right, "figures recorded with version 2.2.3")
