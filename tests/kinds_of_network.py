"""One network of each kind that people bring, as they bring it. Its products are 2x4 by 4x4 unless it says more."""

import dataclasses
import sys
import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class OwnError(BaseException):
    """Not an ``Exception``."""


class Plain(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, x: Tensor) -> object:
        return self.layer(x)


class DropPath(Plain):
    """Its factory computes with numbers, those of a parameter included."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 4)]
        nn.init.orthogonal_(self.layer.weight)


class ReadsItsWeights(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = self.layer.weight.norm().item()


class Talking(Plain):
    def __init__(self) -> None:
        super().__init__()
        print("from the factory")  # noqa: T201 - as people do

    def forward(self, x: Tensor) -> Tensor:
        print("from the forward")  # noqa: T201 - likewise
        return self.layer(x)


class DataDependent(Plain):
    """Runs where there are numbers alone; attention of 2 heads of 1 token and 4 channels has 2x4 MACs a product."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum().item() >= 0:
            x = self.layer(x)
        tokens = x.view(2, 1, 1, 4)
        return functional.scaled_dot_product_attention(tokens, tokens, tokens)


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.LazyLinear(4), nn.LazyBatchNorm1d()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x))


class OldWeightNorm(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.utils.weight_norm(self.layer)


@dataclasses.dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class ReturnsOutput(Plain):
    def forward(self, x: Tensor) -> Output:
        return Output(self.layer(x))


class Named(nn.Module):
    """Takes one argument by its name alone, and one that it can do without before it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(10, 4), nn.Linear(4, 4)

    def forward(self, tokens: Tensor | None = None, *, pixels: Tensor, scale: float = 1.0) -> Tensor:
        found = scale * self.layer(pixels)
        return found if tokens is None else found + self.words(tokens)


class Flex(Plain):
    def forward(self, x: Tensor) -> object:
        from torch.nn.attention.flex_attention import flex_attention

        tokens = self.layer(x).view(2, 1, 1, 4)
        return flex_attention(tokens, tokens, tokens)


class Raising(nn.Module):
    def forward(self, _: Tensor) -> Tensor:
        raise OwnError("mine")


class Leaving(nn.Module):
    def forward(self, _: Tensor) -> Tensor:
        sys.exit(3)


class Inner(nn.Module):
    """Fails in a layer of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(4, 5), nn.Linear(4, 5)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class HoldsALock(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def exits() -> nn.Module:
    sys.exit(3)


def raises() -> nn.Module:
    raise OwnError("mine")


def scripted() -> object:
    return torch.jit.script(nn.Linear(4, 4))


def holds_traced() -> object:
    return nn.Sequential(torch.jit.trace(nn.Linear(4, 4), torch.zeros(1, 4)))


def compiled() -> object:
    return torch.compile(Plain())


def holds_compiled() -> object:
    layer: Any = torch.compile(nn.Linear(4, 4))
    return nn.Sequential(layer)


def compiled_in_place() -> nn.Module:
    network = Plain()
    network.compile()
    return network


def quantized() -> object:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear}, torch.qint8)
