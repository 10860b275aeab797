"""The published checkpoints: their names for this network's tensors, and their arrangement of its modules.

They register the two position encodings of a path again in every layer that shares them: one tensor has a canonical name and
its aliases. Patch embeddings and transformer blocks are in two separate lists of stages.
"""

import re

from mpvit.config import ModelConfig
from mpvit.operations import Block, Node, Operation

_RENAMES = (
    (r"^stages\.(\d+)\.paths\.(\d+)\.embedding", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv"),
    (r"^stages\.(\d+)\.paths\.(\d+)", r"mhca_stages.\1.mhca_blks.\2"),
    (r"^stages\.(\d+)\.local", r"mhca_stages.\1.InvRes"),
    (r"^stages\.(\d+)\.fusion", r"mhca_stages.\1.aggregate"),
    (r"^head$", r"cls_head.cls"),
    (r"InvRes\.depthwise\.conv", r"InvRes.dwconv"),
    (r"InvRes\.depthwise\.norm", r"InvRes.norm"),
    (r"InvRes\.expand", r"InvRes.conv1"),
    (r"InvRes\.contract", r"InvRes.conv2"),
    (r"patch_conv\.depthwise", r"patch_conv.dwconv"),
    (r"patch_conv\.pointwise", r"patch_conv.pwconv"),
    (r"(stem\.\d+|patch_conv|InvRes\.conv\d|aggregate)\.norm", r"\1.bn"),
    (r"\bcpe\.conv", r"cpe.proj"),
    (r"\bcrpe\.convs", r"crpe.conv_list"),
    (r"\.layers\b", r".MHCA_layers"),
    (r"\.attention_norm", r".norm1"),
    (r"\.attention\b", r".factoratt_crpe"),
    (r"factoratt_crpe\.projection", r"factoratt_crpe.proj"),
    (r"\.mlp_norm", r".norm2"),
    (r"mlp\.expand", r"mlp.fc1"),
    (r"mlp\.contract", r"mlp.fc2"),
)
"""Replacements, in order, that turn the name of a module here into its canonical published name."""


def is_published(name: str) -> bool:
    """Return whether only a checkpoint in the published layout can hold a tensor of this name."""
    return name.startswith(("patch_embed_stages.", "mhca_stages.", "cls_head."))


def published_names(tensor: str, config: ModelConfig) -> tuple[str, ...]:
    """Return the published names of this network's ``tensor``: the canonical one, then its aliases."""
    module, _, word = tensor.rpartition(".")
    stage = re.match(r"stages\.(\d+)\.", module)
    layers = config.stages[int(stage[1])].layers if stage else 0
    return tuple(f"{name}.{word}" for name in published_aliases(_published_name(module), layers))


def published_aliases(name: str, layers: int) -> tuple[str, ...]:
    """Return all published names of the module ``name`` in a block of ``layers`` layers, its own first."""
    shared = re.fullmatch(r"(.*\.mhca_blks\.\d+)\.(cr?pe(?:\..*)?)", name)
    if not shared:
        return (name,)
    block, module = shared.groups()
    homes = ("", "factoratt_crpe.") if module.startswith("crpe") else ("",)
    return (name, *(f"{block}.MHCA_layers.{layer}.{home}{module}" for layer in range(layers) for home in homes))


def published_tree(tree: Block) -> Block:
    """Return a network's tree of operations in closed form as the published network arranges its modules."""
    children: dict[str, Node] = {"stem": _renamed(tree.children["stem"], "stem")}
    for index, stage in tree.block("stages").children.items():
        assert isinstance(stage, Block)  # noqa: S101 - an internal invariant
        children |= {
            f"patch_embed_stages.{index}": _embeddings(stage, f"stages.{index}"),
            f"mhca_stages.{index}": _blocks(stage, f"stages.{index}"),
        }
    children["pool"] = tree.children["pool"]
    if "head" in tree.children:
        children["cls_head"] = Block({"cls": tree.children["head"]}, module="Head")
    return Block(children, module=tree.module)


def _embeddings(stage: Block, path: str) -> Block:
    patches: dict[str, Node] = {
        index: Block({"patch_conv": _renamed(each.block("embedding"), f"{path}.paths.{index}.embedding")})
        for index, each in stage.block("paths").children.items()
        if isinstance(each, Block)
    }
    return Block({"patch_embeds": Block(patches)}, module="PatchEmbeddings")


def _blocks(stage: Block, path: str) -> Block:
    blocks: dict[str, Node] = {}
    for index, each in stage.block("paths").children.items():
        block = _renamed(each, f"{path}.paths.{index}")
        assert isinstance(block, Block)  # noqa: S101 - an internal invariant
        blocks[index] = Block(
            {name: child for name, child in block.children.items() if name != "patch_conv"}, scope=True, module="Block"
        )
    local: dict[str, Node] = {"InvRes": _renamed(stage.block("local"), f"{path}.local")} if "local" in stage.children else {}
    join: dict[str, Node] = {name: stage.children[name] for name in ("cat", "sum") if name in stage.children}
    fusion = _renamed(stage.children["fusion"], f"{path}.fusion")
    return Block({**local, "mhca_blks": Block(blocks), **join, "aggregate": fusion}, module=stage.module)


def _renamed(node: Node, path: str) -> Node:
    """Return ``node``, whose name here is ``path``, with the published names of everything below it."""
    shared = _published_name(node.shared)
    if isinstance(node, Operation):
        return node._replace(shared=shared)
    children: dict[str, Node] = {}
    for name, child in node.children.items():
        if node.module == "LocalBranch" and name == "depthwise" and isinstance(child, Block):
            children |= {"dwconv": child.children["conv"], "norm": child.children["norm"], "act": child.children["act"]}
        else:
            children[_published_name(f"{path}.{name}").rpartition(".")[2]] = _renamed(child, f"{path}.{name}")
    return Block(children, node.scope, node.module, shared)


def _published_name(module: str) -> str:
    for own, published in _RENAMES:
        module = re.sub(own, published, module)
    return module
