"""What autograd keeps of a Multi-Path Vision Transformer in training, from its configuration, without torch.

The steps are those of ``mpvit.model``, on a tape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

from mpvit import dense
from mpvit.attention import Sizes, get_kind
from mpvit.attention.factorized_crpe import record_encoding
from mpvit.config import ModelConfig, StageConfig
from mpvit.cost import network
from mpvit.dense import Head, Task
from mpvit.operations import Block, Operation, Shape, walk
from mpvit.operations.strided import Strided, new
from mpvit.operations.tape import Tape, constant, parameter
from mpvit.registry import resolve
from mpvit.training_memory import Activations, Learned, Setting, TrainingMemory, with_largest_batch
from mpvit.units import ITEM_BYTES


def training_memory(
    config: ModelConfig, size: tuple[int, int], *, batch: int, setting: Setting, name: str, task: Task | None = None
) -> TrainingMemory:
    """Return what training the network of ``config`` takes, or a ``task`` on it; ``size`` is (height, width) in pixels.

    It ends at the raw outputs: what a loss keeps of them is left out. Raises ``UsageError`` for a length below 1, and where
    batch norm would see one value a channel.
    """

    def step(samples: int) -> TrainingMemory:
        tree = dense.network(config, task, samples, *size) if task else network(config, samples, *size)
        shape = samples, config.in_channels, *size
        return training_step(config, tree, shape, setting=setting, name=name, task=task)

    return with_largest_batch(step(batch), lambda samples: step(samples).activations, evenly=task is None)


def training_step(
    config: ModelConfig,
    tree: Block,
    shape: tuple[int, int, int, int],
    *,
    setting: Setting,
    name: str,
    task: Task | None = None,
) -> TrainingMemory:
    """Return what a step on an input of ``shape`` takes, ``tree`` being what ``network`` gives for it; no largest batch.

    Raises ``UsageError`` where batch norm would see one value a channel.
    """
    batch, _, height, width = shape
    operations = [operation for _, _, operation in walk(tree)]
    params = sum(operation.params for operation in operations)
    nbytes = ITEM_BYTES["float32"] * params
    tape, outputs = _recorded(config, shape, task, autocast=setting.autocast)
    transient = _transient(operations, setting) if task is None else _transient_of_task(operations, tape, outputs, setting)
    return TrainingMemory(
        model=name,
        task=task,
        input_shapes=dense.input_shapes(config, task, batch, height, width),
        setting=setting,
        learned=Learned(params, nbytes, nbytes, sum(map(_tensors, operations))),
        activations=Activations(tape.saved_bytes, transient),
    )


def _transient(operations: Sequence[Operation], setting: Setting) -> int:
    return ITEM_BYTES[setting.dtype] * max(_held(operation) for operation in operations if operation.calls)


def _transient_of_task(operations: Sequence[Operation], tape: Tape, outputs: Sequence[Strided], setting: Setting) -> int:
    """Return what a step of a task holds beside: outputs are large, and weights as large as maps.

    That is the outputs that nothing keeps already, the gradients of shared parameters, which wait for all calls, and the
    largest call with the gradients of its own parameters.
    """
    free = {x.storage: None for x in outputs if x.storage not in tape.saved}
    waiting = sum(operation.params for operation in operations if not operation.calls)
    largest = max(
        ITEM_BYTES[setting.dtype] * _held(operation) + ITEM_BYTES["float32"] * operation.params
        for operation in operations
        if operation.calls
    )
    return sum(storage.nbytes for storage in free) + ITEM_BYTES["float32"] * waiting + largest


def _held(operation: Operation) -> int:
    """Return the elements of a call's operands and result, parameters left out."""
    return sum(map(prod, (operation.input_shape, *operation.others, operation.output_shape)))


def _tensors(operation: Operation) -> int:
    """Return how many parameter tensors it owns; a batch norm's statistics, which stand first, are none."""
    return min(len(operation.weights), len(operation.weight_names)) if operation.params else 0


def record_network(
    config: ModelConfig, batch: int, height: int, width: int, *, autocast: bool = False, task: Task | None = None
) -> Tape:
    """Return the tape of a forward pass over (batch, in_channels, height, width) in training mode.

    ``autocast`` takes the CPU's rules for bfloat16. Raises ``UsageError`` where batch norm would see one value a channel.
    """
    return _recorded(config, (batch, config.in_channels, height, width), task, autocast=autocast)[0]


def _recorded(config: ModelConfig, shape: Shape, task: Task | None, *, autocast: bool) -> tuple[Tape, list[Strided]]:
    """Return the tape, and the raw outputs."""
    tape = Tape(autocast)
    pyramid = _backbone(tape, config, constant(*shape))
    if task:
        head: Head = resolve(task.head)
        return tape, head.record(tape, pyramid, task, (shape[2], shape[3]))
    pooled = new(pyramid[-1].shape[:2], pyramid[-1].dtype)
    return tape, [tape.linear(pooled, parameter(config.num_classes, pooled.shape[1])) if config.num_classes else pooled]


