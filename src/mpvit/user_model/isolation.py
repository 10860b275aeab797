"""Running code of others on copies of a network, so that it leaves no trace: no output, torch and random state as before."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpvit.errors import MpvitError, first_line
from mpvit.measurement.machine import shortage
from mpvit.user_model.devices import put
from mpvit.user_model.guard import eagerly, reason


def copies(model: nn.Module, inputs: Sequence[Tensor], device: str) -> tuple[nn.Module, list[Tensor]]:
    """Return copies of a network and its inputs on ``device``, in evaluation mode; tensors without values (meta) become zeros.

    Raises ``MemoryError`` if there is no room for the copy.
    """
    if device != "meta" and (short := shortage(sum(each.nbytes for each in model.parameters() if not each.is_meta))):
        raise MemoryError(short)
    network = put(copy.deepcopy(model, _computed(model)).eval(), device)
    return network, [_moved(each, device) for each in inputs]


def _computed(model: nn.Module) -> dict[int, Any]:
    """Return copies of the computed tensors that modules keep, by identity, for the memo of ``copy.deepcopy``.

    torch refuses to copy them itself; the old ``weight_norm`` keeps its last weight.
    """
    kept = [each for module in model.modules() for each in vars(module).values() if isinstance(each, Tensor)]
    return {id(each): each.detach().clone() for each in kept if not each.is_leaf}


def _moved(tensor: Tensor, device: str) -> Tensor:
    if tensor.is_meta or device == "meta":
        return torch.zeros_like(tensor, device=device)
    return tensor.detach().to(device, copy=True)


@contextlib.contextmanager
def _unpatched() -> Iterator[None]:
    """Put back the functions of torch that a tool has replaced and left, as some do if the network raises."""
    homes = (functional, torch, Tensor)
    before = [dict(vars(home)) for home in homes]
    try:
        yield
    finally:
        for home, names in zip(homes, before, strict=True):
            for name, value in dict(vars(home)).items():
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
