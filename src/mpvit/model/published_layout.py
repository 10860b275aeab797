"""The network with its modules registered as in the authors' checkpoints.

It computes the same function as ``MPViT`` with the same modules. Some counters depend on where modules are registered: each
layer of a path here registers the path's position encodings again.
"""

from typing import cast

from torch import Tensor, nn

from mpvit.model.layers import TransformerLayer
from mpvit.model.network import MPViT, pool
from mpvit.model.stages import Path, Stage, join


class PublishedLayout(nn.Module):
    """A network in the published arrangement; it takes the modules of ``model``, which cannot be used afterwards."""

    def __init__(self, model: MPViT) -> None:
        super().__init__()
        stages = cast("list[Stage]", list(model.stages))
        self.stem = model.stem
        self.patch_embed_stages = nn.ModuleList(_PatchEmbeddings(stage) for stage in stages)
        self.mhca_stages = nn.ModuleList(_Stage(stage) for stage in stages)
        self.cls_head = None if model.head is None else _Head(model.head)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) -> (b, num_classes) logits; with 0 classes the (b, c) features before them."""
        x = self.stem(x)
        for embeddings, stage in zip(self.patch_embed_stages, self.mhca_stages, strict=True):
            x = stage(embeddings(x))
        pooled = pool(x)
        return pooled if self.cls_head is None else self.cls_head(pooled)


class _PatchEmbeddings(nn.Module):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.series = stage.config.patch_embed == "series"
        self.patch_embeds = nn.ModuleList(nn.ModuleDict({"patch_conv": path.embedding}) for path in _paths(stage))

    def forward(self, x: Tensor) -> list[Tensor]:
        scales = []
        for patches in cast("list[nn.ModuleDict]", list(self.patch_embeds)):
            embedded = patches["patch_conv"](x)
            scales.append(embedded)
            x = embedded if self.series else x
        return scales


class _Stage(nn.Module):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.mhca_blks = nn.ModuleList(_Block(path) for path in _paths(stage))
        self.fusion = stage.config.fusion
        self.InvRes = stage.local
        self.aggregate = stage.fusion

    def forward(self, scales: list[Tensor]) -> Tensor:
        outputs = [] if self.InvRes is None else [self.InvRes(scales[0])]
        outputs += [block(scale) for block, scale in zip(self.mhca_blks, scales, strict=True)]
        return self.aggregate(join(outputs, self.fusion))


class _Block(nn.Module):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.cpe = path.cpe
        self.crpe = path.crpe
        self.MHCA_layers = nn.ModuleList(_share(layer, path) for layer in cast("list[TransformerLayer]", list(path.layers)))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        for layer in self.MHCA_layers:
            tokens = layer(tokens, (height, width), self.cpe, self.crpe)
        return tokens.transpose(1, 2).unflatten(2, (height, width))


class _Head(nn.Module):
    def __init__(self, cls: nn.Linear) -> None:
        super().__init__()
        self.cls = cls

    def forward(self, x: Tensor) -> Tensor:
        return self.cls(x)


def _paths(stage: Stage) -> list[Path]:
    return cast("list[Path]", list(stage.paths))


def _share(layer: TransformerLayer, path: Path) -> TransformerLayer:
    """Register the path's position encodings in a layer, before its own modules, and the CRPE also in its attention."""
    own = dict(layer.named_children())
    for name in own:
        delattr(layer, name)
    if path.cpe is not None:
        layer.cpe = path.cpe
    if path.crpe is not None:
        layer.crpe = path.crpe
        own["attention"].crpe = path.crpe
    for name, module in own.items():
        layer.add_module(name, module)
    return layer