def _backbone(tape: Tape, config: ModelConfig, x: Strided) -> list[Strided]:
    """Record the stem and the stages and return each stage's map."""
    pyramid: list[Strided] = []
    first = config.stages[0].dim
    for out in (first // 2, first):
        x = _conv_norm_act(tape, x, out, 3, stride=2)
    rates = iter(config.drop_path_rates())
    for index, stage in enumerate(config.stages):
        dropped = [next(rates) > 0 for _ in range(stage.layers)]
        x = _stage(tape, x, stage, config.next_dim(index), stride=config.stride(index), dropped=dropped)
        pyramid.append(x)
    return pyramid


def _conv_norm_act(
    tape: Tape, x: Strided, out: int, kernel: int, *, stride: int = 1, depthwise: bool = False, act: bool = True
) -> Strided:
    weight = parameter(out, 1 if depthwise else x.shape[1], kernel, kernel)
    x = tape.batch_norm(tape.conv(x, weight, stride))
    return tape.activation(x) if act else x


def _stage(tape: Tape, x: Strided, stage: StageConfig, out: int, *, stride: int, dropped: list[bool]) -> Strided:
    scales: list[Strided] = []
    maps: list[Strided] = []
    for path in range(stage.paths):
        kernel, step = stage.embedding(path, stride)
        embedded = tape.conv(x, parameter(stage.dim, 1, kernel, kernel), step)
        embedded = _conv_norm_act(tape, embedded, stage.dim, 1)
        if stage.patch_embed == "series":
            x = embedded
        scales.append(embedded)
        maps.append(_layers(tape, embedded, stage, dropped))
    if stage.local:
        local = _conv_norm_act(tape, scales[0], stage.dim, 1)
        local = _conv_norm_act(tape, local, stage.dim, 3, depthwise=True)
        maps.insert(0, tape.add(scales[0], _conv_norm_act(tape, local, stage.dim, 1, act=False)))
    return _conv_norm_act(tape, tape.cat(maps) if stage.fusion == "concat" else reduce(tape.add, maps), out, 1)


@dataclass(frozen=True, slots=True)
class _Encodings:
    """The weights of a path's position encodings, which its layers share."""

    cpe: Strided | None
    crpe: tuple[Strided, ...]


def _layers(tape: Tape, embedded: Strided, stage: StageConfig, dropped: list[bool]) -> Strided:
    """Record a path's layers and return the map that they give."""
    windows = stage.head_windows() if stage.crpe_windows else ()
    encodings = _Encodings(
        parameter(stage.dim, 1, 3, 3) if stage.cpe else None,
        tuple(parameter(heads * stage.head_dim, 1, window, window) for window, heads in windows),
    )
    grid = embedded.shape[2], embedded.shape[3]
    tokens = embedded.rearrange("b c h w -> b (h w) c")
    for drop in dropped:
        tokens = _layer(tape, tokens, stage, grid, encodings, drop=drop)
    return tokens.rearrange("b (h w) c -> b c h w", h=grid[0], w=grid[1])


def _layer(
    tape: Tape, tokens: Strided, stage: StageConfig, grid: tuple[int, int], encodings: _Encodings, *, drop: bool
) -> Strided:
    def residual(x: Strided, branch: Strided) -> Strided:
        return tape.add(x, tape.mul(branch, constant(x.shape[0], 1, 1, dtype=x.dtype)) if drop else branch)

    if encodings.cpe:
        on_grid = tokens.rearrange("b (h w) c -> b c h w", h=grid[0], w=grid[1])
        encoded = tape.add(tape.conv(on_grid, encodings.cpe), on_grid)
        tokens = encoded.rearrange("b c h w -> b (h w) c")
    tokens = residual(tokens, _attention(tape, tape.layer_norm(tokens), stage, grid, encodings))
    hidden = tape.activation(tape.linear(tape.layer_norm(tokens), parameter(stage.hidden_dim, stage.dim)))
    return residual(tokens, tape.linear(hidden, parameter(stage.dim, stage.hidden_dim)))


def _attention(tape: Tape, tokens: Strided, stage: StageConfig, grid: tuple[int, int], encodings: _Encodings) -> Strided:
    kind, option = get_kind(stage.attention)
    sizes = Sizes(tokens.shape[0], stage.heads, stage.head_dim, *grid, option)
    projected = tape.linear(tokens, parameter(3 * stage.dim, stage.dim))
    split = projected.rearrange("b n (three heads d) -> three b heads n d", three=3, heads=stage.heads)
    query, key, value = split.unbind()
    attended = kind.record(tape, query, key, value, sizes)
    if encodings.crpe:
        attended = tape.add(attended, record_encoding(tape, query, value, grid, encodings.crpe))
    return tape.linear(attended.rearrange("b heads n d -> b n (heads d)"), parameter(stage.dim, stage.dim))
