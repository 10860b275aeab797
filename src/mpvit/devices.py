"""Moving networks between devices, the meta device included, without untying what shares a tensor."""

import torch
from torch import Tensor, nn


def put(network: nn.Module, device: str) -> nn.Module:
    """Move a network in place and return it; tensors from ``meta``, where there are no values, become zeros.

    ``nn.Module.to`` gives each module that shares a parameter one of its own where the kind of device changes.
    """
    moved: dict[int, Tensor] = {}
    for module in network.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if id(tensor) not in moved:
                values = torch.zeros_like(tensor, device=device) if tensor.is_meta else tensor.detach().to(device)
                learned = isinstance(tensor, nn.Parameter)
                moved[id(tensor)] = nn.Parameter(values, requires_grad=tensor.requires_grad) if learned else values
            setattr(module, name, moved[id(tensor)])
    return network
