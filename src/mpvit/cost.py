"""A Multi-Path Vision Transformer as a tree of operations, in closed form: exact, in well under a millisecond, no torch.

The tree has the names of the network in ``mpvit.model`` and the arithmetic of Lee et al., CVPR 2022 (arXiv:2112.11010).
Layers of a path cost the same and share one object, so a count's time depends neither on depth nor on image size.
"""

from math import prod

from mpvit.attention import Sizes, get_kind
from mpvit.attention.factorized_crpe import encoding_cost
from mpvit.config import FIRST_STAGE, TRAINED_SIZE, ModelConfig, StageConfig
from mpvit.errors import UsageError
from mpvit.operations import (
    Block,
    Node,
    Operation,
    Shape,
    activation,
    called,
    cat,
    conv,
    elementwise,
    global_pool,
    linear,
    norm,
    registered,
    strided_length,
)


def network(config: ModelConfig, batch: int, height: int, width: int) -> Block:
    """Return the tree of one forward pass over (batch, in_channels, height, width) in evaluation mode.

    Raises ``UsageError`` for a batch or size below 1.
    """
    body = backbone(config, batch, height, width)
    shape = pyramid_shapes(body)[-1]
    children = {**body.children, "pool": global_pool(shape)}
    if config.num_classes:
        children["head"] = linear((batch, shape[1]), config.num_classes)
    return Block(children, module="MPViT")


def backbone(config: ModelConfig, batch: int, height: int, width: int) -> Block:
    """Return the tree of the stem and the stages alone, whose maps are ``pyramid_shapes``; as ``network``."""
    require_lengths(batch, height, width)
    stem = _stem((batch, config.in_channels, height, width), config.stages[0].dim)
    shape = output_shape(stem)
    stages: dict[str, Node] = {}
    for index, stage in enumerate(config.stages):
        _require_tokens(config, index, shape)
        stages[str(index)] = block = _stage(stage, shape, config.next_dim(index), stride=config.stride(index))
        shape = output_shape(block)
    return Block({"stem": stem, "stages": Block(stages)})


def pyramid_shapes(body: Block) -> tuple[Shape, ...]:
    """Return the shape of each stage's map, finest first: what the network's ``forward_features`` gives."""
    return tuple(output_shape(stage) for stage in body.block("stages").children.values())


def require_lengths(batch: int, height: int, width: int) -> None:
    """Raise ``UsageError`` for a batch or image size below 1."""
    for name, value in (("batch", batch), ("height", height), ("width", width)):
        if value < 1:
            raise UsageError(f"{name} = {value}: must be at least 1")


def parts(tree: Block, by: str) -> dict[str, Node]:
    """Cut a network's tree into named parts that sum to it: by ``stage`` or by ``path``, in the paper's numbering.

    A path's patch embedding is charged to the path, and joining the paths to the fusion.
    """
    result: dict[str, Node] = {"stem": tree.children["stem"]}
    for index, stage in tree.block("stages").children.items():
        name = f"stage {int(index) + FIRST_STAGE}"
        if by == "stage" or isinstance(stage, Operation):
            result[name] = stage
            continue
        result |= {f"{name} path {int(path) + 1}": child for path, child in stage.block("paths").children.items()}
        if "local" in stage.children:
            result[f"{name} local"] = stage.children["local"]
        fusion = {part: child for part, child in stage.children.items() if part not in ("paths", "local")}
        result[f"{name} fusion"] = Block(fusion)
    head = {name: child for name, child in tree.children.items() if name in ("pool", "head")}
    if head:
        result["head"] = Block(head)
    return result


def output_shape(node: Node) -> Shape:
    """Return the shape that the last operation of ``node`` gives."""
    while isinstance(node, Block):
        node = next(reversed(node.children.values()))
    return node.output_shape


def _conv_norm_act(shape: Shape, out: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True) -> Block:
    convolution = conv(shape, out, kernel, stride=stride, groups=groups)
    shape = convolution.output_shape
    children: dict[str, Node] = {"conv": convolution, "norm": norm("batch_norm", shape, out)}
    if act:
        children["act"] = activation("hardswish", shape)
    return Block(children, module="ConvNormAct")


