"""A stage: paths in parallel, each at its own patch scale, a local branch, and their fusion (Lee et al., figure 3)."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from mpvit.config import StageConfig
from mpvit.model.layers import (
    ConvNormAct,
    ConvPositionEncoding,
    ConvRelativePositionEncoding,
    PatchEmbedding,
    TransformerLayer,
)


class Path(nn.Module):
    """One path: its patch embedding, and the transformer layers that share its two position encodings."""

    def __init__(self, stage: StageConfig, *, stride: int, drop_path: Sequence[float], trained_grid: tuple[int, int]) -> None:
        """Take one layer's drop rate from ``drop_path`` each; ``stride`` is the embedding's."""
        super().__init__()
        self.embedding = PatchEmbedding(stage.dim, stride)
        self.cpe = ConvPositionEncoding(stage.dim)
        self.crpe = ConvRelativePositionEncoding(stage.head_dim, stage.head_windows()) if stage.crpe_windows else None
        self.layers = nn.ModuleList(TransformerLayer(stage, rate, trained_grid) for rate in drop_path)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (b, c, h, w) -> the embedded map and that map behind the layers, both (b, c, h/stride, w/stride)."""
        embedded = self.embedding(x)
        height, width = embedded.shape[2:]
        tokens = rearrange(embedded, "b c h w -> b (h w) c")
        for layer in self.layers:
            tokens = layer(tokens, (height, width), self.cpe, self.crpe)
        return embedded, rearrange(tokens, "b (h w) c -> b c h w", h=height, w=width)


class LocalBranch(nn.Module):
    """Depthwise residual bottleneck of the first path's embedding: what convolutions see and tokens do not."""

    def __init__(self, dim: int) -> None:
        """Keep ``dim`` channels throughout."""
        super().__init__()
        self.expand = ConvNormAct(dim, dim, 1)
        self.depthwise = ConvNormAct(dim, dim, 3, groups=dim)
        self.contract = ConvNormAct(dim, dim, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, c, h, w)."""
        return x + self.contract(self.depthwise(self.expand(x)))


class Stage(nn.Module):
    """Multi-scale patch embedding *in series*, paths in parallel, local branch, global-to-local interaction."""

    def __init__(
        self, stage: StageConfig, out: int, *, stride: int, drop_path: Sequence[float], trained_grid: tuple[int, int]
    ) -> None:
        """Hand on ``out`` channels; only the first embedding has ``stride``."""
        super().__init__()
        self.paths = nn.ModuleList(
            Path(stage, stride=stride if i == 0 else 1, drop_path=drop_path, trained_grid=trained_grid)
            for i in range(stage.paths)
        )
        self.local = LocalBranch(stage.dim)
        self.fusion = ConvNormAct((stage.paths + 1) * stage.dim, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, out, h/stride, w/stride)."""
        scales, encoded = [], []
        for path in self.paths:
            x, tokens = path(x)  # the next path embeds what this one has embedded: its window is wider
            scales.append(x)
            encoded.append(tokens)
        return self.fusion(torch.cat([self.local(scales[0]), *encoded], dim=1))
