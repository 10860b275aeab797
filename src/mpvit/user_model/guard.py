"""Running a user's own code: what it prints goes to stderr, and whatever it raises ends as one line."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mpvit.errors import MpvitError, first_line
from mpvit.units import times

if TYPE_CHECKING:
    from torch import nn


@contextlib.contextmanager
def guarded(what: str, hint: str = "") -> Iterator[None]:
    """Run the user's code in the block; ``what`` begins the line that says how it failed, and in which layer.

    Raises ``MpvitError`` for whatever it raises, ``SystemExit`` and exceptions of its own included. Ctrl-C interrupts.
    """
    with contextlib.redirect_stdout(sys.stderr), importable(Path.cwd()):
        try:
            yield
        except (KeyboardInterrupt, MpvitError):
            raise
        except BaseException as error:
            raise MpvitError(f"{what}{_place(error.__traceback__)}: {reason(error)}", hint=hint) from error


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules of ``folder`` be imported first."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have taken it away
            sys.path.remove(str(folder))


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Run what is compiled in the block as it was before: nobody could see into it."""
    if "torch._dynamo" not in sys.modules:  # whoever compiles has imported it; it takes seconds
        yield
        return
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield


def reason(error: BaseException) -> str:
    """Return the class and the first line of what an exception says."""
    first, name = first_line(error), type(error).__name__
    if found := re.search(r"HigherOrderOperator (\w+)", first):
        return f"it calls {found[1]}, which takes a function, and no counter can see into that"
    return name if first == name else f"{name}: {first}"


def _place(trace: TracebackType | None) -> str:
    """Return the innermost layer in whose forward an exception was raised, and its input's shapes; empty for the network.

    torch calls every module in a frame of ``Module._call_impl``, which holds the module and its arguments.
    """
    if "torch" not in sys.modules:
        return ""
    from torch import Tensor, nn
    from torch.utils._pytree import tree_leaves

    frames = []
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "_call_impl" and isinstance(frame.f_locals.get("self"), nn.Module):
            frames.append(frame)
        trace = trace.tb_next
    if not frames:
        return ""
    network, layer = frames[0].f_locals["self"], frames[-1].f_locals["self"]
    given = tree_leaves((frames[-1].f_locals.get("args"), frames[-1].f_locals.get("kwargs")))
    shapes = ", ".join(times(tuple(each.shape)) for each in given if isinstance(each, Tensor))
    return "" if layer is network else f" in layer {_name(network, layer)!r} ({type(layer).__name__} on {shapes})"


def _name(network: "nn.Module", layer: "nn.Module") -> str:
    return next((name for name, module in network.named_modules() if module is layer), "?")
