"""A network out of Python: the program that ``torch.export`` makes of it, for any batch and picture."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils._sympy.value_ranges import ValueRanges

DYNAMIC = ("batch", "size")
"""What of the input a program may leave open: its batch; its height and width."""


def as_program(network: nn.Module, images: Tensor, dynamic: tuple[str, ...] = DYNAMIC) -> ExportedProgram:
    """Return ``network``, plain or fused, as a program that maps what it maps; ``images``, (b, c, h, w), are an example.

    What ``dynamic`` names may be any number from 1 on; the rest is as in ``images``. The network should be in evaluation
    mode. An example that leaves something open has at least 2 images and no stage's map of 1 pixel.
    """
    open_axes = {"batch": (0,), "size": (2, 3)}
    axes = {axis: Dim.DYNAMIC for name in dynamic for axis in open_axes[name]}
    with torch.no_grad():
        program = torch.export.export(network, (images,), dynamic_shapes=(axes,))
    # torch sets an axis of 1 apart and would refuse it afterwards, since its strides say nothing. No operation here asks.
    program._guards_code.clear()  # noqa: SLF001 - there is no other way
    for size, allowed in program.range_constraints.items():
        program.range_constraints[size] = ValueRanges(1, allowed.upper)
    return program
