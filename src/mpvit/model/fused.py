"""The network for inference alone: the plain one's function in fewer and cheaper operations.

Folded once: batch norms into the convolutions before them, the affine part of layer norms into the linear layers behind
them, the CPE's residual into its window's centre, the CRPE's windows into the widest. At run time: maps stay channels-last,
so that a map *is* its tokens and no layout is copied; 1x1 convolutions are matrix products, and the fusion a sum of them;
the softmax over tokens is divided out of the small context kᵀ·v; small stages run paths side by side, large ones in turn.
Other devices than the CPU take whole batches and all paths at once; on CUDA a pass is replayed as one graph.

Axes: b batch, h and w the grid, n = h·w tokens, rows = b·n, c channels of a path, g paths that run side by side (their
channels concatenated, g·c), d channels per head.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpvit.attention import factorized
from mpvit.errors import UsageError
from mpvit.model.cuda_graph import GraphedModule, refuse_gradients
from mpvit.model.folded import FusedConv, FusedFusion, FusedPointwise, PathLinears
from mpvit.model.folding import fold_batch_norm, fold_layer_norm
from mpvit.model.layers import (
    LAYER_NORM_EPS,
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
stage, in float32), so that what its MLP widens stays in cache; whole batches of 8 took 1.1 to 1.2 times as long."""

SIDE_BY_SIDE_ROWS = 256
"""On a CPU the paths of a stage run side by side up to so many rows, where calls cost most; beyond, in turn, for the cache."""


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
        return FusedMPViT(model, dtype)


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
    """One transformer layer of each path of a stage, behind the CPE."""

    def __init__(self, layers: Sequence[TransformerLayer], dtype: torch.dtype) -> None:
        """Take the same layer of each path."""
        super().__init__()
        self.heads = layers[0].attention.sizes.heads
        folded = [fold_layer_norm(layer.attention.qkv, layer.attention_norm) for layer in layers]
        qkv = [zip(weight.chunk(3), bias.chunk(3), strict=True) for weight, bias in folded]
        self.query, self.key, self.value = (PathLinears(paths, dtype) for paths in zip(*qkv, strict=True))
        self.projection = PathLinears([(p.weight, p.bias) for p in (layer.attention.projection for layer in layers)], dtype)
        self.expand = PathLinears([fold_layer_norm(layer.mlp.expand, layer.mlp_norm) for layer in layers], dtype)
        self.contract = PathLinears([(c.weight, c.bias) for c in (layer.mlp.contract for layer in layers)], dtype)
        others = (layer.attention for layer in layers if layer.attention.kind is not factorized.KIND)
        self.attentions = nn.ModuleList(AnyAttention(attention, dtype) for attention in others)

    def forward(self, x: Tensor, crpe: FusedConv | None, paths: slice) -> Tensor:
        """Map (b, h, w, g·c) -> (b, h, w, g·c), the input overwritten."""
        batch, height, width, channels = x.shape
        rows, count = batch * height * width, paths.stop - paths.start
        dim = channels // count
        stream = x.view(rows, count, dim)
        tokens = functional.layer_norm(stream, (dim,), eps=LAYER_NORM_EPS).transpose(0, 1)  # (g, rows, c)
        query, key, value = (
            linear.side_by_side(tokens, paths).reshape(x.shape) for linear in (self.query, self.key, self.value)
        )
        window = slice(paths.start * dim, paths.stop * dim)
        attended = torch.zeros_like(query) if crpe is None else crpe(value, window, query)  # (b, h, w, g·c)
        attended = self._attend(query, key, value, attended, paths)
        stream = self.projection.add_to(stream, attended.view(rows, count, dim).transpose(0, 1), paths)
        tokens = functional.layer_norm(stream, (dim,), eps=LAYER_NORM_EPS).transpose(0, 1)
        stream = self.contract.add_to(stream, self.expand.one_by_one(tokens, paths, gelu=True), paths)
        return stream.reshape(x.shape)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, out: Tensor, paths: slice) -> Tensor:
        """Return ``out`` with the attention added to it; all are (b, h, w, g·c), ``key`` may be overwritten."""
        batch, height, width, channels = query.shape
        heads = self.heads * (paths.stop - paths.start)
        channels_per_head = channels // heads
        per_head = (batch, height * width, heads, channels_per_head)
        q, k, v, attended = (x.view(per_head).transpose(1, 2) for x in (query, key, value, out))  # (b, g·heads, n, d)
        if not self.attentions and torch.compiler.is_compiling():
            context = channels_per_head**-0.5 * (k.softmax(2).mT @ v)  # (b, g·heads, d, d)
            return out + (q @ context).transpose(1, 2).reshape(out.shape)
        if not self.attentions:
            attend = _attend_by_image if _in_parts(query) else _attend_at_once
            attend(q, k, v, attended)
            return out
        parts = zip(*(x.split(self.heads, dim=1) for x in (q, k, v, attended)), strict=True)
        for attention, (q, k, v, part) in zip(list(self.attentions)[paths], parts, strict=True):
            part.add_(attention(q, k, v, (height, width)))
        return out


