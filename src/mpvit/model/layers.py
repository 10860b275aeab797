"""The layers of a Multi-Path Vision Transformer, from Lee et al., CVPR 2022 (arXiv:2112.11010), section 3.

The position encodings and the factorized attention are those of Xu et al., ICCV 2021 (arXiv:2104.06399).
Axes: b batch, c channels, h and w the grid, n = h·w tokens, d channels per head.
"""

from einops import rearrange
from torch import Tensor, nn

from mpvit.architecture.config import StageConfig
from mpvit.attention import Sizes, get_kind
from mpvit.attention.factorized_crpe import Windows, encode

LAYER_NORM_EPS = 1e-6


class ConvNormAct(nn.Module):
    """Convolution without bias and padded to "same", batch norm, Hardswish: (b, c, h, w) -> (b, out, h/stride, w/stride)."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        """Build the layers, without the Hardswish unless ``act``."""
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.act = nn.Hardswish() if act else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, out, h', w')."""
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)


class PatchEmbedding(nn.Module):
    """The patch embedding of one path: depthwise and pointwise convolution, batch norm, Hardswish; ``kernel`` is odd."""

    def __init__(self, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, kernel, stride, kernel // 2, groups=dim, bias=False)
        self.pointwise = nn.Conv2d(dim, dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.act = nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, c, h', w') with h' = floor((h - 1) / stride) + 1."""
        return self.act(self.norm(self.pointwise(self.depthwise(x))))


class ConvPositionEncoding(nn.Module):
    """CPE: a depthwise 3x3 convolution of the feature map, added to it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (b, n, c) -> (b, n, c); ``grid`` is (h, w) with n = h·w."""
        x = rearrange(tokens, "b (h w) c -> b c h w", h=grid[0], w=grid[1])
        return rearrange(self.conv(x) + x, "b c h w -> b (h w) c")


class ConvRelativePositionEncoding(nn.Module):
    """CRPE: depthwise convolutions of the values, with a window for each head, times the unscaled query."""

    def __init__(self, head_dim: int, head_windows: Windows) -> None:
        """Build the convolutions; ``head_windows`` are pairs (window, heads) in the order of the heads."""
        super().__init__()
        self.channels = [heads * head_dim for _, heads in head_windows]
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, window, padding=window // 2, groups=channels)
            for channels, (window, _) in zip(self.channels, head_windows, strict=True)
        )

    def forward(self, query: Tensor, value: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map two (b, heads, n, d) -> (b, heads, n, d); ``grid`` is (h, w) with n = h·w."""
        return encode(query, value, grid, self.convs, self.channels)


class Attention(nn.Module):
    """Attention of any kind plus the relative position encoding of its values, between two linear layers."""

    def __init__(self, stage: StageConfig, trained_grid: tuple[int, int]) -> None:
        """Build the kind ``stage.attention``; parameters that depend on the size are for ``trained_grid``, (h, w)."""
        super().__init__()
        self.kind, option = get_kind(stage.attention)
        self.sizes = Sizes(1, stage.heads, stage.head_dim, *trained_grid, option)
        self.qkv = nn.Linear(stage.dim, 3 * stage.dim)
        for name, tensor in self.kind.parameters(self.sizes).items():
            self.register_parameter(name, nn.Parameter(tensor))
        for name, tensor in self.kind.buffers(self.sizes).items():
            self.register_buffer(name, tensor)
        self.projection = nn.Linear(stage.dim, stage.dim)

    def forward(self, tokens: Tensor, grid: tuple[int, int], crpe: ConvRelativePositionEncoding | None) -> Tensor:
        """Map (b, n, c) -> (b, n, c); ``crpe`` is shared by the layers of the path."""
        sizes = self.sizes._replace(batch=tokens.shape[0], height=grid[0], width=grid[1])
        joined = rearrange(self.qkv(tokens), "b n (three heads d) -> three b heads n d", three=3, heads=sizes.heads)
        query, key, value = joined.unbind()
        own = {name: tensor for name, tensor in {**self._parameters, **self._buffers}.items() if tensor is not None}
        attended = self.kind.attend(query, key, value, sizes, own)
        if crpe is not None:
            attended = attended + crpe(query, value, grid)
        return self.projection(rearrange(attended, "b heads n d -> b n (heads d)"))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.contract = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (b, n, c) -> (b, n, c)."""
        return self.contract(self.act(self.expand(tokens)))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training, drop a sample's residual with probability ``rate``."""

    def __init__(self, rate: float) -> None:
        """Drop with probability ``rate``; a residual that is kept is scaled so that its mean does not change."""
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, ...) -> (b, ...); the identity in evaluation mode."""
        if not self.training or self.rate == 0:
            return x
        kept = 1 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(kept)
        return x * mask / kept

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate:g}"


class TransformerLayer(nn.Module):
    """CPE, then attention and MLP, each after a layer norm and with a residual connection, dropped at rate ``drop_path``."""

    def __init__(self, stage: StageConfig, drop_path: float, trained_grid: tuple[int, int]) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(stage.dim, LAYER_NORM_EPS)
        self.attention = Attention(stage, trained_grid)
        self.mlp_norm = nn.LayerNorm(stage.dim, LAYER_NORM_EPS)
        self.mlp = Mlp(stage.dim, stage.hidden_dim)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        tokens: Tensor,
        grid: tuple[int, int],
        cpe: ConvPositionEncoding | None,
        crpe: ConvRelativePositionEncoding | None,
    ) -> Tensor:
        """Map (b, n, c) -> (b, n, c); both position encodings are shared by the layers of the path."""
        if cpe is not None:
            tokens = cpe(tokens, grid)
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens), grid, crpe))
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))
