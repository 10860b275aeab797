"""Cases of which the normal run tries some, and ``make slow`` the others."""

from collections.abc import Iterable

import pytest


def chosen(cases: Iterable[object], *usual: object) -> list[object]:
    """Return all ``cases`` for ``parametrize``, those that are not ``usual`` marked slow."""
    return [case if case in usual else pytest.param(case, marks=pytest.mark.slow) for case in cases]
