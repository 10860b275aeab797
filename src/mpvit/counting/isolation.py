"""Running a third-party counter so that it leaves no trace: a fresh network, no output, the random state as it was."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch

from mpvit.config import ModelConfig
from mpvit.errors import MpvitError
from mpvit.model.network import MPViT


def fresh_model(config: ModelConfig, device: str) -> MPViT:
    """Return a network in evaluation mode whose weights are zeros (or, on ``meta``, nothing); no random number is drawn."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = MPViT(config).eval()
    if device != "meta":
        model.to_empty(device=device)
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.detach().zero_()
    return model


@contextlib.contextmanager
def isolated(tool: str) -> Iterator[None]:
    """Silence ``tool`` and turn what it raises into ``MpvitError``; an interrupt passes."""
    logging_disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        torch.random.fork_rng(devices=[]),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            hint = "the analytic counter needs no memory and no other tool"
            raise MpvitError(f"{tool} failed: {reason}", hint=hint) from error
        finally:
            logging.disable(logging_disabled)
