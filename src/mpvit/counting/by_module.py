"""What a tool counts in each module itself, without the modules below it: for whoever looks where a difference sits."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn


def charged(network: nn.Module, total: Callable[[], int]) -> Counter[str]:
    """Return what ``total``, a tool's running total, grows by in each module, by its first name; filled while it runs.

    ``network`` is one to throw away: it keeps the hooks.
    """
    own: Counter[str] = Counter()
    open_: list[tuple[int, int]] = []  # what the total was, and what of it is charged by now

    def enter(_: nn.Module, __: Any) -> None:  # noqa: ANN401 - torch's
        open_.append((total(), 0))

    def leave(name: str) -> None:
        before, below = open_.pop()
        spent = total() - before
        own[name] += spent - below
        if open_:
            outer, charged_there = open_.pop()
            open_.append((outer, charged_there + spent))

    for name, module in network.named_modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(lambda *_, name=name: leave(name), always_call=True)
    return own


def annotated(network: nn.Module, attribute: str) -> Counter[str]:
    """Return what a tool notes in an ``attribute`` of each module, by its first name; filled when ``network`` has run.

    The tool's own hooks come first: this one is added when it calls the network.
    """
    own: Counter[str] = Counter()

    def read(*_: Any) -> None:  # noqa: ANN401 - torch's
        own.update({name: int(getattr(module, attribute, 0)) for name, module in network.named_modules()})

    network.register_forward_pre_hook(lambda *_: network.register_forward_hook(read) and None)
    return own


def without_below(total: Mapping[str, int], names: Iterable[str]) -> Counter[str]:
    """Return each module's own part of a ``total`` that has what is below it: less that of the nearest names below."""
    own = Counter({name: total.get(name, 0) for name in names})
    for name in list(own):
        if name:
            own[name.rpartition(".")[0]] -= total.get(name, 0)
    return own
