"""The network for inference alone: the plain one's function in fewer and cheaper operations.

Folded once: batch norms into the convolutions before them, the CPE's residual into its window's centre, the CRPE's windows
into the widest. At run time: maps stay channels-last, so that a map *is* its tokens and no layout is copied; 1x1 convolutions
are matrix products, and the fusion a sum of them. On a CPU oneDNN multiplies and convolves, activations and residuals
included, and a batch is taken in parts; on CUDA a pass is replayed as one graph. Compiled or exported, a batch of any size
goes one way.

Axes: b batch, h and w the grid, n = h·w tokens, rows = b·n, c channels of a path, d channels per head.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpvit.attention import factorized
from mpvit.errors import UsageError
from mpvit.model.cuda_graph import GraphedModule, refuse_gradients
from mpvit.model.folded import FusedConv, FusedConvTimes, FusedLinear, FusedLinearPlus, FusedNorm, in_graph
from mpvit.model.folding import fold_batch_norm
from mpvit.model.layers import (
    Attention,
    ConvNormAct,
    ConvPositionEncoding,
    ConvRelativePositionEncoding,
    PatchEmbedding,
    TransformerLayer,
)
from mpvit.model.network import MPViT
from mpvit.model.stages import LocalBranch, Path, Stage

CHANNEL_BYTES = 12_800
"""On a CPU a stage takes as many images at once as hold at most so many bytes a channel (one image of 224² in the first
stage, in float32), so that what its MLP widens stays in cache; whole batches of 8 took 1.03 to 1.06 times as long."""

Grid = tuple[int, int, int]
"""Images in the batch, height and width of a map."""


def fuse(model: MPViT, dtype: torch.dtype | None = None) -> "FusedMPViT":
    """Return an inference network that computes what ``model`` does in evaluation mode, whatever mode it is in.

    ``dtype`` is its weights' and outputs', by default the model's own. The tensors are copies on the model's device: the
    model is neither changed nor followed. In float32 outputs agree to 1e-4·(1 + |plain|), in float64 to 1e-9; in bfloat16
    they differ from float32 by 1 to 2 % of their standard deviation, and the processor should multiply matrices in it.
    On CUDA the first call with a shape takes longer: it records the graph that later ones replay (``forward_features`` has
    none), and TF32, on by default in convolutions, is less exact than float32.
    Raises ``UsageError`` for a dtype that is not floating point.
    """
    dtype = dtype or next(model.parameters()).dtype
    if not dtype.is_floating_point:
        raise UsageError(f"dtype = {dtype}: must be a floating-point dtype", hint="torch.float32 or torch.bfloat16")
    with torch.no_grad():
        fused = FusedMPViT(model, dtype)
    _keep_freed_memory()
    return fused


class AnyAttention(nn.Module):
    """Attention of any kind in one path, as the plain network calls it; factorized attention has a layout of its own."""

    def __init__(self, attention: Attention, dtype: torch.dtype) -> None:
        """Copy what the kind has learned."""
        super().__init__()
        self.kind, self.sizes = attention.kind, attention.sizes
        for name, tensor in (*attention.named_parameters(recurse=False), *attention.named_buffers(recurse=False)):
            self.register_buffer(name, tensor.to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map three (b, heads, n, d) -> (b, heads, n, d); ``grid`` is (h, w) with n = h·w."""
        sizes = self.sizes._replace(batch=query.shape[0], height=grid[0], width=grid[1])
        return self.kind.attend(query, key, value, sizes, dict(self.named_buffers()))


class FusedLayer(nn.Module):
    """One transformer layer, behind the CPE."""

    def __init__(self, layer: TransformerLayer, dtype: torch.dtype) -> None:
        """Copy ``layer``."""
        super().__init__()
        attention, mlp = layer.attention, layer.mlp
        self.heads = attention.sizes.heads
        self.attention_norm = FusedNorm(layer.attention_norm, dtype)
        qkv = zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True)
        self.query, self.key, self.value = (FusedLinear(weight, bias, dtype) for weight, bias in qkv)
        self.attention = None if attention.kind is factorized.KIND else AnyAttention(attention, dtype)
        self.projection = FusedLinearPlus(attention.projection.weight, attention.projection.bias, dtype)
        self.mlp_norm = FusedNorm(layer.mlp_norm, dtype)
        self.expand = FusedLinear(mlp.expand.weight, mlp.expand.bias, dtype, "gelu")
        self.contract = FusedLinearPlus(mlp.contract.weight, mlp.contract.bias, dtype)

    def forward(self, x: Tensor, grid: Grid, crpe: FusedConvTimes | None) -> Tensor:
        """Map (rows, c) -> (rows, c), fresh."""
        tokens = self.attention_norm(x)
        query, key, value = self.query(tokens), self.key(tokens), self.value(tokens)
        relative = None if crpe is None else _tokens(crpe(_map(value, grid), _map(query, grid)))
        x = self.projection(self._attend(query, key, value, grid, relative), x)
        return self.contract(self.expand(self.mlp_norm(x)), x)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, grid: Grid, relative: Tensor | None) -> Tensor:
        """Return the attention plus ``relative``, the CRPE, which may be overwritten; all are (rows, c)."""
        batch, height, width = grid
        per_head = (batch, height * width, self.heads, -1)
        if self.attention is None:
            key = key.view(batch, height * width, -1).softmax(1)
        q, k, v = (x.view(per_head).transpose(1, 2) for x in (query, key, value))  # (b, heads, n, d)
        if self.attention is not None:
            attended = self.attention(q, k, v, (height, width))
        elif _in_parts(query):
            total = torch.zeros_like(query) if relative is None else relative
            _add_by_image(total.view(per_head).transpose(1, 2), q, k, v)
            return total
        else:
            attended = q @ (q.shape[-1] ** -0.5 * (k.mT @ v))
        attended = attended.transpose(1, 2).reshape(query.shape)
        return attended if relative is None else attended + relative


