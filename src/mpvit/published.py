"""The authors' checkpoints: their names of this network's tensors, and their arrangement of its modules.

There, a path's two position encodings are registered again in each layer that shares them: the same tensor stands under
one canonical name and its aliases. Embeddings and transformer blocks stand in two lists of stages.
"""

import re

from mpvit.config import ModelConfig
from mpvit.operations import Block, Node, Operation

_BLOCK = r"mhca_stages.\1.mhca_blks.\2"
_PATH = r"stages\.(\d+)\.paths\.(\d+)"

_NAMES = (
    (r"stem\.(\d+)\.conv", r"stem.\1.conv"),
    (r"stem\.(\d+)\.norm", r"stem.\1.bn"),
    (_PATH + r"\.embedding\.depthwise", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv.dwconv"),
    (_PATH + r"\.embedding\.pointwise", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv.pwconv"),
    (_PATH + r"\.embedding\.norm", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv.bn"),
    (_PATH + r"\.cpe\.conv", _BLOCK + r".cpe.proj"),
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
    (_PATH + r"\.cpe\.conv", _BLOCK + r".MHCA_layers.{layer}.cpe.proj"),
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
    canonical = next(re.sub(own, published, module) for own, published in _NAMES if re.fullmatch(own, module))
    aliases = [
        match.expand(alias).format(layer=layer)
        for own, alias in _ALIASES
        if (match := re.fullmatch(own, module))
        for layer in range(config.stages[int(match[1])].layers)
    ]
    return tuple(f"{name}.{word}" for name in (canonical, *aliases))


# ── modules ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_CHILDREN = {
    "ConvNormAct": {"norm": "bn"},
    "PatchEmbedding": {"depthwise": "dwconv", "pointwise": "pwconv", "norm": "bn"},
    "ConvPositionEncoding": {"conv": "proj"},
    "ConvRelativePositionEncoding": {"convs": "conv_list"},
    "Attention": {"projection": "proj"},
    "Mlp": {"expand": "fc1", "contract": "fc2"},
    "TransformerLayer": {"attention_norm": "norm1", "attention": "factoratt_crpe", "mlp_norm": "norm2"},
    "LocalBranch": {"expand": "conv1", "contract": "conv2"},
}
"""By a module's class here, the published names of its children."""


def published_tree(tree: Block) -> Block:
    """Return a network's tree (``mpvit.closed_form.network``) as the published network arranges its modules."""
    embeddings: dict[str, Node] = {}
    stages: dict[str, Node] = {}
    calls: dict[str, Node] = {}
    for name, stage in tree.block("stages").children.items():
        assert isinstance(stage, Block)  # noqa: S101 - an internal invariant
        embeddings[name], stages[name] = _embeddings(stage), _blocks(stage)
    first, last = {"stem": _renamed(tree.children["stem"])}, {}
    if "head" in tree.children:
        last["cls_head"] = Block({"cls": tree.children["head"]}, module="Head")
    for name, stage in stages.items():
        calls |= {f"patch_embed_stages.{name}": embeddings[name], f"mhca_stages.{name}": stage}
    return Block({**first, **calls, "pool": tree.children["pool"], **last}, module=tree.module)


def published_aliases(name: str, layers: int) -> tuple[str, ...]:
    """Return all published names of the module ``name`` in a block of so many layers, its own first."""
    shared = re.fullmatch(r"(.*\.mhca_blks\.\d+)\.(c(?:r?)pe(?:\..*)?)", name)
    if not shared:
        return (name,)
    block, module = shared.groups()
    homes = ("", "factoratt_crpe.") if module.startswith("crpe") else ("",)
    return (name, *(f"{block}.MHCA_layers.{layer}.{home}{module}" for layer in range(layers) for home in homes))


def _embeddings(stage: Block) -> Block:
    paths = stage.block("paths").children
    patches = {
        name: Block({"patch_conv": _renamed(path.block("embedding"))})
        for name, path in paths.items()
        if isinstance(path, Block)
    }
    return Block({"patch_embeds": Block({**patches})}, module="PatchEmbeddings")


def _blocks(stage: Block) -> Block:
    blocks: dict[str, Node] = {}
    for name, path in stage.block("paths").children.items():
        assert isinstance(path, Block)  # noqa: S101 - an internal invariant
        children = {"MHCA_layers" if key == "layers" else key: _renamed(child) for key, child in path.children.items()}
        del children["embedding"]
        blocks[name] = Block(children, scope=True, module="Block")
    local: dict[str, Node] = {"InvRes": _renamed(stage.block("local"))} if "local" in stage.children else {}
    join: dict[str, Node] = {name: stage.children[name] for name in ("cat", "sum") if name in stage.children}
    fusion = _renamed(stage.children["fusion"])
    return Block({**local, "mhca_blks": Block(blocks), **join, "aggregate": fusion}, module=stage.module)


def _renamed(node: Node) -> Node:
    """Return ``node`` with the published names of all below it."""
    shared = re.sub(r"^cpe\.conv$", "cpe.proj", node.shared.replace("crpe.convs", "crpe.conv_list"))
    if isinstance(node, Operation):
        return node._replace(shared=shared)
    names = _CHILDREN.get(node.module, {})
    children: dict[str, Node] = {}
    for name, child in node.children.items():
        if node.module == "LocalBranch" and name == "depthwise" and isinstance(child, Block):
            children |= {"dwconv": child.children["conv"], "norm": child.children["norm"], "act": child.children["act"]}
        else:
            children[names.get(name, name)] = _renamed(child)
    return Block(children, node.scope, node.module, shared)
