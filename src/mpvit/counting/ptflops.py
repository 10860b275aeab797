"""ptflops, with its two backends: ``pytorch`` (hooks and patched functions) and ``aten`` (dispatched operators).

It takes one tensor, or several by the names that the forward pass has for them.
"""

import contextlib
import inspect
import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpvit.counting.isolation import isolated, throwaway
from mpvit.counting.results import Counted


def run_pytorch(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module by the backend ``pytorch``, on the CPU."""
    return _run(model, inputs, "pytorch")


def run_aten(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module by the backend ``aten``, on the CPU."""
    return _run(model, inputs, "aten")


def _run(model: nn.Module, inputs: Sequence[Tensor], backend: str) -> Counted:
    with isolated(f"ptflops-{backend}"), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()) as printed:
        from ptflops import get_model_complexity_info

        network, tensors = throwaway(model, inputs, "cpu")
        named = dict(zip(inspect.signature(network.forward).parameters, tensors, strict=False))
        given = tensors[0] if len(tensors) == 1 else named
        macs, params = get_model_complexity_info(
            network,
            tuple(tensors[0].shape[1:]) or (1,),
            print_per_layer_stat=False,
            as_strings=False,
            input_constructor=lambda _: given,
            backend=backend,
        )
        if macs is None:
            reason = printed.getvalue().partition("exception: \n")[2].partition("\n")[0]
            raise RuntimeError(reason or "it could not run the network")
        return Counted(macs, params)
