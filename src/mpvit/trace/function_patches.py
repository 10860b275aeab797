"""Which functions of torch a network looks up by their names: what a tool sees that has put its own in their place.

A function that was imported by its name, or kept as an attribute when the network was made, is held by reference: no tool
that patches torch afterwards meets it. Inside torch functions are looked up by name too, so one call can be seen twice:
``upsample`` calls ``interpolate``.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from mpvit.trace import PATCHABLE, PatchedCall
from mpvit.trace.arguments import argument, in_order, shapes_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_NAMESPACES: dict[str, Any] = {"functional": functional, "torch": torch, "method": Tensor}

ORIGINAL = "_mpvit_original"
"""The attribute under which a function that was put in another's place keeps it."""


class FunctionPatches:
    """Notes each call of a patchable function by its name, while ``in_place``.

    ``place`` says in which module the network is, or None where a call is none of its own; ``calls`` how many calls are
    recorded by now.
    """

    def __init__(self, place: Callable[[], str | None], calls: Callable[[], int]) -> None:
        """Start with nothing seen."""
        self.place, self.calls = place, calls
        self.seen: list[PatchedCall | None] = []
        self.depth = 0

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put a function that notes its call in the place of each patchable one."""
        with contextlib.ExitStack() as stack:
            for namespace, names in PATCHABLE.items():
                for name in names:
                    own = vars(_NAMESPACES[namespace]).get(name)
                    original = getattr(_NAMESPACES[namespace], name)
                    undo = functools.partial(setattr, _NAMESPACES[namespace], name, own)
                    stack.callback(undo if own is not None else functools.partial(delattr, _NAMESPACES[namespace], name))
                    setattr(_NAMESPACES[namespace], name, self._noting(namespace, name, original))
            yield

    def patched_calls(self) -> tuple[PatchedCall, ...]:
        """Return all that was seen, in order."""
        return tuple(each for each in self.seen if each)

    def _noting(self, namespace: str, name: str, original: Any) -> Any:  # noqa: ANN401
        def noting(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            module = self.place()
            handed_on = sys._getframe(1).f_code.co_name == "__torch_function__"  # noqa: SLF001 - by a mode, that of a device
            if module is None or handed_on:
                return original(*args, **kwargs)
            first, index = self.calls(), len(self.seen)
            self.seen.append(None)
            self.depth += 1
            try:
                out = original(*args, **kwargs)
            finally:
                self.depth -= 1
            self.seen[index] = PatchedCall(
                namespace,
                name,
                module,
                operands=shapes_in(in_order(original, args, kwargs)),
                output=next(iter(shapes_in(out)), ()),
                call=first,
                **_settings(name, original, args, kwargs),
            )
            if not self.depth and self.calls() == first:  # nothing was computed
                self.seen[index:] = [each._replace(call=None) for each in self.seen[index:] if each]
            return out

        with contextlib.suppress(AttributeError):  # a builtin lacks some of them
            functools.update_wrapper(noting, original)
        setattr(noting, ORIGINAL, original)
        return noting


def _settings(name: str, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return what else of a call tools go by."""
    at = functools.partial(argument, function, args, kwargs)
    if name in ("interpolate", "upsample") and at(_SIZE) is None:
        return {"scale_factor": at(_SCALE_FACTOR)}
    if name.startswith("conv") and at(_PADDING) == "same":
        dilation, windows = at(_DILATION) or 1, at(_WEIGHT).shape[2:]
        steps = [dilation] if isinstance(dilation, int) else dilation
        return {"padding": tuple(step * (window - 1) for step, window in zip(itertools.cycle(steps), windows, strict=False))}
    return {"beta": kwargs["beta"]} if "beta" in kwargs else {}


_SIZE, _SCALE_FACTOR = 1, 2
"""The places of these parameters of interpolate and upsample."""

_WEIGHT, _PADDING, _DILATION = 1, 4, 5
"""The places of these parameters of convolutions that are not transposed, the ones with a padding "same"."""
