"""The functions of torch that a network looks up by their names, which a tool counts that has replaced them.

A function that was imported by its name, or kept as an attribute when the network was made, is held by reference: replacing
it in torch has no effect on these calls. torch's own functions look up others by name too, so one call can be noted twice:
``upsample`` calls ``interpolate``.
"""

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mpvit.trace import PATCHABLE, PatchedCall
from mpvit.trace.arguments import by_name, in_order, shapes_in
from mpvit.trace.call_log import CallLog
from mpvit.trace.dispatched_operators import OperatorMode

_NAMESPACES: dict[str, Any] = {"functional": functional, "torch": torch, "method": Tensor}

ORIGINAL = "_mpvit_original"
"""The attribute in which a replacement keeps the original function."""

REPLACEMENT = "noting"
"""Name of the code of a replacement."""


class FunctionPatches:
    """Replacements of the patchable functions that note each call by name.

    Only calls of the network itself are noted: in the forward pass of a module, outside of running operators.
    """

    def __init__(self, log: CallLog, operators: OperatorMode) -> None:
        """Take the log of a forward pass and the mode under which it runs."""
        self._log, self._operators = log, operators
        self._noted: list[PatchedCall | None] = []
        self._depth = 0

    @property
    def calls(self) -> tuple[PatchedCall, ...]:
        """The calls so far, in order."""
        return tuple(each for each in self._noted if each)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the functions in the block."""
        with contextlib.ExitStack() as stack:
            for namespace, names in PATCHABLE.items():
                home = _NAMESPACES[namespace]
                for name in names:
                    own = vars(home).get(name)
                    undo = functools.partial(setattr, home, name, own)
                    stack.callback(undo if own is not None else functools.partial(delattr, home, name))
                    setattr(home, name, self._noting(namespace, name, getattr(home, name)))
            yield

    def _noting(self, namespace: str, name: str, original: Any) -> Callable[..., Any]:  # noqa: ANN401
        def noting(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            running = self._log.stack.innermost
            by_a_mode = sys._getframe(1).f_code.co_name == "__torch_function__"  # noqa: SLF001 - that of a device
            if running is None or self._operators.running or by_a_mode:
                return original(*args, **kwargs)
            first, index = len(self._log.calls), len(self._noted)
            self._noted.append(None)
            self._depth += 1
            try:
                out = original(*args, **kwargs)
            finally:
                self._depth -= 1
            self._noted[index] = PatchedCall(
                namespace,
                name,
                running.name,
                operands=shapes_in(in_order(original, args, kwargs)),
                output=next(iter(shapes_in(out)), ()),
                call=first,
                **_settings(name, original, args, kwargs),
            )
            if not self._depth and len(self._log.calls) == first:  # nothing was computed
                self._noted[index:] = [each._replace(call=None) for each in self._noted[index:] if each]
            return out

        with contextlib.suppress(AttributeError):  # a builtin lacks some attributes
            functools.update_wrapper(noting, original)
        setattr(noting, ORIGINAL, original)
        return noting


def _settings(name: str, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return the other arguments of a call by which tools count."""
    given = by_name(function, args, kwargs)
    if name in ("interpolate", "upsample") and given.get("size") is None:
        return {"scale_factor": given.get("scale_factor")}
    if name.startswith("conv") and given.get("padding") == "same":
        dilation, windows = given.get("dilation", 1), given["weight"].shape[2:]
        steps = [dilation] if isinstance(dilation, int) else dilation
        return {"padding": tuple(step * (window - 1) for step, window in zip(itertools.cycle(steps), windows, strict=False))}
    return {"beta": kwargs["beta"]} if "beta" in kwargs else {}