class FusedLocalBranch(nn.Module):
    """The bottleneck of convolutions beside the paths."""

    def __init__(self, local: LocalBranch, dtype: torch.dtype) -> None:
        """Fold ``local``."""
        super().__init__()
        self.expand = FusedPointwise(*fold_batch_norm(local.expand.conv, local.expand.norm), dtype, act=True)
        self.depthwise = FusedConv(*fold_batch_norm(local.depthwise.conv, local.depthwise.norm), dtype, act=True)
        self.contract = FusedPointwise(*fold_batch_norm(local.contract.conv, local.contract.norm), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) -> (b, h, w, c), fresh."""
        return self.contract(self.depthwise(self.expand(x))).add_(x)


class FusedStage(nn.Module):
    """A stage: embeddings in series or parallel, paths side by side or in turn, local branch, fusion."""

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        """Fold ``stage``."""
        super().__init__()
        paths = cast("list[Path]", list(stage.paths))
        self.series = stage.config.patch_embed == "series"
        self.stride = paths[0].embedding.depthwise.stride[0]
        self.embeddings = nn.ModuleList(_fold_embedding(path.embedding, dtype) for path in paths)
        self.cpe = _merge_encodings([path.cpe for path in paths if path.cpe is not None], dtype)
        self.crpe = _merge_windows([path.crpe for path in paths if path.crpe is not None], dtype)
        layers = zip(*(cast("list[TransformerLayer]", list(path.layers)) for path in paths), strict=True)
        self.layers = nn.ModuleList(FusedLayer(layer, dtype) for layer in layers)
        self.local = None if stage.local is None else FusedLocalBranch(stage.local, dtype)
        fusion = fold_batch_norm(stage.fusion.conv, stage.fusion.norm)
        self.fusion = FusedFusion(*fusion, dtype, summed=stage.config.fusion == "sum")

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) -> (b, h/stride, w/stride, out), as many images at once as the processor likes."""
        if not _in_parts(x):
            return self._run(x)
        tokens = -(-x.shape[1] // self.stride) * -(-x.shape[2] // self.stride)
        images = max(1, CHANNEL_BYTES // x.element_size() // tokens)
        return self._run(x) if images >= len(x) else torch.cat([self._run(part) for part in x.split(images)])

    def _run(self, x: Tensor) -> Tensor:
        maps = []
        for embedding in self.embeddings:
            embedded = embedding(x)
            x = embedded if self.series else x
            maps.append(embedded)
        *grid, dim = maps[0].shape
        rows = math.prod(grid)
        total = None if self.local is None else self.fusion.add(None, self.local(maps[0]).view(rows, dim), 0)
        of_paths = 0 if self.local is None else dim  # the first channel of the paths' in the fusion
        count = 1 if torch.compiler.is_compiling() or (_in_parts(x) and rows > SIDE_BY_SIDE_ROWS) else len(maps)
        for first in range(0, len(maps), count):
            paths, channels = slice(first, first + count), slice(first * dim, (first + count) * dim)
            x = torch.cat(maps[paths], dim=-1) if count > 1 else maps[first]  # (b, h, w, g·c)
            for layer in self.layers:
                x = x if self.cpe is None else self.cpe(x, channels)
                x = layer(x, self.crpe, paths)
            total = self.fusion.add(total, x.view(rows, -1), of_paths + channels.start)
        assert total is not None  # noqa: S101 - a stage has a path
        return self.fusion.finish(total).view(*grid, -1)


class FusedMPViT(GraphedModule):
    """What ``fuse`` returns: the plain network's calls and shapes, without gradients; training mode changes nothing."""

    def __init__(self, model: MPViT, dtype: torch.dtype) -> None:
        """Fold ``model`` into weights of ``dtype``."""
        super().__init__()
        self.config = model.config
        stem = cast("list[ConvNormAct]", list(model.stem))
        self.stem = nn.ModuleList(FusedConv(*fold_batch_norm(c.conv, c.norm), dtype, c.conv.stride[0], act=True) for c in stem)
        self.stages = nn.ModuleList(FusedStage(stage, dtype) for stage in cast("list[Stage]", list(model.stages)))
        self.head = None if model.head is None else PathLinears([(model.head.weight, model.head.bias)], dtype)

    def forward_features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (b, in_channels, h, w) to each stage's output, (b, c, h/s, w/s), channels-last in memory."""
        refuse_gradients(x)
        x = x.to(next(self.buffers()).dtype).permute(0, 2, 3, 1)
        for conv in self.stem:
            x = conv(x)
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x.permute(0, 3, 1, 2))
        return tuple(pyramid)

    def compute(self, x: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) -> (b, num_classes) logits; with 0 classes the (b, c) features before them."""
        pooled = self.forward_features(x)[-1].mean((2, 3))
        return pooled if self.head is None else self.head.one_by_one(pooled[None], slice(0, 1))[0]


def _in_parts(x: Tensor) -> bool:
    """Whether a batch is taken in parts that suit a CPU's cache: a graph of any size is to hold one way through it."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _attend_by_image(query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """Add factorized attention to ``out`` and overwrite ``key``; all are (b, heads, n, d), strided."""
    scale = _exponentials(key)
    for image in range(len(query)):  # an image's heads lie evenly apart and are multiplied in place, a batch's are copied
        context = torch.bmm(value[image].mT, key[image]).mul_(scale[image])  # (heads, d of the value, d of the key)
        out[image].baddbmm_(query[image], context.mT)


def _attend_at_once(query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """Do what ``_attend_by_image`` does in as few calls as one image needs, for a device where a call is dear."""
    scale = _exponentials(key)
    out.add_(query @ (value.mT @ key).mul_(scale).mT)


def _exponentials(key: Tensor) -> Tensor:
    """Overwrite (b, heads, n, d) with exp(k - max) over the tokens; return 1 / (√d · their sum), (b, heads, 1, d)."""
    key.sub_(key.amax(2, keepdim=True)).exp_()
    return key.shape[-1] ** -0.5 / key.sum(2, keepdim=True)


def _fold_embedding(patches: PatchEmbedding, dtype: torch.dtype) -> nn.Sequential:
    first = patches.depthwise
    depthwise = FusedConv(first.weight, torch.zeros_like(patches.norm.bias), dtype, first.stride[0])
    return nn.Sequential(depthwise, FusedPointwise(*fold_batch_norm(patches.pointwise, patches.norm), dtype, act=True))


def _merge_encodings(paths: Sequence[ConvPositionEncoding], dtype: torch.dtype) -> FusedConv | None:
    """Return the position encoding of all paths, with its residual: x + conv(x)."""
    if not paths:
        return None
    weight = torch.cat([path.conv.weight.double() for path in paths])
    weight[:, :, 1, 1] += 1
    return FusedConv(weight, torch.cat([cast("Tensor", path.conv.bias) for path in paths]), dtype)


def _merge_windows(paths: Sequence[ConvRelativePositionEncoding], dtype: torch.dtype) -> FusedConv | None:
    """Return one convolution for all heads of all paths, smaller windows padded with zeros: it beats one a window."""
    convs = [conv for path in paths for conv in cast("list[nn.Conv2d]", list(path.convs))]
    if not convs:
        return None
    widest = max(conv.kernel_size[0] for conv in convs)
    weights = [functional.pad(conv.weight, [(widest - conv.kernel_size[0]) // 2] * 4) for conv in convs]
    return FusedConv(torch.cat(weights), torch.cat([cast("Tensor", conv.bias) for conv in convs]), dtype)
