"""Small networks that are not MPViT, each with something that a counter gets wrong."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class PlainVit(nn.Module):
    """Patches, layers with ``nn.MultiheadAttention``, a head: (b, 3, 32, 32) -> (b, 10)."""

    def __init__(self, dim: int = 24, depth: int = 2, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 8, 8)
        self.position = nn.Parameter(torch.zeros(1, 16, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 * depth))
        self.attentions = nn.ModuleList(nn.MultiheadAttention(dim, heads, batch_first=True) for _ in range(depth))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) for _ in range(depth)
        )
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for i, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            y = self.norms[2 * i](x)
            x = x + attention(y, y, y, need_weights=i % 2 == 1)[0]  # without weights torch takes its fused kernel
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(x.mean(1))


class GroupedResNet(nn.Module):
    """Residual blocks with grouped convolutions, a transposed convolution and pools: (b, 3, 32, 32) -> (b, 10)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, groups=4),
                nn.GroupNorm(4, width),
            )
            for _ in range(2)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(width, width // 2, 2, 2, groups=2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width // 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = functional.relu(x + block(x))
        return self.head(self.average(self.up(self.pool(x))).flatten(1))


class SharedModule(nn.Module):
    """Two branches that register and call one convolution and one linear layer, the latter twice: (b, 4, 9, 7) -> (b, 5)."""

    class Branch(nn.Module):
        def __init__(self, conv: nn.Module, head: nn.Module) -> None:
            super().__init__()
            self.conv, self.head = conv, head
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.head(self.norm(self.conv(x)).mean((2, 3))))

    def __init__(self) -> None:
        super().__init__()
        conv, head = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Linear(4, 4)
        self.first, self.second = self.Branch(conv, head), self.Branch(conv, head)
        self.conv = conv
        self.out = nn.Linear(4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(x) + self.second(self.conv(x)))


class UnusedModule(nn.Module):
    """A layer that is never called, a parameter of the model's own, and two layers with one weight: (b, 6) -> (b, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.tied, self.unused = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 100)
        self.tied.weight = self.used.weight
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(functional.gelu(self.used(x))) * self.scale


class Functions(nn.Module):
    """Everything without a module: einsum, @, fused attention, F.linear and F.conv2d with free weights: (b, 8, 6, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 8))
        self.kernel = nn.Parameter(torch.zeros(8, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x, self.kernel, padding=1, groups=4)
        tokens = functional.linear(x.flatten(2).transpose(1, 2), self.weight)  # (b, n, c)
        query = tokens.unflatten(2, (2, 4)).transpose(1, 2)  # (b, heads, n, d)
        attended = functional.scaled_dot_product_attention(query, query, query)
        scores = torch.einsum("bhnd,bhmd->bhnm", query, attended).softmax(-1) @ query
        outer = torch.einsum("bhn,bhm->bhnm", scores[..., 0], scores[..., 1])
        return torch.bmm(outer.flatten(0, 1), scores.flatten(0, 1)) @ self.weight[:4]


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain_vit": (PlainVit, (2, 3, 32, 32)),
    "grouped_resnet": (GroupedResNet, (1, 3, 32, 32)),
    "shared_module": (SharedModule, (2, 4, 9, 7)),
    "unused_module": (UnusedModule, (3, 6)),
    "functions": (Functions, (2, 8, 6, 6)),
}
"""Each network's class and its input shape."""
