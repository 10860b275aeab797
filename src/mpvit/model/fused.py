"""The network for inference: the same function in fewer and cheaper operations.

``fuse`` folds batch norms into the convolutions before them, the residual of the CPE into the centre of its kernel, and the
kernels of the CRPE into one of the largest size. Maps stay channels-last, so tokens are a view of a map and no layout is
copied; 1x1 convolutions are matrix products, and the stage's fusion is a sum of them. On a CPU oneDNN computes products and
convolutions together with activations and residuals, and a batch is processed in parts; on CUDA a pass is replayed as one
graph. In a graph of torch a batch of any size takes the same operations.

Axes: b batch, h and w the grid, n = h·w tokens, rows = b·n, c channels of a path, d channels per head.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpvit.attention import factorized
from mpvit.devices import in_torch_graph
from mpvit.errors import UsageError
from mpvit.model.cuda_graph import GraphedModule, refuse_gradients
from mpvit.model.fused_operations import (
    FusedConv,
    FusedLinear,
    FusedNorm,
    fold_batch_norm,
    fold_convolution,
    fold_pointwise,
    fold_residual,
    merge_windows,
)
from mpvit.model.layers import Attention, ConvNormAct, TransformerLayer
from mpvit.model.network import MPViT
from mpvit.model.stages import LocalBranch, Path, Stage, pyramid

CHANNEL_BYTES = 12_800
"""Largest map that a stage processes at once on a CPU, in bytes per channel: one float32 image of 224² in the first stage.

The MLP's hidden layer then stays in cache; whole batches of 8 took 1.03 to 1.06 times as long.
"""

KEPT_BLOCK = 2**25 - 2**16
"""Size of the block that ``keep_freed_memory`` frees, in bytes: just below 32 MiB, the largest that glibc looks at."""

Grid = tuple[int, int, int]
"""Images in the batch, height and width of a map."""


def fuse(model: MPViT, dtype: torch.dtype | None = None, *, keep_memory: bool = False) -> "FusedMPViT":
    """Return a network for inference that computes what ``model`` computes in evaluation mode.

    Its weights and outputs have ``dtype``, by default the model's own. The tensors are copies on the model's device: the
    model is not changed, and later changes to it have no effect. In float32 the outputs agree to 1e-4·(1 + |plain|), in
    float64 to 1e-9; in bfloat16 they differ from float32 by 1 to 2 % of their standard deviation.

    ``keep_memory`` calls ``keep_freed_memory``, which changes the heap of the whole process: on a CPU with glibc small networks
    then take up to 12 % less time at batch 1, and the process does not return freed memory to the system. ``fuse`` changes
    nothing outside the network without it.

    On CUDA the first call with a new shape takes longer: it records the graph that later calls replay (``forward_features`` has
    none). TF32, torch's default for convolutions there, is less exact than float32.
    Raises ``UsageError`` for a dtype that is not floating point.
    """
    dtype = dtype or next(model.parameters()).dtype
    if not dtype.is_floating_point:
        raise UsageError(f"dtype = {dtype}: must be a floating-point dtype", hint="torch.float32 or torch.bfloat16")
    with torch.no_grad():
        fused = FusedMPViT(model, dtype)
    if keep_memory:
        keep_freed_memory()
    return fused


def keep_freed_memory() -> None:
    """Let glibc keep the memory that the process frees, so that the next pass need not fault its pages in again.

    glibc returns free memory at the end of the heap to the system when it exceeds twice the largest block ever freed; a pass
    of xsmall then faults in 3000 pages. This frees one large block, which is never written. Other C libraries do not change.
    """
    torch.empty(KEPT_BLOCK, dtype=torch.uint8, device="cpu")


class UnfusedAttention(nn.Module):
    """Attention of any kind as the plain network calls it; only factorized attention has a fused form."""

    def __init__(self, attention: Attention, dtype: torch.dtype) -> None:
        super().__init__()
        self.kind, self.sizes = attention.kind, attention.sizes
        for name, tensor in (*attention.named_parameters(recurse=False), *attention.named_buffers(recurse=False)):
            self.register_buffer(name, tensor.to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map three (b, heads, n, d) -> (b, heads, n, d); ``grid`` is (h, w) with n = h·w."""
        sizes = self.sizes._replace(batch=query.shape[0], height=grid[0], width=grid[1])
        return self.kind.attend(query, key, value, sizes, dict(self.named_buffers()))