def _stem(shape: Shape, dim: int) -> Block:
    first = _conv_norm_act(shape, dim // 2, 3, stride=2)
    return Block({"0": first, "1": _conv_norm_act(output_shape(first), dim, 3, stride=2)}, module="Sequential")


def _patch_embedding(shape: Shape, kernel: int, stride: int) -> Block:
    dim = shape[1]
    depthwise = conv(shape, dim, kernel, stride=stride, groups=dim)
    pointwise = conv(depthwise.output_shape, dim, 1)
    shape = pointwise.output_shape
    return Block(
        {
            "depthwise": depthwise,
            "pointwise": pointwise,
            "norm": norm("batch_norm", shape, dim),
            "act": activation("hardswish", shape),
        },
        module="PatchEmbedding",
    )


def _stage(stage: StageConfig, shape: Shape, out: int, *, stride: int) -> Block:
    batch, dim, height, width = shape
    embedded = (batch, dim, strided_length(height, stride), strided_length(width, stride))
    encoder = _encoder(stage, embedded)
    distinct: dict[tuple[Shape, int, int], Node] = {}
    paths: dict[str, Node] = {}
    for path in range(stage.paths):
        source = embedded if path and stage.patch_embed == "series" else shape
        patches = (source, *stage.embedding(path, stride))
        if patches not in distinct:
            distinct[patches] = Block({"embedding": _patch_embedding(*patches), **encoder}, scope=True, module="Path")
        paths[str(path)] = distinct[patches]
    local: dict[str, Node] = {"local": _local_branch(embedded)} if stage.local else {}
    joined = (batch, stage.joined_dim, *embedded[2:])
    return Block(
        {"paths": Block(paths), **local, **_joined(stage, embedded, joined), "fusion": _conv_norm_act(joined, out, 1)},
        module="Stage",
    )


def _joined(stage: StageConfig, shape: Shape, joined: Shape) -> dict[str, Node]:
    """Return what makes one map of shape ``joined`` of the local branch's and each path's."""
    maps = stage.paths + stage.local
    if stage.fusion == "concat":
        return {"cat": cat([shape] * maps, joined)}
    return {"sum": Block(dict.fromkeys(map(str, range(maps - 1)), elementwise("add", shape, shape)))} if maps > 1 else {}


def _encoder(stage: StageConfig, shape: Shape) -> dict[str, Node]:
    """Return one path behind its embedding: its position encodings, registered once, and the layers that call them."""
    batch, _, height, width = shape
    conv_encoding = _conv_encoding(shape) if stage.cpe else None
    sizes = Sizes(batch, stage.heads, stage.head_dim, height, width)
    relative_encoding = encoding_cost(sizes, stage.crpe_windows) if stage.crpe_windows else None
    layer = _layer(stage, sizes, conv_encoding, relative_encoding)
    encodings = {"cpe": conv_encoding, "crpe": relative_encoding}
    own = {name: registered(encoding) for name, encoding in encodings.items() if encoding}
    return {**own, "layers": Block({str(i): layer for i in range(stage.layers)})}


def _conv_encoding(shape: Shape) -> Block:
    dim = shape[1]
    return Block(
        {"conv": conv(shape, dim, 3, groups=dim, bias=True), "add": elementwise("add", shape, shape)},
        module="ConvPositionEncoding",
    )


def _require_tokens(config: ModelConfig, index: int, shape: Shape) -> None:
    """Raise ``UsageError`` where the attention of stage ``index`` serves another number of tokens."""
    kind, _ = get_kind(config.stages[index].attention)
    stride = 1 if index == 0 else 2
    tokens = strided_length(shape[2], stride) * strided_length(shape[3], stride)
    trained = prod(config.trained_grid(index))
    if kind.fixed_tokens and tokens != trained:
        raise UsageError(
            f"{kind.label} attention over {tokens} tokens in stage {index + FIRST_STAGE}: it serves {trained} alone",
            hint=f"what it learned fits images of {TRAINED_SIZE}x{TRAINED_SIZE} pixels",
        )


def _attention(stage: StageConfig, sizes: Sizes, relative_encoding: Block | None) -> Block:
    tokens = (sizes.batch, sizes.tokens, sizes.dim)
    kind, option = get_kind(stage.attention)
    sizes = sizes._replace(option=option)
    children: dict[str, Node] = {"qkv": linear(tokens, 3 * sizes.dim), "attend": kind.cost(sizes)}
    if relative_encoding:
        children |= {"crpe": called(relative_encoding, "crpe"), "add": elementwise("add", sizes.per_head, sizes.per_head)}
    return Block({**children, "projection": linear(tokens, sizes.dim)}, module="Attention")


def _layer(stage: StageConfig, sizes: Sizes, conv_encoding: Block | None, relative_encoding: Block | None) -> Block:
    tokens = (sizes.batch, sizes.tokens, sizes.dim)
    expand = linear(tokens, stage.hidden_dim)
    mlp = Block(
        {
            "expand": expand,
            "act": activation("gelu", expand.output_shape),
            "contract": linear(expand.output_shape, sizes.dim),
        },
        module="Mlp",
    )
    encoding: dict[str, Node] = {"cpe": called(conv_encoding, "cpe")} if conv_encoding else {}
    return Block(
        {
            **encoding,
            "attention_norm": norm("layer_norm", tokens, sizes.dim),
            "attention": _attention(stage, sizes, relative_encoding),
            "attention_add": elementwise("add", tokens, tokens),
            "mlp_norm": norm("layer_norm", tokens, sizes.dim),
            "mlp": mlp,
            "mlp_add": elementwise("add", tokens, tokens),
        },
        module="TransformerLayer",
    )


def _local_branch(shape: Shape) -> Block:
    dim = shape[1]
    return Block(
        {
            "expand": _conv_norm_act(shape, dim, 1),
            "depthwise": _conv_norm_act(shape, dim, 3, groups=dim),
            "contract": _conv_norm_act(shape, dim, 1, act=False),
            "add": elementwise("add", shape, shape),
        },
        module="LocalBranch",
    )
