"""Counters of parameters, multiply-adds and activations: one adapter a tool, all with the same result."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from mpvit.config import ModelConfig
from mpvit.cost import require_lengths
from mpvit.counting import analytic
from mpvit.counting.results import TOTAL, Count
from mpvit.errors import CheckError, MpvitError, UsageError, unknown_name
from mpvit.operations import Cost, Shape
from mpvit.operations.conventions import CONVENTIONS
from mpvit.registry import resolve
from mpvit.variants import VARIANTS, get_config


class Counter(NamedTuple):
    """A counter: the convention that it counts by, and its adapter, which takes (name, config, input shape, convention)."""

    convention: str
    adapter: str


COUNTERS = {
    "analytic": Counter("fvcore", "mpvit.counting.analytic:count"),
    "torch": Counter("matmul", "mpvit.counting.torch_dispatch:count"),
    "fvcore": Counter("fvcore", "mpvit.counting.fvcore:count"),
    "thop": Counter("thop", "mpvit.counting.thop:count"),
}

CUTS = (TOTAL, *analytic.PARTS)
"""The ways to show a network: whole, or cut into parts that sum to it."""

PUBLISHED_INPUT: Shape = (1, 3, 224, 224)
"""The input that the published counts are for."""


def count(
    model: str | ModelConfig,
    size: int | tuple[int, int] = 224,
    *,
    batch: int = 1,
    counter: str = "analytic",
    convention: str | None = None,
    name: str | None = None,
) -> Count:
    """Count one forward pass of ``model``, a variant's name or a configuration, in evaluation mode.

    ``size`` is the image's side or (height, width) in pixels. ``convention`` is the counter's own unless given, and only
    the analytic counter has a choice (``fvcore``, ``exact``, ``matmul``). ``name`` labels the result.
    Raises ``UsageError`` for wrong arguments and ``MpvitError`` where a tool fails; leaves no trace on the random state.
    """
    config = get_config(model) if isinstance(model, str) else model
    label = name or (model if isinstance(model, str) else "model")
    shape = input_shape(config, size, batch)
    rule = check_convention(counter, convention)
    counted: Count = resolve(COUNTERS[counter].adapter)(label, config, shape, rule)
    expected = None
    if counter != "analytic" and rule in CONVENTIONS:
        expected = count(config, size, batch=batch, convention=rule).macs
    return replace(counted, published=published_count(config, shape), closed_form_macs=expected)


def count_parts(
    model: str | ModelConfig,
    size: int | tuple[int, int] = 224,
    *,
    by: str,
    batch: int = 1,
    convention: str = "fvcore",
    name: str | None = None,
) -> list[Count]:
    """Count, in closed form, each part of the network: by ``stage``, ``path``, ``kind`` or ``layer``.

    The parts sum to the total in every figure. Other arguments and errors are those of ``count``.
    """
    config = get_config(model) if isinstance(model, str) else model
    label = name or (model if isinstance(model, str) else "model")
    rule = check_convention("analytic", convention)
    return analytic.count_parts(label, config, input_shape(config, size, batch), rule, by)


def try_count(
    model: ModelConfig, size: tuple[int, int], *, batch: int, counter: str, convention: str | None, name: str
) -> Count:
    """Do as ``count``, but return a failed tool as a count whose ``error`` says why; arguments are still checked."""
    try:
        return count(model, size, batch=batch, counter=counter, convention=convention, name=name)
    except UsageError:
        raise
    except MpvitError as error:
        return Count(
            model=name,
            input_shape=input_shape(model, size, batch),
            counter=counter,
            convention=check_convention(counter, convention),
            params=None,
            macs=None,
            activations=None,
            error=str(error),
        )


def check(counts: Sequence[Count]) -> None:
    """Hold counts against the published figures and, for live counters, the closed form.

    Raises ``CheckError`` naming the first that differs.
    """
    for counted in counts:
        if counted.agrees is False:
            raise CheckError(
                f"{counted.model}: {counted.counter} counts {counted.params} parameters, {counted.macs} MACs and "
                f"{counted.activations} activations, published are {counted.published}"
            )
        if counted.agrees_with_closed_form is False:
            raise CheckError(
                f"{counted.model}: {counted.counter} counts {counted.macs} MACs, the closed form {counted.closed_form_macs}"
            )


def require_published(counts: Sequence[Count]) -> None:
    """Raise ``UsageError`` where there is no published figure that any of ``counts`` can be held against."""
    if all(counted.agrees is None for counted in counts):
        raise UsageError(
            "--check has nothing to hold the counts against",
            hint="published are the four variants at 224x224, batch 1, under the convention fvcore",
        )


def require_cut(by: str, counters: Sequence[str]) -> None:
    """Raise ``UsageError`` for a cut that does not exist, or one that the counters' figures do not add up over."""
    if by not in CUTS:
        raise unknown_name("part", by, CUTS)
    if by != TOTAL and list(counters) != ["analytic"]:
        raise UsageError(
            f"--by {by} with --counter {','.join(counters)}: only the analytic counter's parts add up",
            hint="leave --counter out, or take --by total",
        )


def check_convention(counter: str, convention: str | None) -> str:
    """Return the convention that ``counter`` counts by; raise ``UsageError`` for one that it does not have."""
    if counter not in COUNTERS:
        raise unknown_name("counter", counter, COUNTERS)
    own = COUNTERS[counter].convention
    if convention is None or convention == own:
        return own
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    if counter != "analytic":
        raise UsageError(
            f"convention {convention!r}: the counter {counter} counts by {own!r} alone",
            hint="only the analytic counter can answer under every convention",
        )
    return convention


def input_shape(config: ModelConfig, size: int | tuple[int, int], batch: int) -> tuple[int, int, int, int]:
    """Return (B, C, H, W); raise ``UsageError`` for a length below 1."""
    height, width = (size, size) if isinstance(size, int) else size
    require_lengths(batch, height, width)
    return (batch, config.in_channels, height, width)


def published_count(config: ModelConfig, shape: Sequence[int]) -> Cost | None:
    """Return what the authors' code counts for this network and input, if it is one of theirs."""
    if tuple(shape) != PUBLISHED_INPUT:
        return None
    same = (v.published for v in VARIANTS.values() if replace(v.config, drop_path=config.drop_path) == config)
    return next(same, None)
