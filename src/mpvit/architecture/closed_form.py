"""A Multi-Path Vision Transformer in closed form: its operations, recorded from its configuration without torch.

The blocks have the names of the modules in ``mpvit.model``; the arithmetic is that of Lee et al., CVPR 2022 (arXiv:2112.11010).
Equal layers and paths of a recording in evaluation mode are one object, so a count takes about a millisecond for any depth and
image size.
"""

from math import prod

from mpvit.architecture.config import FIRST_STAGE, TRAINED_SIZE, ModelConfig, StageConfig
from mpvit.attention import Sizes, get_kind
from mpvit.attention.factorized_crpe import ENCODING, record_encoding
from mpvit.errors import UsageError
from mpvit.operations import Block, Node, strided_length
from mpvit.operations.recording import Shared
from mpvit.operations.tape import Tape
from mpvit.operations.tensor_spec import TensorSpec, constant, new


def network(config: ModelConfig, batch: int, height: int, width: int) -> Block:
    """Return the operations of one forward pass over (batch, in_channels, height, width) in evaluation mode.

    Raises ``UsageError`` for a length below 1.
    """
    tape = Tape()
    record_network(tape, config, batch, height, width)
    return tape.tree("MPViT")


def record_network(tape: Tape, config: ModelConfig, batch: int, height: int, width: int) -> TensorSpec:
    """Record the forward pass over (batch, in_channels, height, width) and return the logits, (batch, num_classes).

    Without classes the result is the pooled features, (batch, channels). Raises ``UsageError`` for a length below 1.
    """
    features = record_backbone(tape, config, batch, height, width)[-1]
    pooled = tape.adaptive_pool("pool", features, 1).reshape(features.shape[:2])
    return tape.linear("head", pooled, config.num_classes) if config.num_classes else pooled


def record_backbone(tape: Tape, config: ModelConfig, batch: int, height: int, width: int) -> list[TensorSpec]:
    """Record the stem and the stages and return the feature map of each stage, finest first; errors as ``record_network``."""
    require_lengths(batch, height, width)
    x = tape.call("stem", "Sequential", _stem, constant(batch, config.in_channels, height, width), config.stages[0].dim)
    rates = iter(config.drop_path_rates())
    pyramid: list[TensorSpec] = []
    with tape.group("stages"):
        for index, stage in enumerate(config.stages):
            _require_tokens(config, index, x)
            drops = tuple(tape.training and next(rates) > 0 for _ in range(stage.layers))
            x = tape.call(str(index), "Stage", _stage, x, stage, config.next_dim(index), config.stride(index), drops)
            pyramid.append(x)
    return pyramid


def require_lengths(batch: int, height: int, width: int) -> None:
    """Raise ``UsageError`` for a batch or image size below 1."""
    for name, value in (("batch", batch), ("height", height), ("width", width)):
        if value < 1:
            raise UsageError(f"{name} = {value}: must be at least 1")


def parts(tree: Block, by: str) -> dict[str, Node]:
    """Return named parts of a network's tree that sum to it: by ``stage`` or by ``path``, with the numbers of the paper.

    A path includes its patch embedding; the fusion of a stage includes the concatenation or sum of its paths.
    """
    found: dict[str, Node] = {"stem": tree.children["stem"]}
    for index in tree.block("stages").children:
        stage, name = tree.block("stages").block(index), f"stage {int(index) + FIRST_STAGE}"
        if by == "stage":
            found[name] = stage
            continue
        pieces = dict(stage.children)
        del pieces["paths"]
        found |= {f"{name} path {int(path) + 1}": child for path, child in stage.block("paths").children.items()}
        if "local" in pieces:
            found[f"{name} local"] = pieces.pop("local")
        found[f"{name} fusion"] = Block(pieces)
    head = {name: child for name, child in tree.children.items() if name in ("pool", "head")}
    return found | ({"head": Block(head)} if head else {})


# ── modules, in the order of mpvit.model ────────────────────────────────────────────────────────────────────────────


def _conv_norm_act(
    tape: Tape, x: TensorSpec, out: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "hardswish"
) -> TensorSpec:
    x = tape.norm("norm", "batch_norm", tape.conv("conv", x, out, kernel, stride=stride, groups=groups))
    return tape.activation("act", act, x) if act else x


