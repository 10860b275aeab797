"""How small modules are written: an expression over what it learns, and the few that need a class of their own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

Made = tuple[Callable[[], nn.Module], str]
"""How a module is made, and its inputs as ``--input`` takes them, blanks between."""


class Written(nn.Module):
    """One expression of the module itself and its inputs; what it holds is given by name, a shape for a parameter."""

    def __init__(self, expression: Callable[..., Tensor], **held: nn.Module | Callable[..., Tensor] | tuple[int, ...]) -> None:
        super().__init__()
        self.expression = expression
        for name, given in held.items():
            setattr(self, name, nn.Parameter(torch.randn(given)) if isinstance(given, tuple) else given)

    def forward(self, x: Tensor, y: Tensor | None = None, z: Tensor | None = None) -> Tensor:  # tools go by these names
        return self.expression(self, *(given for given in (x, y, z) if given is not None))


class First(nn.Module):
    """A module of which the first result is taken; its inputs, repeated up to ``times``, go in by position."""

    def __init__(self, layer: nn.Module, times: int = 1, **keywords: Any) -> None:  # noqa: ANN401 - the layer's own
        super().__init__()
        self.layer, self.times, self.keywords = layer, times, keywords

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(*[x] * self.times, **self.keywords)[0]


class Packed(nn.Module):
    """A recurrent layer over sequences of 5 and 3 steps: (2, 5, 4) -> (2, 5, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
        return pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]


class Cells(nn.Module):
    """A cell, called once a step: (b, steps, 4) -> (b, 6)."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0] if isinstance(state, tuple) else state  # type: ignore[return-value]  # there is a step


class Gelu(nn.Module):
    """An activation held by reference since before any tool comes, as ``transformers`` does."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(4, 4), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.linear(x))


class Twice(nn.Module):
    """Two layers of one weight, and one layer under two names: (b, 4) -> (b, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.LayerNorm(4)
        self.second.weight = self.first.weight
        self.again = nn.ModuleDict({"norm": self.norm, "others": nn.ModuleList([self.first])})

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.second(self.norm(self.first(x))))


class Nested(nn.Module):
    """Containers of containers, some never called: (b, 4) -> (b, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"main": nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "other": nn.Linear(4, 2)}) for _ in range(2)
        )
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(4)) for _ in range(2))
        self.shifts = nn.ParameterDict({"a": nn.Parameter(torch.ones(4))})

    def forward(self, x: Tensor) -> Tensor:
        for layer, scale in zip(self.layers, self.scales, strict=True):
            x = layer["main"](x) * scale  # type: ignore[index]  # a ModuleDict
        return x + self.shifts["a"]


class Checkpointed(nn.Module):
    """A block that is run again in the backward pass: (b, 4) -> (b, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, use_reentrant=False)


class Squared(torch.autograd.Function):
    """A product with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight)


def squared(x: Tensor, weight: Tensor) -> Tensor:
    """Call it."""
    return Squared.apply(x, weight)  # type: ignore[no-untyped-call]  # torch's


class Multiplied(torch.autograd.Function):
    """Two products, between which torch's tracer sees nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        ctx.save_for_backward(x, weight)
        return torch.matmul(torch.matmul(x, weight), weight)


twice: Callable[[Tensor, Tensor], Tensor] = Multiplied.apply
"""As people keep it."""


class FrozenBatchNorm(nn.Module):
    """A batch norm whose numbers are buffers, written out: (b, c, h, w) -> the same."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "mean", "variance"):
            self.register_buffer(name, torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.variance + 1e-5).rsqrt()
        shift = self.bias - self.mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class ByKeyword(nn.Module):
    """Layers that are called with keyword arguments: (b, 4) -> (b, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.conv = nn.Linear(4, 6), nn.LayerNorm(6), nn.Conv1d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(input=self.norm(input=self.linear(input=x)).unsqueeze(1))


class Symmetric(nn.Module):
    """A square matrix of its upper half."""

    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


def parametrized() -> nn.Module:
    """Return a linear layer whose weight is computed from its upper half."""
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer
