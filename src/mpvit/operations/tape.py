"""Recording of one forward pass in closed form: its operations, and the tensors that autograd saves for the backward pass.

A network is described by functions on a ``Tape``: each method records one operation under a name and returns its result as a
tensor without data. Which tensors an operation saves follows ``tools/autograd/derivatives.yaml`` of torch 2.13. A result has
the memory layout that torch gives it, because the layout decides whether a rearranged tensor is a view or a copy. A view keeps
its whole storage, and each storage counts once.
"""

from collections.abc import Sequence
from math import prod

from mpvit.errors import UsageError
from mpvit.operations import Operation, Shape
from mpvit.operations.recording import Recording, module_fields, operand_fields
from mpvit.operations.tensor_spec import TensorSpec, constant, elementwise, new

_MODULES = {
    "batch_norm": "BatchNorm2d",
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "gelu": "GELU",
    "hardswish": "Hardswish",
    "relu": "ReLU",
}
"""torch's module class of each kind of operation that is one."""

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
        fields = operand_fields(weights) if weights else module_fields("Conv2d", own)
        self._add(name, Operation("conv", x.shape, shape, macs=prod(shape) * taps, stride=stride, **fields))
        x = self._save_with_weight(x, fields["weight_names"][0] if weights else name, own[0])
        return new(shape, x.dtype)

    def transposed_conv(self, name: str, x: TensorSpec, out: int, kernel: int) -> TensorSpec:
        """Transposed convolution with bias and stride = kernel, (B, C, H, W) -> (B, out, kernel·H, kernel·W).

        Each input element is multiplied by kernel²·out weights. Saves its input and weight.
        """
        batch, channels, height, width = x.shape
        shape = (batch, out, kernel * height, kernel * width)
        own = ((channels, out, kernel, kernel), (out,))
        macs = prod(x.shape) * out * kernel * kernel
        self._add(name, Operation("conv", x.shape, shape, macs=macs, stride=kernel, **module_fields("ConvTranspose2d", own)))
        x = self._save_with_weight(x, name, own[0])
        return new(shape, x.dtype)

    def linear(self, name: str, x: TensorSpec, out: int, *, bias: bool = True) -> TensorSpec:
        """Linear layer on the last axis, (..., C) -> (..., out), with C multiply-adds an output element.

        Saves its input, reshaped to rows, and its weight.
        """
        *leading, channels = x.shape
        shape = (*leading, out)
        own: tuple[Shape, ...] = ((out, channels), (out,))[: 1 + bias]
        self._add(name, Operation("linear", x.shape, shape, macs=prod(shape) * channels, **module_fields("Linear", own)))
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
        fields = operand_fields(weights) if weights else module_fields(_MODULES[kind], own)
        self._add(name, Operation(kind, x.shape, x.shape, **fields))
        return self._elementwise(kind, x) if kind == "batch_norm" else new(x.shape, x.dtype)

    def activation(self, name: str, kind: str, x: TensorSpec, *, function: bool = False) -> TensorSpec:
        """``gelu``, ``hardswish`` (save their input) or ``relu`` (saves its result) as a module or as a ``function``."""
        out = self._elementwise(kind, x)
        self._add(name, Operation(kind, x.shape, x.shape, module="" if function else _MODULES[kind]))
        return out

    # ── functions ───────────────────────────────────────────────────────────────────────────────────────────────────

    def elementwise(self, name: str, kind: str, *operands: TensorSpec) -> TensorSpec:
        """Elementwise function, such as add, mul, div, exp, elu; the result has the shape of the first operand.

        A product saves the factors that the gradients need, a quotient of tensors both, ``exp`` its result, ``elu`` and
        ``square`` their input. Sums, differences, and products and quotients with a number save nothing.
        """
        out = self._elementwise(kind, *operands)
        self._add(name, Operation(kind, operands[0].shape, operands[0].shape, **operand_fields(operands[1:])))
        return out

    def softmax(self, name: str, x: TensorSpec) -> TensorSpec:
        """Softmax along any axis; saves its result, which is contiguous."""
        out = new(x.shape, x.dtype)
        self._save(out)
        self._add(name, Operation("softmax", x.shape, x.shape))
        return out

    def normalize(self, name: str, x: TensorSpec, axis: int) -> TensorSpec:
        """Quotient of ``x`` and its l2 norm along ``axis``; saves x, its norms, and the norms clamped from below."""
        norms = new(_reduced(x.shape, axis), x.dtype)
        clamped = elementwise(norms).expand(x.shape)
        self._save(x, norms, clamped)
        self._add(name, Operation("normalize", x.shape, x.shape))
        return elementwise(x, clamped)

    def masked_fill(self, name: str, x: TensorSpec, mask: TensorSpec) -> TensorSpec:
        """Fill where the mask is set; saves the mask."""
        self._save(mask)
        self._add(name, Operation("masked_fill", x.shape, x.shape))
        return elementwise(x)

    def pad(self, name: str, x: TensorSpec, shape: Shape) -> TensorSpec:
        """Padding with zeros to ``shape``; saves nothing."""
        self._add(name, Operation("pad", x.shape, shape))
        return elementwise(x) if x.shape == shape else new(shape, x.dtype)

    def cat(self, name: str, maps: Sequence[TensorSpec]) -> TensorSpec:
        """Concatenation of (B, C, H, W) along the channels; saves nothing."""
        batch, _, height, width = maps[0].shape
        shape = (batch, sum([x.shape[1] for x in maps]), height, width)
        self._add(name, Operation("cat", maps[0].shape, shape, others=tuple([x.shape for x in maps[1:]])))
        return new(shape, maps[0].dtype)

    def upsample(self, name: str, mode: str, x: TensorSpec, grid: Sequence[int]) -> TensorSpec:
        """Interpolation, ``nearest`` or ``bilinear``, (B, C, H, W) -> (B, C, *grid); saves nothing."""
        shape = (*x.shape[:2], *grid)
        self._add(name, Operation(f"upsample_{mode}2d", x.shape, shape))
        return new(shape, x.dtype)

    def adaptive_pool(self, name: str, x: TensorSpec, side: int) -> TensorSpec:
        """Adaptive average pooling, (B, C, H, W) -> (B, C, side, side); saves its input unless it is a mean (side 1)."""
        if side > 1:
            self._save(x)
        shape = (*x.shape[:2], side, side)
        self._add(name, Operation("pool", x.shape, shape))
        return new(shape, x.dtype)

    def reduction(self, name: str, kind: str, x: TensorSpec, *axes: int, keepdim: bool = True) -> TensorSpec:
        """``sum`` (saves nothing) or ``amax`` (saves its input and result) over axes."""
        out = new(_reduced(x.shape, *axes), x.dtype)
        if kind == "amax":
            self._save(x, out)
        if not keepdim:
            out = out.reshape(tuple([n for i, n in enumerate(x.shape) if i not in axes and i - len(x.shape) not in axes]))
        self._add(name, Operation(kind, x.shape, out.shape))
        return out

    # ── matrix products ─────────────────────────────────────────────────────────────────────────────────────────────

    def einsum(self, name: str, equation: str, left: TensorSpec, right: TensorSpec) -> TensorSpec:
        """Product of two tensors that sums over one axis of both, "bnk,bkm->bnm"; saves each factor as the product reads it.

        torch permutes and reshapes the factors for ``bmm``, which copies those that cannot be viewed so. If the summed axis
        has length 1, torch multiplies elementwise.
        """
        terms, result = equation.split("->")
        letters, others = terms.split(",")
        sizes = dict(zip(letters + others, (*left.shape, *right.shape), strict=True))
        shape = tuple([sizes[letter] for letter in result])
        fields = operand_fields([right])
        self._add(name, Operation("matmul", left.shape, shape, macs=prod(sizes.values()), equation=equation, **fields))
        if not self.training:
            return new(shape, left.dtype)
        (summed,) = set(letters) - set(result)
        left, right = _aligned(left, letters, result + summed), _aligned(right, others, result + summed)
        if left.shape[-1] == 1:
            out = self._elementwise("mul", left, right)
            return out._replace(shape=out.shape[:-1], strides=out.strides[:-1])
        return self._sum_of_products(left, right)

    def attention(self, name: str, query: TensorSpec, key: TensorSpec, value: TensorSpec) -> TensorSpec:
        """The CPU's fused attention, (B, h, N, d) three times -> (B, h, N, d), with 2·N²·d multiply-adds a head.

        Saves its operands, its result, and a log-sum-exp for each row in float32.
        """
        batch, heads, tokens, head_dim = query.shape
        macs = 2 * batch * heads * tokens * key.shape[2] * head_dim
        self._add(name, Operation("sdpa", query.shape, query.shape, macs=macs, others=(key.shape, value.shape)))
        query, key, value = (self._lowered(x) for x in (query, key, value))
        out = new((batch, tokens, heads, head_dim), query.dtype).permute((0, 2, 1, 3))
        self._save(query, key, value, out, constant(batch, tokens, heads))
        return out

    def _sum_of_products(self, left: TensorSpec, right: TensorSpec) -> TensorSpec:
        """Return the product summed over the last axis, laid out as by ``at::native::sumproduct_pair``."""
        last = len(left.shape) - 1
        shape = tuple(map(max, left.shape, right.shape))
        batch = [i for i in range(last) if left.shape[i] != 1 != right.shape[i]]
        rows = [i for i in range(last) if left.shape[i] != 1 == right.shape[i]]
        columns = [i for i in range(last) if left.shape[i] == 1]
        sizes = tuple(prod(left.shape[i] for i in axes) for axes in (batch, rows, [last]))
        width = prod(right.shape[i] for i in columns)
        left = self._lowered(left.permute([*batch, *rows, last, *columns]).reshape(sizes))
        right = self._lowered(right.permute([*batch, last, *columns, *rows]).reshape((sizes[0], sizes[2], width)))
        self._save_factors(left, right)
        order = [*batch, *rows, *columns]
        out = new((sizes[0], sizes[1], width), left.dtype).reshape(tuple(shape[i] for i in order))
        return out.permute([order.index(i) for i in range(last)])

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


def _aligned(x: TensorSpec, letters: str, order: str) -> TensorSpec:
    """Return the view of ``x`` with its axes in ``order``; a letter that it lacks becomes an axis of length 1."""
    places = {letter: i for i, letter in enumerate(letters)}
    shape = tuple(x.shape[places[letter]] if letter in places else 1 for letter in order)
    strides = tuple(x.strides[places[letter]] if letter in places else 1 for letter in order)
    return x._replace(shape=shape, strides=strides)
