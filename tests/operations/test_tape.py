"""The bytes that each operation saves for its backward pass, and its layout, against torch's autograd."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from mpvit.operations import tape, tensor_spec
from mpvit.operations.tape import Tape
from mpvit.operations.tensor_spec import TensorSpec, constant, new, parameter


@pytest.fixture(autouse=True)
def _clear_caches() -> None:
    for cached in (*vars(tensor_spec).values(), *vars(tape).values()):
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


def pair(shape: tuple[int, ...], role: str, dtype: torch.dtype) -> tuple[TensorSpec, Tensor]:
    """The same tensor here and in torch: x an activation, t one with reversed axes, w a parameter, c a constant, m a mask."""
    if role == "w":
        return parameter("weight", *shape), nn.Parameter(torch.ones(shape))
    if role == "m":
        return constant(*shape, dtype="bool"), torch.ones(shape, dtype=torch.bool)
    name = str(dtype).removeprefix("torch.")
    if role == "c":
        return constant(*shape, dtype=name), torch.ones(shape, dtype=dtype)
    axes = list(reversed(range(len(shape)))) if role == "t" else list(range(len(shape)))
    first = tuple(shape[axis] for axis in axes)
    leaf = torch.ones(first, dtype=dtype, requires_grad=True)
    return new(first, name).permute(axes), (leaf * 1).permute(axes)


Step = Callable[..., Any]


def activation(kind: str) -> Step:
    return lambda tape, x: tape.activation("it", kind, x)


def elementwise(kind: str) -> Step:
    return lambda tape, *operands: tape.elementwise("it", kind, *operands)


def norm(kind: str, groups: int = 1) -> Step:
    return lambda tape, x: tape.norm("it", kind, x, groups=groups)


def upsample(mode: str) -> Step:
    return lambda tape, x: tape.upsample("it", mode, x, (9, 7))


def reduction(kind: str, *axes: int, keepdim: bool = True) -> Step:
    return lambda tape, x: tape.reduction("it", kind, x, *axes, keepdim=keepdim)


def normalize(axis: int) -> Step:
    return lambda tape, x: tape.normalize("it", x, axis)


def conv(out: int, kernel: int, **options: int) -> Step:
    return lambda tape, x, _: tape.conv("it", x, out, kernel, **options)


def torch_conv(stride: int = 1, padding: int = 0) -> Step:
    return lambda x, weight: functional.conv2d(x, weight, stride=stride, padding=padding)


ONE_OPERAND: dict[str, tuple[Step, Step, tuple[int, ...]]] = {
    "gelu": (activation("gelu"), functional.gelu, (2, 3, 4)),
    "hardswish": (activation("hardswish"), functional.hardswish, (2, 3, 4)),
    "relu": (activation("relu"), functional.relu, (2, 3, 4)),
    "elu": (elementwise("elu"), functional.elu, (2, 3, 4)),
    "square": (elementwise("square"), torch.square, (2, 3, 4)),
    "exp": (elementwise("exp"), torch.exp, (2, 3, 4)),
    "softmax": (lambda tape, x: tape.softmax("it", x), lambda x: x.softmax(-1), (2, 3, 4)),
    "softmax over the first": (lambda tape, x: tape.softmax("it", x), lambda x: x.softmax(0), (2, 3, 4)),
    "times a number": (elementwise("mul"), lambda x: 3 * x, (2, 3, 4)),
    "divided by a number": (elementwise("div"), lambda x: x / 3, (2, 3, 4)),
    "batch norm": (norm("batch_norm"), nn.BatchNorm2d(3, affine=False), (2, 3, 4, 5)),
    "layer norm": (norm("layer_norm"), lambda x: functional.layer_norm(x, x.shape[-1:]), (2, 3, 4)),
    "group norm": (norm("group_norm", 2), lambda x: functional.group_norm(x, 2), (3, 4, 5, 6)),
    "sum": (reduction("sum", -2), lambda x: x.sum(-2, keepdim=True), (2, 3, 4)),
    "sum over the first": (reduction("sum", 0), lambda x: x.sum(0, keepdim=True), (2, 3, 4)),
    "sum that drops its axis": (reduction("sum", -2, keepdim=False), lambda x: x.sum(-2), (2, 3, 4)),
    "amax": (reduction("amax", -1), lambda x: x.amax(-1, keepdim=True), (2, 3, 4)),
    "amax over two": (reduction("amax", 0, -1), lambda x: x.amax((0, -1), keepdim=True), (2, 3, 4)),
    "normalize": (normalize(-2), lambda x: functional.normalize(x, dim=-2), (2, 3, 4)),
    "normalize over the first": (normalize(0), lambda x: functional.normalize(x, dim=0), (2, 3, 4)),
    "cat": (lambda tape, x: tape.cat("it", [x, x, x]), lambda x: torch.cat([x, x, x], 1), (2, 3, 4, 5)),
    "pad": (lambda tape, x: tape.pad("it", x, (2, 4, 6)), lambda x: functional.pad(x, (0, 2, 0, 1)), (2, 3, 4)),
    "upsample": (upsample("nearest"), lambda x: functional.interpolate(x, (9, 7)), (2, 3, 4, 5)),
    "bilinear": (upsample("bilinear"), lambda x: functional.interpolate(x, (9, 7), mode="bilinear"), (2, 3, 4, 5)),
    "pool": (lambda tape, x: tape.adaptive_pool("it", x, 3), lambda x: functional.adaptive_avg_pool2d(x, 3), (2, 3, 4, 5)),
    "mean": (lambda tape, x: tape.adaptive_pool("it", x, 1), lambda x: functional.adaptive_avg_pool2d(x, 1), (2, 3, 4, 5)),
    "product with itself": (lambda tape, x: tape.elementwise("it", "mul", x, x), lambda x: x * x, (2, 3, 4)),
}
TWO_OPERANDS: dict[str, tuple[Step, Step, tuple[int, ...], tuple[int, ...], str]] = {
    "add": (elementwise("add"), torch.add, (2, 3, 4), (2, 3, 4), "x"),
    "mul": (elementwise("mul"), torch.mul, (2, 3, 4), (2, 3, 4), "x"),
    "mul by a constant": (elementwise("mul"), torch.mul, (2, 3, 4), (2, 1, 1), "c"),
    "mul by a parameter": (elementwise("mul"), torch.mul, (2, 3, 4), (1, 3, 1), "w"),
    "div": (elementwise("div"), torch.div, (2, 3, 4), (2, 3, 1), "x"),
    "masked fill": (
        lambda tape, x, mask: tape.masked_fill("it", x, mask),
        lambda x, mask: x.masked_fill(mask, -1.0),
        (2, 3, 4),
        (1, 3, 4),
        "m",
    ),
    "conv": (conv(8, 3), torch_conv(padding=1), (2, 3, 5, 6), (8, 3, 3, 3), "w"),
    "strided conv": (conv(8, 3, stride=2), torch_conv(stride=2, padding=1), (2, 3, 5, 6), (8, 3, 3, 3), "w"),
    "patches": (
        lambda tape, x, weight: tape.conv("it", x, 8, 2, stride=2, padding=0, weights=[weight]),
        torch_conv(stride=2),
        (2, 3, 4, 6),
        (8, 3, 2, 2),
        "w",
    ),
    "transposed conv": (
        lambda tape, x, _: tape.transposed_conv("it", x, 8, 2),
        lambda x, w: functional.conv_transpose2d(x, w, stride=2),
        (2, 3, 5, 6),
        (3, 8, 2, 2),
        "w",
    ),
    "linear": (lambda tape, x, _: tape.linear("it", x, 5), functional.linear, (2, 3, 4), (5, 4), "w"),
}


def assert_saves_the_same(
    step: Step, torch_step: Step, operands: Sequence[tuple[TensorSpec, Tensor]], *, autocast: bool
) -> None:
    """The recorded step saves as many bytes as autograd, without parameters, and has torch's result."""
    recording = Tape(training=True, autocast=autocast)
    predicted = step(recording, *(spec for spec, _ in operands))
    tensors = [tensor for _, tensor in operands]
    parameters = {each.data_ptr() for each in tensors if isinstance(each, nn.Parameter)}
    storages: dict[int, torch.UntypedStorage] = {}  # references, so that no address is used again

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), saved_tensors_hooks(save, lambda tensor: tensor):
        out = torch_step(*tensors)
    assert recording.saved_bytes == sum(storage.nbytes() for storage in storages.values())
    assert predicted.shape == tuple(out.shape)
    assert predicted.storage.nbytes == out.untyped_storage().nbytes()
    for length, stride, expected in zip(out.shape, predicted.strides, out.stride(), strict=True):
        assert length == 1 or stride == expected  # the stride of an axis of length 1 has no meaning
    assert f"torch.{predicted.dtype}" == str(out.dtype)
    assert predicted.differentiable == out.requires_grad


