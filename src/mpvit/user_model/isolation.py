"""Running code of others on copies of a network, so that it leaves no trace: no output, torch and random state as before."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpvit.errors import MpvitError, first_line
from mpvit.measurement.machine import shortage
from mpvit.user_model.devices import moved_tensors
from mpvit.user_model.guard import eagerly, reason


def copies(model: nn.Module, inputs: Sequence[Tensor], device: str) -> tuple[nn.Module, list[Tensor]]:
    """Return copies of a network and its inputs on ``device``, in evaluation mode; tensors without values (meta) become zeros.

    Raises ``MemoryError`` if there is no room for the copy.
    """
    if device != "meta" and (short := shortage(sum(each.nbytes for each in model.parameters() if not each.is_meta))):
        raise MemoryError(short)
    kept = [each for module in model.modules() for each in vars(module).values() if isinstance(each, Tensor)]
    computed = {id(each): each.detach().clone() for each in kept if not each.is_leaf}  # as the old weight_norm keeps one
    network = copy.deepcopy(model, computed | moved_tensors(model, device)).eval()
    return network, [
        torch.zeros_like(each, device=device) if each.is_meta or device == "meta" else each.detach().to(device, copy=True)
        for each in inputs
    ]


@contextlib.contextmanager
def _unpatched() -> Iterator[None]:
    """Put back the functions of torch that a tool has replaced and left, as some do if the network raises."""
    homes = (functional, torch, Tensor)
    before = [dict(vars(home)) for home in homes]
    try:
        yield
    finally:
        for home, names in zip(homes, before, strict=True):
            now = dict(vars(home))
            for name, value in now.items() if now != names else ():
                if name not in names:
                    delattr(home, name)
                elif names[name] is not value:
                    setattr(home, name, names[name])


@contextlib.contextmanager
def isolated(tool: str) -> Iterator[None]:
    """Silence the code in the block; raise ``MpvitError`` naming ``tool`` for whatever it raises but an interrupt."""
    logging_disabled = logging.root.manager.disable
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        torch.random.fork_rng(devices=[]),
        _unpatched(),
        eagerly(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        torch.backends.mha.set_fastpath_enabled(False)  # one opaque call, in which no tool could see what is multiplied
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            said = first_line(error) if isinstance(error, Exception) else reason(error)
            hint = "the analytic counter needs no memory and no other tool"
            raise MpvitError(f"{tool} failed: {said}", hint=hint) from error
        finally:
            logging.disable(logging_disabled)
            torch.backends.mha.set_fastpath_enabled(fast_path)
