"""The names that the authors' checkpoints give to the tensors of this network.

There, a path's two position encodings are registered again in each layer that shares them: the same tensor stands under
one canonical name and its aliases.
"""

import re

from mpvit.config import ModelConfig

_BLOCK = r"mhca_stages.\1.mhca_blks.\2"
_PATH = r"stages\.(\d+)\.paths\.(\d+)"

_NAMES = (
    (r"stem\.(\d+)\.conv", r"stem.\1.conv"),
    (r"stem\.(\d+)\.norm", r"stem.\1.bn"),
    (_PATH + r"\.embedding\.depthwise", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv.dwconv"),
    (_PATH + r"\.embedding\.pointwise", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv.pwconv"),
    (_PATH + r"\.embedding\.norm", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv.bn"),
    (_PATH + r"\.cpe", _BLOCK + r".cpe"),
    (_PATH + r"\.cpe\.conv", _BLOCK + r".cpe.proj"),
    (_PATH + r"\.crpe", _BLOCK + r".crpe"),
    (_PATH + r"\.crpe\.convs\.(\d+)", _BLOCK + r".crpe.conv_list.\3"),
    (_PATH + r"\.layers\.(\d+)\.attention_norm", _BLOCK + r".MHCA_layers.\3.norm1"),
    (_PATH + r"\.layers\.(\d+)\.attention\.qkv", _BLOCK + r".MHCA_layers.\3.factoratt_crpe.qkv"),
    (_PATH + r"\.layers\.(\d+)\.attention\.projection", _BLOCK + r".MHCA_layers.\3.factoratt_crpe.proj"),
    (_PATH + r"\.layers\.(\d+)\.mlp_norm", _BLOCK + r".MHCA_layers.\3.norm2"),
    (_PATH + r"\.layers\.(\d+)\.mlp\.expand", _BLOCK + r".MHCA_layers.\3.mlp.fc1"),
    (_PATH + r"\.layers\.(\d+)\.mlp\.contract", _BLOCK + r".MHCA_layers.\3.mlp.fc2"),
    (r"stages\.(\d+)\.local\.expand\.conv", r"mhca_stages.\1.InvRes.conv1.conv"),
    (r"stages\.(\d+)\.local\.expand\.norm", r"mhca_stages.\1.InvRes.conv1.bn"),
    (r"stages\.(\d+)\.local\.depthwise\.conv", r"mhca_stages.\1.InvRes.dwconv"),
    (r"stages\.(\d+)\.local\.depthwise\.norm", r"mhca_stages.\1.InvRes.norm"),
    (r"stages\.(\d+)\.local\.contract\.conv", r"mhca_stages.\1.InvRes.conv2.conv"),
    (r"stages\.(\d+)\.local\.contract\.norm", r"mhca_stages.\1.InvRes.conv2.bn"),
    (r"stages\.(\d+)\.fusion\.conv", r"mhca_stages.\1.aggregate.conv"),
    (r"stages\.(\d+)\.fusion\.norm", r"mhca_stages.\1.aggregate.bn"),
    (r"head", r"cls_head.cls"),
)
"""From a module's name here to its canonical published name."""

_ALIASES = (
    (_PATH + r"\.cpe", _BLOCK + r".MHCA_layers.{layer}.cpe"),
    (_PATH + r"\.cpe\.conv", _BLOCK + r".MHCA_layers.{layer}.cpe.proj"),
    (_PATH + r"\.crpe", _BLOCK + r".MHCA_layers.{layer}.crpe"),
    (_PATH + r"\.crpe", _BLOCK + r".MHCA_layers.{layer}.factoratt_crpe.crpe"),
    (_PATH + r"\.crpe\.convs\.(\d+)", _BLOCK + r".MHCA_layers.{layer}.crpe.conv_list.\3"),
    (_PATH + r"\.crpe\.convs\.(\d+)", _BLOCK + r".MHCA_layers.{layer}.factoratt_crpe.crpe.conv_list.\3"),
)
"""The further published names of a shared module, one for each layer of its path."""


def is_published(name: str) -> bool:
    """Tell whether a tensor of this name can only stand in a checkpoint of the published layout."""
    return name.startswith(("patch_embed_stages.", "mhca_stages.", "cls_head."))


def published_names(tensor: str, config: ModelConfig) -> tuple[str, ...]:
    """Return the published names of this network's ``tensor``: the canonical one, then its aliases."""
    module, _, word = tensor.rpartition(".")
    return tuple(f"{name}.{word}" for name in published_modules(module, config))


def published_modules(module: str, config: ModelConfig) -> tuple[str, ...]:
    """Return the published names of this network's ``module``: the canonical one, then its aliases.

    A checkpoint does not name modules without tensors: those keep this project's name.
    """
    canonical = next((re.sub(own, published, module) for own, published in _NAMES if re.fullmatch(own, module)), module)
    aliases = [
        match.expand(alias).format(layer=layer)
        for own, alias in _ALIASES
        if (match := re.fullmatch(own, module))
        for layer in range(config.stages[int(match[1])].layers)
    ]
    return (canonical, *aliases)