def _stem(tape: Tape, x: TensorSpec, dim: int) -> TensorSpec:
    for index, out in enumerate((dim // 2, dim)):
        x = tape.call(str(index), "ConvNormAct", _conv_norm_act, x, out, 3, 2)
    return x


def _stage(tape: Tape, x: TensorSpec, stage: StageConfig, out: int, stride: int, drops: tuple[bool, ...]) -> TensorSpec:
    scales: list[TensorSpec] = []
    maps: list[TensorSpec] = []
    with tape.group("paths"):
        for path in range(stage.paths):
            embedded, encoded = tape.call(str(path), "Path", _path, x, stage, *stage.embedding(path, stride), drops)
            if stage.patch_embed == "series":
                x = embedded
            scales.append(embedded)
            maps.append(encoded)
    if stage.local:
        maps.insert(0, tape.call("local", "LocalBranch", _local_branch, scales[0]))
    return tape.call("fusion", "ConvNormAct", _conv_norm_act, _joined(tape, stage, maps), out, 1)


def _joined(tape: Tape, stage: StageConfig, maps: list[TensorSpec]) -> TensorSpec:
    if stage.fusion == "concat":
        return tape.cat("cat", maps)
    if len(maps) == 1:
        return maps[0]
    return tape.total("sum", maps)


def _path(
    tape: Tape, x: TensorSpec, stage: StageConfig, kernel: int, stride: int, drops: tuple[bool, ...]
) -> tuple[TensorSpec, TensorSpec]:
    """Return the embedded feature map and the same map after the layers."""
    embedded = tape.call("embedding", "PatchEmbedding", _patch_embedding, x, kernel, stride)
    batch, _, height, width = embedded.shape
    sizes = Sizes(batch, stage.heads, stage.head_dim, height, width)
    tokens = embedded.rearrange("b c h w -> b (h w) c")
    cpe = tape.register("cpe", "ConvPositionEncoding", _position_encoding, tokens, sizes) if stage.cpe else None
    crpe = None
    if stage.crpe_windows:
        per_head = new(sizes.per_head)
        crpe = tape.register("crpe", ENCODING, record_encoding, per_head, per_head, sizes, stage.crpe_windows)
    with tape.group("layers"):
        for index, drop in enumerate(drops):
            tokens = tape.call(str(index), "TransformerLayer", _layer, tokens, stage, sizes, cpe, crpe, drop)
    return embedded, tokens.rearrange("b (h w) c -> b c h w", h=height, w=width)


def _patch_embedding(tape: Tape, x: TensorSpec, kernel: int, stride: int) -> TensorSpec:
    dim = x.shape[1]
    x = tape.conv("depthwise", x, dim, kernel, stride=stride, groups=dim)
    x = tape.norm("norm", "batch_norm", tape.conv("pointwise", x, dim, 1))
    return tape.activation("act", "hardswish", x)


def _position_encoding(tape: Tape, tokens: TensorSpec, sizes: Sizes) -> TensorSpec:
    on_grid = tokens.rearrange("b (h w) c -> b c h w", h=sizes.height, w=sizes.width)
    encoded = tape.conv("conv", on_grid, sizes.dim, 3, groups=sizes.dim, bias=True)
    return tape.elementwise("add", "add", encoded, on_grid).rearrange("b c h w -> b (h w) c")


def _layer(
    tape: Tape,
    tokens: TensorSpec,
    stage: StageConfig,
    sizes: Sizes,
    cpe: Shared | None,
    crpe: Shared | None,
    drop: bool,  # noqa: FBT001 - a tape passes arguments by position
) -> TensorSpec:
    def residual(name: str, x: TensorSpec, branch: TensorSpec) -> TensorSpec:
        if drop:
            branch = tape.elementwise(f"{name}_drop", "mul", branch, constant(sizes.batch, 1, 1, dtype=branch.dtype))
        return tape.elementwise(f"{name}_add", "add", x, branch)

    if cpe:
        tokens = tape.call_shared("cpe", cpe, tokens, sizes)
    normed = tape.norm("attention_norm", "layer_norm", tokens)
    attended = tape.call("attention", "Attention", _attention, normed, stage, sizes, crpe)
    tokens = residual("attention", tokens, attended)
    normed = tape.norm("mlp_norm", "layer_norm", tokens)
    return residual("mlp", tokens, tape.call("mlp", "Mlp", _mlp, normed, stage.hidden_dim))


def _mlp(tape: Tape, tokens: TensorSpec, hidden: int) -> TensorSpec:
    expanded = tape.activation("act", "gelu", tape.linear("expand", tokens, hidden))
    return tape.linear("contract", expanded, tokens.shape[-1])


def _attention(tape: Tape, tokens: TensorSpec, stage: StageConfig, sizes: Sizes, crpe: Shared | None) -> TensorSpec:
    kind, option = get_kind(stage.attention)
    projected = tape.linear("qkv", tokens, 3 * stage.dim)
    split = projected.rearrange("b n (three heads d) -> three b heads n d", three=3, heads=stage.heads)
    query, key, value = split.unbind()
    with tape.group("attend"):
        attended = kind.record(tape, query, key, value, sizes._replace(option=option))
    if crpe:
        encoded = tape.call_shared("crpe", crpe, query, value, sizes, stage.crpe_windows)
        attended = tape.elementwise("add", "add", attended, encoded)
    return tape.linear("projection", attended.rearrange("b heads n d -> b n (heads d)"), stage.dim)


def _local_branch(tape: Tape, x: TensorSpec) -> TensorSpec:
    dim = x.shape[1]
    y = tape.call("expand", "ConvNormAct", _conv_norm_act, x, dim, 1)
    y = tape.call("depthwise", "ConvNormAct", _conv_norm_act, y, dim, 3, 1, dim)
    y = tape.call("contract", "ConvNormAct", _conv_norm_act, y, dim, 1, 1, 1, "")
    return tape.elementwise("add", "add", x, y)


def _require_tokens(config: ModelConfig, index: int, x: TensorSpec) -> None:
    """Raise ``UsageError`` if the attention of stage ``index`` has parameters for another number of tokens."""
    kind, _ = get_kind(config.stages[index].attention)
    tokens = prod(strided_length(length, config.stride(index)) for length in x.shape[2:])
    trained = prod(config.trained_grid(index))
    if kind.fixed_tokens and tokens != trained:
        raise UsageError(
            f"{kind.label} attention over {tokens} tokens in stage {index + FIRST_STAGE}: its parameters are for {trained}",
            hint=f"choose images of {TRAINED_SIZE}x{TRAINED_SIZE} pixels",
        )
