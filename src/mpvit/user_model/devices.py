"""Moving networks between devices, the meta device included, without untying what shares a tensor."""

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def put(network: nn.Module, device: str) -> nn.Module:
    """Move a network in place and return it; tensors from ``meta``, where there are no values, become zeros.

    ``nn.Module.to`` gives each module that shares a parameter one of its own where the kind of device changes. A lazy
    parameter, which has no shape yet, stays where it is.
    """
    moved: dict[int, Tensor] = {}
    for module in network.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if is_lazy(tensor):
                continue
            if id(tensor) not in moved:
                values = zeros_like(tensor, device) if tensor.is_meta else tensor.detach().to(device)
                learned = isinstance(tensor, nn.Parameter)
                moved[id(tensor)] = nn.Parameter(values, requires_grad=tensor.requires_grad) if learned else values
            setattr(module, name, moved[id(tensor)])
    return network


def zeros_like(tensor: Tensor, device: str) -> Tensor:
    """Return zeros of a tensor's shape, strides and dtype; on the CPU memory is only taken where they are written to.

    A network too large for the machine can so be run by who only reads its weights.
    """
    if device != "cpu" or not tensor.is_contiguous() or not tensor.numel():
        return torch.zeros_like(tensor, device=device)
    import numpy as np

    pages = np.zeros(tensor.numel() * tensor.element_size(), np.uint8)  # calloc: pages of the system's one page of zeros
    return torch.from_numpy(pages).view(tensor.dtype).view(tensor.shape)
