"""A stage: paths in parallel, each at its own patch scale, a local branch, and their fusion (Lee et al., figure 3)."""

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from einops import rearrange
from torch import Tensor, nn

from mpvit.architecture.config import StageConfig
from mpvit.model.layers import ConvNormAct, ConvPositionEncoding, ConvRelativePositionEncoding, PatchEmbedding, TransformerLayer


class Path(nn.Module):
    """One path: its patch embedding and layers that share two position encodings; ``drop_path`` has each layer's rate."""

    def __init__(
        self, stage: StageConfig, embedding: PatchEmbedding, drop_path: Sequence[float], trained_grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.cpe = ConvPositionEncoding(stage.dim) if stage.cpe else None
        self.crpe = ConvRelativePositionEncoding(stage.head_dim, stage.head_windows()) if stage.crpe_windows else None
        self.layers = nn.ModuleList(TransformerLayer(stage, rate, trained_grid) for rate in drop_path)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (b, c, h, w) -> the embedded map and the output of the layers, both (b, c, h/stride, w/stride)."""
        embedded = self.embedding(x)
        height, width = embedded.shape[2:]
        tokens = rearrange(embedded, "b c h w -> b (h w) c")
        for layer in self.layers:
            tokens = layer(tokens, (height, width), self.cpe, self.crpe)
        return embedded, rearrange(tokens, "b (h w) c -> b c h w", h=height, w=width)


class LocalBranch(nn.Module):
    """Depthwise residual bottleneck on the first path's embedding: the local features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(dim, dim, 1)
        self.depthwise = ConvNormAct(dim, dim, 3, groups=dim)
        self.contract = ConvNormAct(dim, dim, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, c, h, w)."""
        return x + self.contract(self.depthwise(self.expand(x)))


class Stage(nn.Module):
    """Multi-scale patch embedding (in series as published), parallel paths, local branch, and their fusion."""

    def __init__(
        self, stage: StageConfig, out: int, *, stride: int, drop_path: Sequence[float], trained_grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.config = stage
        embeddings = (PatchEmbedding(stage.dim, *stage.embedding(path, stride)) for path in range(stage.paths))
        self.paths = nn.ModuleList(Path(stage, embedding, drop_path, trained_grid) for embedding in embeddings)
        self.local = LocalBranch(stage.dim) if stage.local else None
        self.fusion = ConvNormAct(stage.joined_dim, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, out, h/stride, w/stride)."""
        scales, maps = [], []
        for path in self.paths:
            embedded, encoded = path(x)
            if self.config.patch_embed == "series":
                x = embedded  # the next path embeds this map, so its window is wider
            scales.append(embedded)
            maps.append(encoded)
        if self.local is not None:
            maps.insert(0, self.local(scales[0]))
        return self.fusion(join(maps, self.config.fusion))


def pyramid(stages: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, ...]:
    """Run ``stages`` in series on the stem's output (b, c, h, w); return the output of each."""
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return tuple(maps)


def join(maps: Sequence[Tensor], fusion: str) -> Tensor:
    """Map (b, c, h, w) each -> (b, joined_dim, h, w), concatenated or summed as ``StageConfig.fusion`` says."""
    return torch.cat(list(maps), dim=1) if fusion == "concat" else reduce(lambda x, y: x + y, maps)
