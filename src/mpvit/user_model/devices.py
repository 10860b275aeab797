"""Moving networks between devices, the meta device included, with tensors that stay shared where they are shared."""

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def put(network: nn.Module, device: str) -> nn.Module:
    """Move a network in place and return it; tensors from ``meta``, which have no values, become zeros.

    ``nn.Module.to`` gives each module that shares a parameter one of its own if the kind of device changes.
    """
    moved = moved_tensors(network, device)
    for module in network.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if id(tensor) in moved:
                setattr(module, name, moved[id(tensor)])
    return network


def moved_tensors(network: nn.Module, device: str) -> dict[int, Tensor]:
    """Return copies of the parameters and buffers of a network on ``device``, by the identity of the original.

    Tensors from ``meta`` become zeros. A lazy parameter, which has no shape yet, is left out.
    """
    moved: dict[int, Tensor] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        if not is_lazy(tensor):
            values = zeros_like(tensor, device) if tensor.is_meta else tensor.detach().to(device, copy=True)
            learned = isinstance(tensor, nn.Parameter)
            moved[id(tensor)] = nn.Parameter(values, requires_grad=tensor.requires_grad) if learned else values
    return moved


def zeros_like(tensor: Tensor, device: str) -> Tensor:
    """Return zeros of a tensor's shape, strides and dtype; on the CPU they take memory only when they are written to.

    So a network that is too large for the machine can run if nothing but its weights is read.
    """
    if device != "cpu" or not tensor.is_contiguous() or not tensor.numel():
        return torch.zeros_like(tensor, device=device)
    import numpy as np

    pages = np.zeros(tensor.numel() * tensor.element_size(), np.uint8)  # calloc: all pages are the system's page of zeros
    return torch.from_numpy(pages).view(tensor.dtype).view(tensor.shape)
