"""What autograd keeps of a Multi-Path Vision Transformer in training, from its configuration, without torch.

The steps are those of ``mpvit.model``, on a tape.
"""

from dataclasses import dataclass

from mpvit.attention import Sizes, get_kind
from mpvit.attention.factorized_crpe import record_encoding
from mpvit.config import ModelConfig, StageConfig
from mpvit.errors import UsageError
from mpvit.strided import Strided, new
from mpvit.tape import Tape, constant, parameter
from mpvit.trace.closed_form import trace_config
from mpvit.training_memory import (
    Activations,
    Learned,
    Setting,
    TrainingMemory,
    transient_bytes,
    with_largest_batch,
)
from mpvit.units import ITEM_BYTES


def training_memory(config: ModelConfig, size: tuple[int, int], *, batch: int, setting: Setting, name: str) -> TrainingMemory:
    """Return what training the network of ``config`` takes; ``size`` is (height, width) in pixels.

    Raises ``UsageError`` for a length below 1, and where batch norm would see one value a channel.
    """

    def measure(samples: int) -> Activations:
        calls = trace_config(config, samples, *size).calls
        saved = record_network(config, samples, *size, autocast=setting.autocast).saved_bytes
        return Activations(saved, transient_bytes(calls, setting.dtype))

    trace = trace_config(config, batch, *size)
    nbytes = ITEM_BYTES["float32"] * trace.params
    tensors = sum(len(module.parameters) for module in trace.modules.values())
    found = TrainingMemory(
        model=name,
        input_shapes=trace.input_shapes,
        setting=setting,
        learned=Learned(trace.params, nbytes, nbytes, tensors),
        activations=measure(batch),
    )
    return with_largest_batch(found, measure)


def record_network(config: ModelConfig, batch: int, height: int, width: int, *, autocast: bool = False) -> Tape:
    """Return the tape of a forward pass over (batch, in_channels, height, width) in training mode.

    ``autocast`` takes the CPU's rules for bfloat16. Raises ``UsageError`` where batch norm would see one value a channel.
    """
    tape = Tape(autocast)
    first = config.stages[0].dim
    x = constant(batch, config.in_channels, height, width)
    for out in (first // 2, first):
        x = _conv_norm_act(tape, x, out, 3, stride=2)
    rates = iter(config.drop_path_rates())
    for index, stage in enumerate(config.stages):
        dropped = [next(rates) > 0 for _ in range(stage.layers)]
        x = _stage(tape, x, stage, config.next_dim(index), stride=1 if index == 0 else 2, dropped=dropped)
    if config.num_classes:
        pooled = new(x.shape[:2], x.dtype)
        tape.linear(pooled, parameter(config.num_classes, x.shape[1]))
    return tape


def _conv_norm_act(
    tape: Tape, x: Strided, out: int, kernel: int, *, stride: int = 1, depthwise: bool = False, act: bool = True
) -> Strided:
    weight = parameter(out, 1 if depthwise else x.shape[1], kernel, kernel)
    x = tape.conv(x, weight, stride)
    if x.shape[0] * x.shape[2] * x.shape[3] == 1:
        raise UsageError(
            "batch 1, a map of 1x1: batch norm cannot train on one value a channel", hint="take a larger batch or image"
        )
    x = tape.batch_norm(x)
    return tape.activation(x) if act else x


def _stage(tape: Tape, x: Strided, stage: StageConfig, out: int, *, stride: int, dropped: list[bool]) -> Strided:
    embedded: list[Strided] = []
    for path in range(stage.paths):
        x = tape.conv(x, parameter(stage.dim, 1, 3, 3), 1 if path else stride)
        x = _conv_norm_act(tape, x, stage.dim, 1)
        embedded.append(x)
        _layers(tape, x, stage, dropped)
    local = _conv_norm_act(tape, embedded[0], stage.dim, 1)
    local = _conv_norm_act(tape, local, stage.dim, 3, depthwise=True)
    _conv_norm_act(tape, local, stage.dim, 1, act=False)
    batch, dim, height, width = x.shape
    return _conv_norm_act(tape, new((batch, (stage.paths + 1) * dim, height, width), x.dtype), out, 1)


@dataclass(frozen=True, slots=True)
class _Encodings:
    """The weights of a path's position encodings, which its layers share."""

    cpe: Strided
    crpe: tuple[Strided, ...]


def _layers(tape: Tape, embedded: Strided, stage: StageConfig, dropped: list[bool]) -> None:
    """Record a path's layers; what they give is copied where the paths are joined."""
    windows = stage.head_windows() if stage.crpe_windows else ()
    encodings = _Encodings(
        parameter(stage.dim, 1, 3, 3),
        tuple(parameter(heads * stage.head_dim, 1, window, window) for window, heads in windows),
    )
    grid = embedded.shape[2], embedded.shape[3]
    tokens = embedded.rearrange("b c h w -> b (h w) c")
    for drop in dropped:
        tokens = _layer(tape, tokens, stage, grid, encodings, drop=drop)


def _layer(
    tape: Tape, tokens: Strided, stage: StageConfig, grid: tuple[int, int], encodings: _Encodings, *, drop: bool
) -> Strided:
    def residual(x: Strided, branch: Strided) -> Strided:
        return tape.add(x, tape.mul(branch, constant(x.shape[0], 1, 1, dtype=x.dtype)) if drop else branch)

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