class FusedPath(nn.Module):
    """One path: its patch embedding, and the transformer layers that share its two position encodings."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        """Fold ``path``."""
        super().__init__()
        patches = path.embedding
        conv, no_bias = patches.depthwise, torch.zeros_like(patches.norm.bias)
        self.depthwise = FusedConv(conv.weight, no_bias, dtype, stride=_stride(patches), groups=conv.groups)
        self.pointwise = FusedLinear(*fold_batch_norm(patches.pointwise, patches.norm), dtype, "hardswish")
        self.cpe = None if path.cpe is None else _with_residual(path.cpe, dtype)
        self.crpe = None if path.crpe is None else _merge_windows(path.crpe, dtype)
        self.layers = nn.ModuleList(FusedLayer(layer, dtype) for layer in cast("list[TransformerLayer]", list(path.layers)))

    def embed(self, x: Tensor) -> Tensor:
        """Map (b, in, h, w) -> (b, c, h/stride, w/stride)."""
        x = self.depthwise(x)
        return _map(self.pointwise(_tokens(x)), _grid(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map what ``embed`` returned -> (rows, c)."""
        grid = _grid(x)
        for layer in self.layers:
            x = x if self.cpe is None else self.cpe(x)
            x = _map(layer(_tokens(x), grid, self.crpe), grid)
        return _tokens(x)


