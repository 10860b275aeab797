"""Running a user's own code: it prints to stderr, and whatever it raises becomes an error of one line."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

from mpvit.errors import MpvitError, first_line
from mpvit.units import times


@contextlib.contextmanager
def guarded(what: str, hint: str = "") -> Iterator[None]:
    """Run the user's code in the block; ``what`` is the beginning of the error, which names the layer that failed.

    Raises ``MpvitError`` for whatever it raises but an interrupt, ``SystemExit`` and exceptions of its own included.
    """
    with contextlib.redirect_stdout(sys.stderr), importable(Path.cwd()):
        try:
            yield
        except (KeyboardInterrupt, MpvitError):
            raise
        except BaseException as error:
            raise MpvitError(f"{what}{_layer(error.__traceback__)}: {reason(error)}", hint=hint) from error


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Make modules of ``folder`` the first that an import in the block finds."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have removed it
            sys.path.remove(str(folder))


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Run compiled code in the block as it was before: no hook or mode works inside it."""
    if "torch._dynamo" not in sys.modules:  # code that compiles has imported it; that takes seconds
        yield
        return
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield


def reason(error: BaseException) -> str:
    """Return the class and the first line of an exception."""
    line, name = first_line(error), type(error).__name__
    if found := re.search(r"HigherOrderOperator (\w+)", line):
        return f"it calls {found[1]}, which takes a function: no counter can look into that"
    return name if line == name else f"{name}: {line}"


def _layer(trace: TracebackType | None) -> str:
    """Return the innermost layer in whose forward an exception was raised, with the shapes of its inputs.

    Empty if it was raised outside of all layers. torch calls each module in a frame of ``Module._call_impl``, which holds
    the module and its arguments.
    """
    if "torch" not in sys.modules:
        return ""
    from torch import Tensor, nn
    from torch.utils._pytree import tree_leaves

    called = [frame.f_locals for frame, _ in walk_tb(trace) if frame.f_code.co_name == "_call_impl"]
    called = [names for names in called if isinstance(names.get("self"), nn.Module)]
    if not called or called[0]["self"] is called[-1]["self"]:
        return ""
    network, layer = called[0]["self"], called[-1]["self"]
    name = next((name for name, module in network.named_modules() if module is layer), "?")
    given = tree_leaves((called[-1].get("args"), called[-1].get("kwargs")))
    shapes = ", ".join(times(tuple(each.shape)) for each in given if isinstance(each, Tensor))
    return f" in layer {name!r} ({type(layer).__name__} on {shapes})"
