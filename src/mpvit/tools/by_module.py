"""What a tool counts in each module without the modules below it, to find where a difference sits."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn


def charged(network: nn.Module, total: Callable[[], int]) -> Counter[str]:
    """Return by how much ``total``, a tool's running total, grows in each module, by its first name; filled by a forward pass.

    The hooks stay on ``network``.
    """
    own: Counter[str] = Counter()
    open_calls: list[tuple[int, int]] = []  # the total at the start of the call, and what is charged to modules inside it

    def enter(_: nn.Module, __: Any) -> None:  # noqa: ANN401 - torch's
        open_calls.append((total(), 0))

    def leave(name: str) -> None:
        before, inside = open_calls.pop()
        spent = total() - before
        own[name] += spent - inside
        if open_calls:
            outer, charged_there = open_calls.pop()
            open_calls.append((outer, charged_there + spent))

    for name, module in network.named_modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(lambda *_, name=name: leave(name), always_call=True)
    return own


def annotated(network: nn.Module, attribute: str) -> Counter[str]:
    """Return the count that a tool keeps in an ``attribute`` of each module, by its first name; filled by a forward pass.

    The hook that reads it is added when the tool calls ``network``, so that the tool's own hooks run before.
    """
    own: Counter[str] = Counter()

    def read(*_: Any) -> None:  # noqa: ANN401 - torch's
        own.update({name: int(getattr(module, attribute, 0)) for name, module in network.named_modules()})

    network.register_forward_pre_hook(lambda *_: network.register_forward_hook(read) and None)
    return own


def without_below(total: Mapping[str, int], names: Iterable[str]) -> Counter[str]:
    """Return each module's ``total`` without those of the modules directly below it."""
    own = Counter({name: total.get(name, 0) for name in names})
    for name in list(own):
        if name:
            own[name.rpartition(".")[0]] -= total.get(name, 0)
    return own
