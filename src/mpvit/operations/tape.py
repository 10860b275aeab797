"""Recording of one forward pass in closed form: its operations, or the tensors that autograd saves for the backward pass.

A network is described by functions on a ``Tape``: each method records one operation under a name and returns its result as a
tensor without data. Which tensors an operation saves follows ``tools/autograd/derivatives.yaml`` of torch 2.13. A result has
the memory layout that torch gives it, because the layout decides whether a rearranged tensor is a view or a copy. A view keeps
its whole storage, and each storage counts once.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from mpvit.errors import UsageError
from mpvit.operations import Shape
from mpvit.operations.recording import Recording
from mpvit.operations.tensor_spec import CACHED_LAYOUTS, TensorSpec, constant, elementwise, new

_MODULES = {
    "batch_norm": "BatchNorm2d",
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "gelu": "GELU",
    "hardswish": "Hardswish",
    "relu": "ReLU",
}
"""torch's module class of each kind of operation that is a module."""

_SAVES_OPERANDS = ("gelu", "hardswish", "elu", "square")
_SAVES_RESULT = ("relu", "exp")


class Tape(Recording):
    """A recording with one method for each kind of operation."""

    __slots__ = ()

    # ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def conv(  # noqa: PLR0913 - the arguments of a convolution
        self,
        name: str,
        x: TensorSpec,
        out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        weights: Sequence[TensorSpec] = (),
    ) -> TensorSpec:
        """2-d convolution, (B, C, H, W) -> (B, out, H', W'), with kernel²·C/groups multiply-adds an output element.

        The padding is (kernel - 1) // 2 by default. With ``weights`` it is a function call on parameters of the enclosing
        module. Saves its input and weight.
        """
        batch, channels, *grid = x.shape
        around = (kernel - 1) // 2 if padding is None else padding
        shape = (batch, out, *[(length + 2 * around - kernel) // stride + 1 for length in grid])
        taps = kernel * kernel * (channels // groups)
        own: tuple[Shape, ...] = ((out, channels // groups, kernel, kernel), (out,))[: 1 + (bias or len(weights) > 1)]
        module = "" if weights else "Conv2d"
        macs = prod(shape) * taps
        self._add(name, "conv", x, shape, operands=weights, module=module, weights=own, macs=macs, stride=stride)
        return new(shape, self._save_with_weight(x, weights[0].storage if weights else name, own[0]).dtype)

    def transposed_conv(self, name: str, x: TensorSpec, out: int, kernel: int) -> TensorSpec:
        """Transposed convolution with bias and stride = kernel, (B, C, H, W) -> (B, out, kernel·H, kernel·W).

        Each input element is multiplied by kernel²·out weights. Saves its input and weight.
        """
        batch, channels, height, width = x.shape
        shape = (batch, out, kernel * height, kernel * width)
        own = ((channels, out, kernel, kernel), (out,))
        macs = prod(x.shape) * out * kernel * kernel
        self._add(name, "conv", x, shape, module="ConvTranspose2d", weights=own, macs=macs, stride=kernel)
        return new(shape, self._save_with_weight(x, name, own[0]).dtype)

    def linear(self, name: str, x: TensorSpec, out: int, *, bias: bool = True) -> TensorSpec:
        """Linear layer on the last axis, (..., C) -> (..., out), with C multiply-adds an output element.

        Saves its input, reshaped to rows, and its weight.
        """
        *leading, channels = x.shape
        shape = (*leading, out)
        own: tuple[Shape, ...] = ((out, channels), (out,))[: 1 + bias]
        self._add(name, "linear", x, shape, module="Linear", weights=own, macs=prod(shape) * channels)
        if self.training:
            x = self._lowered(x)
            self._save_with_weight(x.reshape((prod(leading), channels)), name, own[0])
        return new(shape, x.dtype)

    def norm(self, name: str, kind: str, x: TensorSpec, *, groups: int = 1, weights: Sequence[TensorSpec] = ()) -> TensorSpec:
        """``batch_norm`` of (B, C, H, W), ``layer_norm`` of (..., C) or ``group_norm`` of (B, C, ...), with weight and bias.

        Saves its input and its statistics in float32: of a batch norm the running and the batch statistics of each channel, of
        a layer norm those of each row, of a group norm those of each image and group. Raises ``UsageError`` if a batch norm
        would train on one value per channel.
        """
        channels = x.shape[-1 if kind == "layer_norm" else 1]
        if self.training:
            if kind == "batch_norm" and prod(x.shape) == channels:
                raise UsageError(
                    "batch 1 with a feature map of 1x1: batch norm cannot train on one value per channel",
                    hint="choose a larger batch, or a larger image if the feature map grows with it",
                )
            rows = {"batch_norm": (channels,), "layer_norm": x.shape[:-1], "group_norm": (x.shape[0], groups)}[kind]
            self._save(x, *[constant(*rows) for _ in range(4 if kind == "batch_norm" else 2)])
        own = ((channels,),) * (4 if kind == "batch_norm" else 2)
        self._add(name, kind, x, x.shape, operands=weights, module="" if weights else _MODULES[kind], weights=own)
        return self._elementwise(kind, x) if kind == "batch_norm" else new(x.shape, x.dtype)

    def activation(self, name: str, kind: str, x: TensorSpec, *, function: bool = False) -> TensorSpec:
        """``gelu``, ``hardswish`` (save their input) or ``relu`` (saves its result) as a module or as a ``function``."""
        out = self._elementwise(kind, x)
        self._add(name, kind, x, x.shape, module="" if function else _MODULES[kind])
        return out

    # ── functions ───────────────────────────────────────────────────────────────────────────────────────────────────

    def elementwise(self, name: str, kind: str, *operands: TensorSpec) -> TensorSpec:
        """Elementwise function, such as add, mul, div, exp, elu; the result has the shape of the first operand.

        A product saves the factors that the gradients need, a quotient of tensors both, ``exp`` its result, ``elu`` and
        ``square`` their input. Sums, differences, and products and quotients with a number save nothing.
        """
        out = self._elementwise(kind, *operands)
        self._add(name, kind, operands[0], operands[0].shape, operands=operands[1:])
        return out

    def total(self, name: str, maps: Sequence[TensorSpec]) -> TensorSpec:
        """Sum of feature maps, added one after another; saves nothing."""
        with self.group(name):
            out = maps[0]
            for index, x in enumerate(maps[1:]):
                out = self.elementwise(str(index), "add", out, x)
        return out

    def softmax(self, name: str, x: TensorSpec) -> TensorSpec:
        """Softmax along any axis; saves its result, which is contiguous."""
        out = new(x.shape, x.dtype)
        self._save(out)
        self._add(name, "softmax", x, x.shape)
        return out

    def normalize(self, name: str, x: TensorSpec, axis: int) -> TensorSpec:
        """Quotient of ``x`` and its l2 norm along ``axis``; saves x, its norms, and the norms clamped from below."""
        norms = new(_reduced(x.shape, axis), x.dtype)
        clamped = elementwise(norms).expand(x.shape)
        self._save(x, norms, clamped)
        self._add(name, "normalize", x, x.shape)
        return elementwise(x, clamped)

    def masked_fill(self, name: str, x: TensorSpec, mask: TensorSpec) -> TensorSpec:
        """Fill where the mask is set; saves the mask."""
        self._save(mask)
        self._add(name, "masked_fill", x, x.shape)
        return elementwise(x)

    def pad(self, name: str, x: TensorSpec, shape: Shape) -> TensorSpec:
        """Padding with zeros to ``shape``; saves nothing."""
        self._add(name, "pad", x, shape)
        return elementwise(x) if x.shape == shape else new(shape, x.dtype)

    def cat(self, name: str, maps: Sequence[TensorSpec]) -> TensorSpec:
        """Concatenation of (B, C, H, W) along the channels; saves nothing."""
        batch, _, height, width = maps[0].shape
        shape = (batch, sum([x.shape[1] for x in maps]), height, width)
        self._add(name, "cat", maps[0], shape, operands=maps[1:])
        return new(shape, maps[0].dtype)

    def upsample(self, name: str, mode: str, x: TensorSpec, grid: Sequence[int]) -> TensorSpec:
        """Interpolation, ``nearest`` or ``bilinear``, (B, C, H, W) -> (B, C, *grid); saves nothing."""
        shape = (*x.shape[:2], *grid)
        self._add(name, f"upsample_{mode}2d", x, shape)
        return new(shape, x.dtype)

    def adaptive_pool(self, name: str, x: TensorSpec, side: int) -> TensorSpec:
        """Adaptive average pooling, (B, C, H, W) -> (B, C, side, side); saves its input unless it is a mean (side 1)."""
        if side > 1:
            self._save(x)
        shape = (*x.shape[:2], side, side)
        self._add(name, "pool", x, shape)
        return new(shape, x.dtype)

    def reduction(self, name: str, kind: str, x: TensorSpec, *axes: int, keepdim: bool = True) -> TensorSpec:
        """``sum`` (saves nothing) or ``amax`` (saves its input and result) over axes."""
        out = new(_reduced(x.shape, *axes), x.dtype)
        if kind == "amax":
            self._save(x, out)
        if not keepdim:
            out = out.reshape(tuple([n for i, n in enumerate(x.shape) if i not in axes and i - len(x.shape) not in axes]))
        self._add(name, kind, x, out.shape)
        return out

    # ── matrix products ─────────────────────────────────────────────────────────────────────────────────────────────

    def einsum(self, name: str, equation: str, left: TensorSpec, right: TensorSpec) -> TensorSpec:
        """Product of two tensors that sums over at most one axis of both, such as "bnk,bkm->bnm"; saves both factors.

        torch permutes and reshapes the factors for ``bmm``, and saves a copy of each factor that has no such view. If the
        summed axis has length 1, torch multiplies elementwise.
        """
        left_axes, right_axes = _axes_of_factors(equation)
        factors = _aligned(left, left_axes), _aligned(right, right_axes)
        lengths = tuple(map(max, factors[0].shape, factors[1].shape))
        self._add(name, "matmul", left, lengths[:-1], operands=(right,), macs=prod(lengths), equation=equation)
        if not self.training:
            return new(lengths[:-1], left.dtype)
        if lengths[-1] == 1:
            out = self._elementwise("mul", *factors)
            return out.strided(out.shape[:-1], out.strides[:-1])
        return self._sum_of_products(*factors)

    def attention(self, name: str, query: TensorSpec, key: TensorSpec, value: TensorSpec) -> TensorSpec:
        """The CPU's fused attention, (B, h, N, d) three times -> (B, h, N, d), with 2·N²·d multiply-adds a head.

        Saves its operands, its result, and a log-sum-exp for each row in float32.
        """
        batch, heads, tokens, head_dim = query.shape
        macs = 2 * batch * heads * tokens * key.shape[2] * head_dim
        self._add(name, "sdpa", query, query.shape, operands=(key, value), macs=macs)
        query, key, value = (self._lowered(x) for x in (query, key, value))
        out = new((batch, tokens, heads, head_dim), query.dtype).permute((0, 2, 1, 3))
        self._save(query, key, value, out, constant(batch, tokens, heads))
        return out

    def _sum_of_products(self, left: TensorSpec, right: TensorSpec) -> TensorSpec:
        """Return the product summed over the last axis, laid out as by ``at::native::sumproduct_pair``."""
        left_step, right_step, (axes, shape) = _product_steps(left.shape, right.shape)
        left, right = (
            self._lowered(x.permute(order).reshape(size)) for x, (order, size) in ((left, left_step), (right, right_step))
        )
        self._save_factors(left, right)
        return new(shape, left.dtype).permute(axes)

    def _elementwise(self, kind: str, *operands: TensorSpec) -> TensorSpec:
        if not self.training:
            return operands[0]
        out = elementwise(*operands)
        if kind in _SAVES_OPERANDS or (kind == "div" and len(operands) > 1):
            self._save(*operands)
        elif kind in _SAVES_RESULT:
            self._save(out)
        elif kind == "mul" and len(operands) > 1:
            self._save_factors(*operands)
        return out


def _reduced(shape: Shape, *axes: int) -> Shape:
    """Return ``shape`` with length 1 along ``axes``; negative axes count from the end."""
    return tuple(1 if i in axes or i - len(shape) in axes else length for i, length in enumerate(shape))


@lru_cache(maxsize=64)
def _axes_of_factors(equation: str) -> tuple[tuple[int, ...], ...]:
    """Return the axes of each factor of an einsum in the order of the result, then the summed axis; -1 for a missing axis."""
    factors, result = equation.split("->")
    (summed,) = set(factors) - {*result, ","} or {"1"}  # an outer product sums over an axis of length 1
    return tuple(tuple(map(letters.find, result + summed)) for letters in factors.split(","))


def _aligned(x: TensorSpec, axes: tuple[int, ...]) -> TensorSpec:
    """Return the view of ``x`` with its ``axes`` in this order; -1 stands for an axis of length 1."""
    return x.strided(tuple([1 if i < 0 else x.shape[i] for i in axes]), tuple([1 if i < 0 else x.strides[i] for i in axes]))


@lru_cache(maxsize=CACHED_LAYOUTS)
def _product_steps(left: Shape, right: Shape) -> tuple[tuple[Shape, Shape], ...]:
    """Return (axes, shape) of the left factor, the right factor and the result of ``bmm`` for two aligned factors.

    The factors are permuted to ``axes``, then reshaped to (batch, rows, summed) and (batch, summed, columns). The result has
    ``shape`` first and is then permuted to ``axes``.
    """
    last = len(left) - 1
    batch = [i for i in range(last) if left[i] != 1 != right[i]]
    rows = [i for i in range(last) if left[i] != 1 == right[i]]
    columns = [i for i in range(last) if left[i] == 1]
    order = [*batch, *rows, *columns]
    batches, width = prod(left[i] for i in batch), prod(right[i] for i in columns)
    return (
        ((*batch, *rows, last, *columns), (batches, prod(left[i] for i in rows), left[last])),
        ((*batch, last, *columns, *rows), (batches, left[last], width)),
        (tuple(order.index(i) for i in range(last)), tuple(max(left[i], right[i]) for i in order)),
    )
