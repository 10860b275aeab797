"""The authors' checkpoints: their names of this network's tensors, and their arrangement of its modules.

Each layer of a path registers the two position encodings of the path again, so that one tensor has a canonical name and
aliases. Patch embeddings and transformer blocks are in two lists of stages.
"""

import re

from mpvit.architecture.config import ModelConfig
from mpvit.operations import Block, Node, Operation

_RENAMES = tuple(
    (re.compile(own), published)
    for own, published in (
        (r"^stages\.(\d+)\.paths\.(\d+)\.embedding\b", r"patch_embed_stages.\1.patch_embeds.\2.patch_conv"),
        (r"^stages\.(\d+)\.paths\b", r"mhca_stages.\1.mhca_blks"),
        (r"^stages\b", "mhca_stages"),
        (r"\blocal\.expand\b", "InvRes.conv1"),
        (r"\blocal\.contract\b", "InvRes.conv2"),
        (r"\blocal\.depthwise\.conv\b", "InvRes.dwconv"),
        (r"\blocal(\.depthwise)?\b", "InvRes"),
        (r"\bfusion\b", "aggregate"),
        (r"\b(stem\.\d+|patch_conv|conv\d|aggregate)\.norm$", r"\1.bn"),
        (r"\bdepthwise\b", "dwconv"),
        (r"\bpointwise\b", "pwconv"),
        (r"\bcpe\.conv\b", "cpe.proj"),
        (r"\bcrpe\.convs\b", "crpe.conv_list"),
        (r"\blayers\b", "MHCA_layers"),
        (r"\battention_norm\b", "norm1"),
        (r"\battention\b", "factoratt_crpe"),
        (r"\bprojection\b", "proj"),
        (r"\bmlp_norm\b", "norm2"),
        (r"\bmlp\.expand\b", "mlp.fc1"),
        (r"\bmlp\.contract\b", "mlp.fc2"),
        (r"^head\b", "cls_head.cls"),
    )
)
"""Substitutions that turn the name of a module into its canonical published name, one after another."""


def is_published(name: str) -> bool:
    """Return whether only checkpoints of the published layout have a tensor of this name."""
    return name.startswith(("patch_embed_stages.", "mhca_stages.", "cls_head."))


def published_names(tensor: str, config: ModelConfig) -> tuple[str, ...]:
    """Return the published names of this network's ``tensor``: the canonical name, then the aliases."""
    module, _, word = tensor.rpartition(".")
    return tuple(f"{name}.{word}" for name in published_aliases(_renamed(module), config))


def published_aliases(module: str, config: ModelConfig) -> tuple[str, ...]:
    """Return all published names of a module, the canonical name ``module`` first."""
    shared = re.fullmatch(r"(mhca_stages\.(\d+)\.mhca_blks\.\d+)\.(cr?pe(?:\..*)?)", module)
    if not shared:
        return (module,)
    block, stage, encoding = shared.groups()
    places = ("", "factoratt_crpe.") if encoding.startswith("crpe") else ("",)
    layers = range(config.stages[int(stage)].layers)
    return (module, *(f"{block}.MHCA_layers.{layer}.{place}{encoding}" for layer in layers for place in places))


def published_tree(tree: Block) -> Block:
    """Return a network's tree (``mpvit.architecture.closed_form.network``) in the published arrangement of its modules."""
    children: dict[str, Node] = {"stem": _renamed_node(tree.children["stem"], "stem")}
    for index in tree.block("stages").children:
        path = f"stages.{index}"
        stage = tree.block("stages").block(index)
        embeddings: dict[str, Node] = {}
        blocks: dict[str, Node] = {}
        for name in stage.block("paths").children:
            layers = dict(stage.block("paths").block(name).children)
            embedding = _renamed_node(layers.pop("embedding"), f"{path}.paths.{name}.embedding")
            embeddings[name] = Block({"patch_conv": embedding})
            blocks[name] = Block(layers, scope=True, module="Block")
        local = {name: child for name, child in stage.children.items() if name == "local"}  # runs before the blocks
        parts = {**local, **stage.children, "paths": Block(blocks)}
        children[f"patch_embed_stages.{index}"] = Block({"patch_embeds": Block(embeddings)}, module="PatchEmbeddings")
        children[f"mhca_stages.{index}"] = _renamed_node(stage._replace(children=parts), path)
    children["pool"] = tree.children["pool"]
    if "head" in tree.children:
        children["cls_head"] = Block({"cls": tree.children["head"]}, module="Head")
    return Block(children, module=tree.module)


def _renamed(module: str) -> str:
    for own, published in _RENAMES:
        module = own.sub(published, module)
    return module


def _renamed_node(node: Node, path: str) -> Node:
    """Return the node at ``path`` with published names below it; the children of a module without such a name move up."""
    if isinstance(node, Operation):
        return node._replace(shared=_renamed(node.shared))
    children: dict[str, Node] = {}
    for name, child in node.children.items():
        inner = _renamed_node(child, f"{path}.{name}")
        relative = _renamed(f"{path}.{name}").removeprefix(_renamed(path)).removeprefix(".")
        if relative or isinstance(inner, Operation):
            children[relative] = inner
        else:
            children |= inner.children
    return Block(children, node.scope, node.module, _renamed(node.shared))