class FusedLocalBranch(nn.Module):
    """The bottleneck of convolutions beside the paths."""

    def __init__(self, local: LocalBranch, dtype: torch.dtype) -> None:
        """Fold ``local``."""
        super().__init__()
        self.expand = FusedLinear(*fold_batch_norm(local.expand.conv, local.expand.norm), dtype, "hardswish")
        folded = fold_batch_norm(local.depthwise.conv, local.depthwise.norm)
        self.depthwise = FusedConv(*folded, dtype, groups=local.depthwise.conv.groups, activation="hardswish")
        self.contract = FusedLinearPlus(*fold_batch_norm(local.contract.conv, local.contract.norm), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (rows, c)."""
        tokens = _tokens(x)
        return self.contract(_tokens(self.depthwise(_map(self.expand(tokens), _grid(x)))), tokens)


class FusedStage(nn.Module):
    """A stage: embeddings in series or parallel, local branch and paths in turn, each added to the fusion's sum at once."""

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        """Fold ``stage``."""
        super().__init__()
        paths = cast("list[Path]", list(stage.paths))
        self.series = stage.config.patch_embed == "series"
        self.stride = _stride(paths[0].embedding)
        self.paths = nn.ModuleList(FusedPath(path, dtype) for path in paths)
        self.local = None if stage.local is None else FusedLocalBranch(stage.local, dtype)
        self.summed = stage.config.fusion == "sum"
        weight, bias = fold_batch_norm(stage.fusion.conv, stage.fusion.norm)
        parts = weight.split(stage.config.dim, dim=1)  # a product of each branch, or one of their sum
        self.fusion = FusedLinear(parts[0], bias, dtype)
        self.fusion_plus = nn.ModuleList(FusedLinearPlus(part, None, dtype) for part in parts[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, out, h/stride, w/stride), as many images at once as the processor likes."""
        if not _in_parts(x):
            return self._run(x)
        tokens = -(-x.shape[2] // self.stride) * -(-x.shape[3] // self.stride)
        images = max(1, CHANNEL_BYTES // x.element_size() // tokens)
        return self._run(x) if images >= len(x) else torch.cat([self._run(part) for part in x.split(images)])

    def _run(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for path in cast("list[FusedPath]", list(self.paths)):
            maps.append(path.embed(maps[-1] if self.series and maps else x))
        branches = self._branches(maps)
        total = self.fusion(functools.reduce(torch.add, branches) if self.summed else next(branches))
        for linear, branch in zip(self.fusion_plus, branches, strict=True):
            total = linear(branch, total)
        return _map(functional.hardswish(total, inplace=True), _grid(maps[0]))

    def _branches(self, maps: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield what is fused, (rows, c) each, one at a time: the local branch and the paths, of the paths' embeddings."""
        if self.local is not None:
            yield self.local(maps[0])
        for path, embedded in zip(self.paths, maps, strict=True):
            yield path(embedded)


class FusedMPViT(GraphedModule):
    """What ``fuse`` returns: the plain network's calls and shapes, without gradients; training mode changes nothing."""

    def __init__(self, model: MPViT, dtype: torch.dtype) -> None:
        """Fold ``model`` into weights of ``dtype``."""
        super().__init__()
        self.config = model.config
        stem = cast("list[ConvNormAct]", list(model.stem))
        self.stem = nn.ModuleList(
            FusedConv(*fold_batch_norm(c.conv, c.norm), dtype, stride=c.conv.stride[0], activation="hardswish") for c in stem
        )
        self.stages = nn.ModuleList(FusedStage(stage, dtype) for stage in cast("list[Stage]", list(model.stages)))
        self.head = None if model.head is None else FusedLinear(model.head.weight, model.head.bias, dtype)

    def forward_features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (b, in_channels, h, w) to each stage's output, (b, c, h/s, w/s), channels-last in memory."""
        refuse_gradients(x)
        x = x.to(next(self.buffers()).dtype, memory_format=torch.channels_last)
        for conv in self.stem:
            x = conv(x)
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return tuple(pyramid)

    def compute(self, x: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) -> (b, num_classes) logits; with 0 classes the (b, c) features before them."""
        pooled = self.forward_features(x)[-1].mean((2, 3))
        return pooled if self.head is None else self.head(pooled)


def _keep_freed_memory() -> None:
    """Let glibc keep, for the next pass, the memory that this one frees.

    It returns what lies free at the heap's end to the system once that is twice the largest block ever freed, and then every
    pass faults it in anew, 3000 pages in xsmall. A block of 32 MiB, the largest that it looks at, is freed here untouched.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")


def _in_parts(x: Tensor) -> bool:
    """Whether a batch is taken in parts that suit a CPU's cache: a graph of any size is to hold one way through it."""
    return x.device.type == "cpu" and not in_graph()


def _add_by_image(total: Tensor, query: Tensor, weights: Tensor, value: Tensor) -> None:
    """Add factorized attention to ``total``; all are (b, heads, n, d), ``weights`` the softmax of the keys over the tokens.

    An image's heads lie evenly apart and are multiplied in place; those of a batch would be copied.
    """
    for image in range(len(total)):
        context = torch.bmm(weights[image].mT, value[image])  # (heads, d, d)
        total[image].baddbmm_(query[image], context, alpha=len(context[0]) ** -0.5)


def _tokens(x: Tensor) -> Tensor:
    """Map (b, c, h, w) -> (rows, c), a view where it is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _map(tokens: Tensor, grid: Grid) -> Tensor:
    """Map (rows, c) -> (b, c, h, w), a channels-last view."""
    return tokens.view(*grid, -1).permute(0, 3, 1, 2)


def _grid(x: Tensor) -> Grid:
    """Return b, h and w of a map."""
    return x.shape[0], x.shape[2], x.shape[3]


def _stride(patches: PatchEmbedding) -> int:
    return patches.depthwise.stride[0]


def _with_residual(encoding: ConvPositionEncoding, dtype: torch.dtype) -> FusedConv:
    """Return x + conv(x) as one convolution."""
    weight = encoding.conv.weight.to(torch.float64, copy=True)
    weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] += 1
    return FusedConv(weight, cast("Tensor", encoding.conv.bias), dtype, groups=encoding.conv.groups)


def _merge_windows(encoding: ConvRelativePositionEncoding, dtype: torch.dtype) -> FusedConvTimes:
    """Return one convolution for all heads, smaller windows padded with zeros: it beats one a window."""
    convs = cast("list[nn.Conv2d]", list(encoding.convs))
    widest = max(conv.kernel_size[0] for conv in convs)
    weights = [functional.pad(conv.weight, [(widest - conv.kernel_size[0]) // 2] * 4) for conv in convs]
    weight, bias = torch.cat(weights), torch.cat([cast("Tensor", conv.bias) for conv in convs])
    return FusedConvTimes(weight, bias, dtype, groups=len(weight))
