"""What autograd keeps for the backward pass, in closed form.

A ``Tape`` has one method an operation, which says which of its tensors its backward pass needs (as torch 2.13's
``tools/autograd/derivatives.yaml`` has it) and gives a result laid out as torch lays it out: whether a rearranged tensor
is a view or a copy decides whether another storage is kept. A view keeps its whole storage; a storage counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from mpvit.errors import UsageError
from mpvit.operations import Shape, strided_length
from mpvit.operations.strided import Storage, Strided, elementwise, new


def parameter(*shape: int) -> Strided:
    """Return a parameter, whose own storage is not counted: it is there without autograd too."""
    return new(shape, learned=True)


def constant(*shape: int, dtype: str = "float32") -> Strided:
    """Return a buffer, an image, a mask: what no gradient flows back into."""
    return new(shape, dtype, differentiable=False)


@dataclass(slots=True)
class Tape:
    """A recording of one forward pass.

    Attributes:
        autocast: whether convolutions, linear layers, products and fused attention run in bfloat16, and all else in what it
            is given: ``torch.autocast("cpu", torch.bfloat16)``. On CUDA autocast also takes softmax, layer norms, norms,
            powers, exponentials and sums back to float32, which keeps more.
        saved: the storages that autograd keeps, parameters left out, in order.
    """

    autocast: bool = False
    saved: dict[Storage, None] = field(default_factory=dict)
    _lowered_weights: dict[Storage, Strided] = field(default_factory=dict)

    @property
    def saved_bytes(self) -> int:
        """Bytes of what autograd keeps."""
        return sum(storage.nbytes for storage in self.saved)

    def save(self, *tensors: Strided) -> None:
        """Keep the storages of ``tensors`` until the backward pass."""
        self.saved |= {tensor.storage: None for tensor in tensors if not tensor.storage.learned}

    # ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def conv(self, x: Strided, weight: Strided, stride: int = 1) -> Strided:
        """Convolution padded to "same", (B, C, H, W) by (out, C / groups, k, k): keeps its input and weight."""
        return self.conv_to(x, weight, (strided_length(x.shape[2], stride), strided_length(x.shape[3], stride)))

    def conv_to(self, x: Strided, weight: Strided, grid: tuple[int, int]) -> Strided:
        """Any convolution that gives maps of the size ``grid``, likewise."""
        x, weight = self._lowered(x), self._lowered_weight(weight)
        self.save(x, weight)
        return new((x.shape[0], weight.shape[0], *grid), x.dtype)

    def transposed_conv(self, x: Strided, weight: Strided) -> Strided:
        """Transposed convolution whose stride is its kernel, (B, C, H, W) by (C, out, k, k), likewise."""
        _, out, kernel, _ = weight.shape
        x, weight = self._lowered(x), self._lowered_weight(weight)
        self.save(x, weight)
        return new((x.shape[0], out, kernel * x.shape[2], kernel * x.shape[3]), x.dtype)

    def linear(self, x: Strided, weight: Strided) -> Strided:
        """Linear layer on the last axis by (out, C): keeps its input, as rows, and its weight."""
        x, weight = self._lowered(x), self._lowered_weight(weight)
        self.save(x.reshape((prod(x.shape[:-1]), x.shape[-1])), weight)
        return new((*x.shape[:-1], weight.shape[0]), x.dtype)

    def batch_norm(self, x: Strided) -> Strided:
        """Batch norm in training: keeps its input, the running mean and variance, and the batch's.

        Raises ``UsageError`` where it would see one value a channel.
        """
        if prod(x.shape) == x.shape[1]:
            raise UsageError(
                "batch 1, a map of 1x1: batch norm cannot train on one value a channel",
                hint="take a larger batch, or a larger image where the map grows with it",
            )
        self.save(x, *(constant(x.shape[1]) for _ in range(4)))
        return elementwise(x)

    def layer_norm(self, x: Strided) -> Strided:
        """Layer norm over the last axis: keeps its input, and each row's mean and deviation in float32."""
        self.save(x, constant(*x.shape[:-1]), constant(*x.shape[:-1]))
        return new(x.shape, x.dtype)

    def group_norm(self, x: Strided, groups: int) -> Strided:
        """Group norm: keeps its input, and each image's and group's mean and deviation in float32."""
        self.save(x, constant(x.shape[0], groups), constant(x.shape[0], groups))
        return new(x.shape, x.dtype)

    # ── elementwise ─────────────────────────────────────────────────────────────────────────────────────────────────

    def activation(self, x: Strided) -> Strided:
        """GELU, Hardswish, ELU: keeps its input."""
        self.save(x)
        return elementwise(x)

    def square(self, x: Strided) -> Strided:
        """x²: keeps its input."""
        return self.activation(x)

    def relu(self, x: Strided) -> Strided:
        """ReLU: keeps its result."""
        return self.exp(x)

    def exp(self, x: Strided) -> Strided:
        """E to the x: keeps its result."""
        out = elementwise(x)
        self.save(out)
        return out

    def softmax(self, x: Strided) -> Strided:
        """Softmax along any axis: keeps its result, which is contiguous."""
        out = new(x.shape, x.dtype)
        self.save(out)
        return out

    def add(self, *terms: Strided) -> Strided:
        """Sums and differences, and products with a number: keeps nothing."""
        return elementwise(*terms)

    def mul(self, x: Strided, y: Strided) -> Strided:
        """Product: keeps each factor that the other one's gradient needs."""
        self._save_factors(x, y)
        return elementwise(x, y)

    def div(self, x: Strided, y: Strided) -> Strided:
        """Quotient: keeps both."""
        self.save(x, y)
        return elementwise(x, y)

    def normalize(self, x: Strided, axis: int) -> Strided:
        """X over its l2 norm along ``axis``: keeps x, its norms, and those norms that are no smaller than epsilon."""
        norms = new(_shortened(x.shape, axis), x.dtype)
        self.save(x, norms)
        return self.div(x, elementwise(norms).expand(x.shape))

    def masked_fill(self, x: Strided, mask: Strided) -> Strided:
        """Fill where the mask is set: keeps the mask."""
        self.save(mask)
        return elementwise(x)

    def cat(self, maps: Sequence[Strided]) -> Strided:
        """Concatenation along the channels: keeps nothing."""
        batch, _, height, width = maps[0].shape
        return new((batch, sum(x.shape[1] for x in maps), height, width), maps[0].dtype)

    def upsample(self, x: Strided, grid: Sequence[int]) -> Strided:
        """Interpolation to a grid of (height, width), nearest or bilinear: keeps nothing."""
        return new((*x.shape[:2], *grid), x.dtype)

    # ── reductions and products ─────────────────────────────────────────────────────────────────────────────────────

    def sum(self, x: Strided, axis: int) -> Strided:
        """Sum along an axis, which stays with length 1: keeps nothing."""
        return new(_shortened(x.shape, axis), x.dtype)

    def adaptive_pool(self, x: Strided, side: int) -> Strided:
        """Adaptive average pooling to (side, side) positions: keeps its input; to one position, a mean, nothing."""
        if side > 1:
            self.save(x)
        return new((*x.shape[:2], side, side), x.dtype)

    def amax(self, x: Strided, *axes: int) -> Strided:
        """Largest along axes, which stay with length 1: keeps its input and its result."""
        out = new(_shortened(x.shape, *axes), x.dtype)
        self.save(x, out)
        return out

    def einsum(self, equation: str, left: Strided, right: Strided) -> Strided:
        """Product of two tensors that sums over one axis of both: keeps each factor, as the product reads it.

        They are permuted and reshaped for ``bmm``, which copies what cannot be viewed so. Along an axis of length 1 there
        is nothing to sum, and they are multiplied elementwise.
        """
        terms, result = equation.split("->")
        letters, others = terms.split(",")
        (summed,) = set(letters) - set(result)
        left, right = _aligned(left, letters, result + summed), _aligned(right, others, result + summed)
        if left.shape[-1] == 1:
            product = self.mul(left, right)
            return replace(product, shape=product.shape[:-1], strides=product.strides[:-1])
        return self._sum_of_products(left, right)

    def attention(self, query: Strided, key: Strided, value: Strided) -> Strided:
        """The CPU's fused attention: keeps its operands, its result, and a log-sum-exp a row in float32."""
        query, key, value = (self._lowered(x) for x in (query, key, value))
        batch, heads, tokens, head_dim = query.shape
        out = new((batch, tokens, heads, head_dim), query.dtype).permute((0, 2, 1, 3))
        self.save(query, key, value, out, constant(batch, tokens, heads))
        return out

    def _sum_of_products(self, left: Strided, right: Strided) -> Strided:
        """``at::native::sumproduct_pair`` over the last axis."""
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

    def _save_factors(self, x: Strided, y: Strided) -> None:
        if x.differentiable:
            self.save(y)
        if y.differentiable:
            self.save(x)

    # ── autocast ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _lowered(self, x: Strided) -> Strided:
        return _in_bfloat16(x) if self.autocast else x

    def _lowered_weight(self, weight: Strided) -> Strided:
        """Autocast keeps the copies that it makes of parameters, so that each is made once a pass."""
        if not self.autocast:
            return weight
        return self._lowered_weights.setdefault(weight.storage, _in_bfloat16(weight))


def _in_bfloat16(x: Strided) -> Strided:
    return x if x.dtype == "bfloat16" else new(x.shape, "bfloat16", differentiable=x.differentiable)


def _shortened(shape: Shape, *axes: int) -> Shape:
    """Return ``shape`` with length 1 along ``axes``, which count from the end where they are negative."""
    return tuple(1 if i in axes or i - len(shape) in axes else length for i, length in enumerate(shape))


def _aligned(x: Strided, letters: str, order: str) -> Strided:
    """Return the view of ``x`` whose axes are in ``order``; a letter that it has not got becomes an axis of length 1."""
    places = {letter: i for i, letter in enumerate(letters)}
    shape = tuple(x.shape[places[letter]] if letter in places else 1 for letter in order)
    strides = tuple(x.strides[places[letter]] if letter in places else 1 for letter in order)
    return replace(x, shape=shape, strides=strides)