class FusedLayer(nn.Module):
    """One transformer layer without the CPE."""

    def __init__(self, layer: TransformerLayer, dtype: torch.dtype) -> None:
        super().__init__()
        attention, mlp = layer.attention, layer.mlp
        self.heads = attention.sizes.heads
        self.attention_norm = FusedNorm(layer.attention_norm, dtype)
        qkv = zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True)
        self.query, self.key, self.value = (FusedLinear(weight, bias, dtype) for weight, bias in qkv)
        self.attention = None if attention.kind is factorized.KIND else UnfusedAttention(attention, dtype)
        self.projection = FusedLinear(attention.projection.weight, attention.projection.bias, dtype)
        self.mlp_norm = FusedNorm(layer.mlp_norm, dtype)
        self.expand = FusedLinear(mlp.expand.weight, mlp.expand.bias, dtype, "gelu")
        self.contract = FusedLinear(mlp.contract.weight, mlp.contract.bias, dtype)

    def forward(self, x: Tensor, grid: Grid, crpe: FusedConv | None) -> Tensor:
        """Map (rows, c) -> (rows, c), a new tensor."""
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
        super().__init__()
        patches = path.embedding
        conv, no_bias = patches.depthwise, torch.zeros_like(patches.norm.bias)
        self.depthwise = FusedConv(conv.weight, no_bias, dtype, stride=conv.stride[0], groups=conv.groups)
        self.pointwise = FusedLinear(*fold_batch_norm(patches.pointwise, patches.norm), dtype, "hardswish")
        self.cpe = None if path.cpe is None else fold_residual(path.cpe, dtype)
        self.crpe = None if path.crpe is None else merge_windows(path.crpe, dtype)
        self.layers = nn.ModuleList(FusedLayer(layer, dtype) for layer in cast("list[TransformerLayer]", list(path.layers)))

    def embed(self, x: Tensor) -> Tensor:
        """Map (b, in, h, w) -> (b, c, h/stride, w/stride)."""
        x = self.depthwise(x)
        return _map(self.pointwise(_tokens(x)), _grid(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map the output of ``embed`` -> (rows, c)."""
        grid = _grid(x)
        for layer in self.layers:
            x = x if self.cpe is None else self.cpe(x)
            x = _map(layer(_tokens(x), grid, self.crpe), grid)
        return _tokens(x)


class FusedLocalBranch(nn.Module):
    """The local branch: a bottleneck of convolutions."""

    def __init__(self, local: LocalBranch, dtype: torch.dtype) -> None:
        super().__init__()
        self.expand = fold_pointwise(local.expand, dtype)
        self.depthwise = fold_convolution(local.depthwise, dtype)
        self.contract = fold_pointwise(local.contract, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (rows, c)."""
        tokens = _tokens(x)
        return self.contract(_tokens(self.depthwise(_map(self.expand(tokens), _grid(x)))), tokens)


class FusedStage(nn.Module):
    """A stage: its embeddings, then the local branch and the paths one by one, each added to the fusion's sum at once."""

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        super().__init__()
        paths = cast("list[Path]", list(stage.paths))
        self.series = stage.config.patch_embed == "series"
        self.stride = paths[0].embedding.depthwise.stride[0]
        self.paths = nn.ModuleList(FusedPath(path, dtype) for path in paths)
        self.local = None if stage.local is None else FusedLocalBranch(stage.local, dtype)
        self.summed = stage.config.fusion == "sum"
        weight, bias = fold_batch_norm(stage.fusion.conv, stage.fusion.norm)
        parts = weight.split(stage.config.dim, dim=1)  # one for each branch, or one for their sum
        self.fusion = FusedLinear(parts[0], bias, dtype)
        self.fusion_plus = nn.ModuleList(FusedLinear(part, None, dtype) for part in parts[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, out, h/stride, w/stride); a large batch is processed in parts."""
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
        """Yield the outputs of the local branch and the paths, (rows, c) each, for the paths' embeddings."""
        if self.local is not None:
            yield self.local(maps[0])
        for path, embedded in zip(self.paths, maps, strict=True):
            yield path(embedded)


class FusedMPViT(GraphedModule):
    """The network that ``fuse`` returns: it has the plain network's methods, no gradients, and no training mode."""

    def __init__(self, model: MPViT, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = model.config
        self.stem = nn.Sequential(*(fold_convolution(conv, dtype) for conv in cast("list[ConvNormAct]", list(model.stem))))
        self.stages = nn.ModuleList(FusedStage(stage, dtype) for stage in cast("list[Stage]", list(model.stages)))
        self.head = None if model.head is None else FusedLinear(model.head.weight, model.head.bias, dtype)

    def forward_features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (b, in_channels, h, w) to each stage's output, (b, c, h/s, w/s), channels-last in memory."""
        refuse_gradients(x)
        x = x.to(next(self.buffers()).dtype, memory_format=torch.channels_last)
        return pyramid(self.stages, self.stem(x))

    def compute(self, x: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) -> (b, num_classes) logits; with 0 classes the (b, c) features before them."""
        pooled = self.forward_features(x)[-1].mean((2, 3))
        return pooled if self.head is None else self.head(pooled)


def _in_parts(x: Tensor) -> bool:
    """Return whether a batch is processed in parts that fit a CPU's cache; in a graph any size takes the same operations."""
    return x.device.type == "cpu" and not in_torch_graph()


def _add_by_image(total: Tensor, query: Tensor, weights: Tensor, value: Tensor) -> None:
    """Add factorized attention to ``total``; all are (b, heads, n, d), ``weights`` the softmax of the keys over the tokens.

    The heads of one image have equal distances in memory and are multiplied in place; those of a batch would be copied.
    """
    for image in range(len(total)):
        context = torch.bmm(weights[image].mT, value[image])  # (heads, d, d)
        total[image].baddbmm_(query[image], context, alpha=len(context[0]) ** -0.5)


def _tokens(x: Tensor) -> Tensor:
    """Map (b, c, h, w) -> (rows, c), a view if it is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _map(tokens: Tensor, grid: Grid) -> Tensor:
    """Map (rows, c) -> (b, c, h, w), a channels-last view."""
    return tokens.view(*grid, -1).permute(0, 3, 1, 2)


def _grid(x: Tensor) -> Grid:
    """Return b, h and w of a map."""
    return x.shape[0], x.shape[2], x.shape[3]