CONTIGUOUS_ONLY = ("cat", "pad", "batch norm", "group norm", "upsample", "bilinear", "pool", "mean")
"""Operations on feature maps, which are always contiguous in the networks here."""


@pytest.mark.parametrize(
    ("name", "role"), [(name, role) for name in ONE_OPERAND for role in "xt" if role == "x" or name not in CONTIGUOUS_ONLY]
)
def test_operation_on_one_tensor(name: str, role: str) -> None:
    step, torch_step, shape = ONE_OPERAND[name]
    assert_saves_the_same(step, torch_step, [pair(shape, role, torch.float32)], autocast=False)


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True)],
    ids=["float32", "autocast", "autocast of bfloat16"],
)
@pytest.mark.parametrize("name", TWO_OPERANDS)
def test_operation_on_two_tensors(name: str, dtype: torch.dtype, autocast: bool) -> None:  # noqa: FBT001
    step, torch_step, first, second, role = TWO_OPERANDS[name]
    assert_saves_the_same(step, torch_step, [pair(first, "x", dtype), pair(second, role, dtype)], autocast=autocast)


EINSUMS = [
    ("bhqd,bhkd->bhqk", (2, 3, 5, 4), (2, 3, 6, 4)),
    ("bhnk,bhnv->bhkv", (2, 3, 5, 4), (2, 3, 5, 6)),
    ("bhnk,bhkv->bhnv", (2, 3, 5, 4), (2, 3, 4, 6)),
    ("bhnk,bhk->bhn", (2, 3, 5, 4), (2, 3, 4)),
    ("bhnd,md->bhnm", (2, 3, 5, 4), (7, 4)),
    ("kn,bhnd->bhkd", (7, 5), (2, 3, 5, 4)),
    ("bcnk,bckv->bcnv", (2, 3, 5, 1), (2, 3, 1, 1)),
    ("ik,kj->ij", (3, 4), (4, 5)),
]


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("roles", ["xx", "tx", "xt", "xc", "cx"])
@pytest.mark.parametrize(("equation", "left", "right"), EINSUMS, ids=[each[0] for each in EINSUMS])
def test_einsum(equation: str, left: tuple[int, ...], right: tuple[int, ...], roles: str, autocast: bool) -> None:  # noqa: FBT001
    operands = [pair(left, roles[0], torch.float32), pair(right, roles[1], torch.float32)]
    assert_saves_the_same(
        lambda tape, x, y: tape.einsum("it", equation, x, y),
        lambda x, y: torch.einsum(equation, x, y),
        operands,
        autocast=autocast,
    )


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
def test_fused_attention(autocast: bool) -> None:  # noqa: FBT001
    """In memory the heads come after the tokens, as in every network here."""
    pairs = [pair((2, 5, 3, 8), "x", torch.float32) for _ in range(3)]
    operands = [(spec.permute([0, 2, 1, 3]), tensor.permute(0, 2, 1, 3)) for spec, tensor in pairs]
    assert_saves_the_same(
        lambda tape, *x: tape.attention("it", *x), functional.scaled_dot_product_attention, operands, autocast=autocast
    )


def test_autocast_copies_a_parameter_once_and_an_activation_for_each_use() -> None:
    (x, tensor), (weight, parameter_tensor) = pair((2, 3, 4), "x", torch.float32), pair((4, 4), "w", torch.float32)

    def twice(tape: Tape, x: TensorSpec, _: TensorSpec) -> Any:  # noqa: ANN401 - the result of the tape's call
        shared = tape.register("linear", "Linear", lambda tape, x: tape.linear("it", x, 4), x)
        tape.call_shared("first", shared, x)
        return tape.call_shared("second", shared, x)

    def torch_twice(x: Tensor, weight: Tensor) -> Tensor:
        both = [functional.linear(x, weight) for _ in range(2)]
        results.append(both[0])
        return both[1]

    results: list[Tensor] = []
    assert_saves_the_same(twice, torch_twice, [(x, tensor), (weight, parameter_tensor)], autocast=True)


def test_each_storage_counts_once() -> None:
    recording, x = Tape(training=True), new((2, 3))
    for _ in range(2):
        recording.activation("it", "gelu", x)
        recording.activation("it", "gelu", x.permute([1, 0]))
    assert recording.saved_bytes == 2 * 3 * 4
    assert list(recording.saved) == [x.storage]
