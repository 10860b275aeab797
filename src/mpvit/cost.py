"""A Multi-Path Vision Transformer as a tree of operations, in closed form: exact, in well under a millisecond, no torch.

The tree has the names of the network in ``mpvit.model`` and the arithmetic of Lee et al., CVPR 2022 (arXiv:2112.11010).
Layers of a path cost the same and share one object, so a count's time depends neither on depth nor on image size.
"""

from mpvit.attention import factorized
from mpvit.config import FIRST_STAGE, ModelConfig, StageConfig
from mpvit.errors import UsageError
from mpvit.operations import (
    Block,
    Node,
    Operation,
    Shape,
    called,
    conv,
    elementwise,
    global_pool,
    linear,
    norm,
    registered,
)


def network(config: ModelConfig, batch: int, height: int, width: int) -> Block:
    """Return the tree of one forward pass over (batch, in_channels, height, width) in evaluation mode.

    Raises ``UsageError`` for a batch or size below 1.
    """
    for name, value in (("batch", batch), ("height", height), ("width", width)):
        if value < 1:
            raise UsageError(f"{name} = {value}: must be at least 1")
    first = config.stages[0].dim
    stem = _stem((batch, config.in_channels, height, width), first)
    shape = output_shape(stem)
    stages: dict[str, Node] = {}
    for index, stage in enumerate(config.stages):
        stages[str(index)] = block = _stage(stage, shape, config.next_dim(index), stride=1 if index == 0 else 2)
        shape = output_shape(block)
    pool = global_pool(shape)
    children: dict[str, Node] = {"stem": stem, "stages": Block(stages), "pool": pool}
    if config.num_classes:
        children["head"] = linear((batch, shape[1]), config.num_classes)
    return Block(children)


def parts(tree: Block, by: str) -> dict[str, Node]:
    """Cut a network's tree into named parts that sum to it: by ``stage`` or by ``path``, in the paper's numbering.

    A path's patch embedding is charged to the path.
    """
    result: dict[str, Node] = {"stem": tree.children["stem"]}
    for index, stage in tree.block("stages").children.items():
        name = f"stage {int(index) + FIRST_STAGE}"
        if by == "stage" or isinstance(stage, Operation):
            result[name] = stage
            continue
        result |= {f"{name} path {int(path) + 1}": child for path, child in stage.block("paths").children.items()}
        result |= {f"{name} {branch}": stage.children[branch] for branch in ("local", "fusion")}
    result["head"] = Block({name: tree.children[name] for name in ("pool", "head") if name in tree.children})
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
        children["act"] = elementwise("activation", shape)
    return Block(children)


def _stem(shape: Shape, dim: int) -> Block:
    first = _conv_norm_act(shape, dim // 2, 3, stride=2)
    return Block({"0": first, "1": _conv_norm_act(output_shape(first), dim, 3, stride=2)})


def _patch_embedding(shape: Shape, stride: int) -> Block:
    dim = shape[1]
    depthwise = conv(shape, dim, 3, stride=stride, groups=dim)
    pointwise = conv(depthwise.output_shape, dim, 1)
    shape = pointwise.output_shape
    return Block(
        {
            "depthwise": depthwise,
            "pointwise": pointwise,
            "norm": norm("batch_norm", shape, dim),
            "act": elementwise("activation", shape),
        }
    )


def _stage(stage: StageConfig, shape: Shape, out: int, *, stride: int) -> Block:
    embedding = _patch_embedding(shape, stride)
    shape = output_shape(embedding)
    encoder = _encoder(stage, shape)
    first = Block({"embedding": embedding, **encoder}, scope=True)
    other = Block({"embedding": _patch_embedding(shape, 1), **encoder}, scope=True)
    paths: dict[str, Node] = {str(i): other if i else first for i in range(stage.paths)}
    batch, dim, height, width = shape
    joined = (batch, (stage.paths + 1) * dim, height, width)
    return Block(
        {"paths": Block(paths), "local": _local_branch(shape), "fusion": _conv_norm_act(joined, out, 1)},
    )


def _encoder(stage: StageConfig, shape: Shape) -> dict[str, Node]:
    """Return one path behind its embedding: two position encodings, registered once, and the layers that call them."""
    batch, dim, height, width = shape
    conv_encoding = Block({"conv": conv(shape, dim, 3, groups=dim, bias=True), "add": elementwise("add", shape)})
    convs: dict[str, Node] = {}
    for index, (window, heads) in enumerate(stage.head_windows()):
        channels = heads * stage.head_dim
        convs[str(index)] = conv((batch, channels, height, width), channels, window, groups=channels, bias=True)
    per_head = (batch, stage.heads, height * width, stage.head_dim)
    relative_encoding = Block({"convs": Block(convs), "mul": elementwise("mul", per_head)})
    layer = _layer(stage, shape, conv_encoding, relative_encoding)
    return {
        "cpe": registered(conv_encoding),
        "crpe": registered(relative_encoding),
        "layers": Block({str(i): layer for i in range(stage.layers)}),
    }


def _layer(stage: StageConfig, shape: Shape, conv_encoding: Block, relative_encoding: Block) -> Block:
    batch, dim, height, width = shape
    tokens = (batch, height * width, dim)
    per_head = (batch, stage.heads, height * width, stage.head_dim)
    attention = Block(
        {
            "qkv": linear(tokens, 3 * dim),
            "attend": factorized.cost(batch, stage.heads, height * width, stage.head_dim),
            "scale": elementwise("mul", per_head),
            "crpe": called(relative_encoding, "crpe"),
            "add": elementwise("add", per_head),
            "projection": linear(tokens, dim),
        }
    )
    expand = linear(tokens, stage.hidden_dim)
    mlp = Block(
        {
            "expand": expand,
            "act": elementwise("activation", expand.output_shape),
            "contract": linear(expand.output_shape, dim),
        }
    )
    return Block(
        {
            "cpe": called(conv_encoding, "cpe"),
            "attention_norm": norm("layer_norm", tokens, dim),
            "attention": attention,
            "attention_add": elementwise("add", tokens),
            "mlp_norm": norm("layer_norm", tokens, dim),
            "mlp": mlp,
            "mlp_add": elementwise("add", tokens),
        }
    )


def _local_branch(shape: Shape) -> Block:
    dim = shape[1]
    return Block(
        {
            "expand": _conv_norm_act(shape, dim, 1),
            "depthwise": _conv_norm_act(shape, dim, 3, groups=dim),
            "contract": _conv_norm_act(shape, dim, 1, act=False),
            "add": elementwise("add", shape),
        }
    )
