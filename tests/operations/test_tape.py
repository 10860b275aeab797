"""What each operation keeps for its backward pass against what autograd saves of torch's, to the byte, and its layout."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from mpvit.operations import tensor_spec
from mpvit.operations.tape import Tape
from mpvit.operations.tensor_spec import TensorSpec, constant, new, parameter


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    for remembered in vars(tensor_spec).values():
        if hasattr(remembered, "cache_clear"):
            remembered.cache_clear()


def saved(call: Callable[[], Tensor], operands: Sequence[Tensor], *, autocast: bool) -> tuple[int, Tensor]:
    """The bytes of the storages that autograd keeps of ``call``, parameters left out, and its result."""
    learned = {each.data_ptr() for each in operands if isinstance(each, nn.Parameter)}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no other takes its address

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in learned:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), saved_tensors_hooks(keep, lambda tensor: tensor):
        out = call()
    return sum(storage.nbytes() for storage in kept.values()), out


def pair(shape: tuple[int, ...], role: str, dtype: torch.dtype) -> tuple[TensorSpec, Tensor]:
    """A tensor of ours and torch's: x flows on, w is a parameter, c a constant, m a mask; t is an x with its axes reversed."""
    if role == "w":
        return parameter("weight", *shape), nn.Parameter(torch.ones(shape))
    if role == "m":
        return constant(*shape, dtype="bool"), torch.ones(shape, dtype=torch.bool)
    name = str(dtype).removeprefix("torch.")
    if role == "c":
        return constant(*shape, dtype=name), torch.ones(shape, dtype=dtype)
    axes = list(reversed(range(len(shape)))) if role == "t" else list(range(len(shape)))
    first = tuple(shape[axis] for axis in axes)
    theirs = torch.ones(first, dtype=dtype, requires_grad=True)
    return new(first, name).permute(axes), (theirs * 1).permute(axes)


Step = Callable[..., Any]


def activation(kind: str) -> Step:
    return lambda tape, x: tape.activation("it", kind, x)


def elementwise(kind: str) -> Step:
    return lambda tape, *operands: tape.elementwise("it", kind, *operands)


def norm(kind: str, groups: int = 1) -> Step:
    return lambda tape, x: tape.norm("it", kind, x, groups=groups)


def upsample(mode: str) -> Step:
    return lambda tape, x: tape.upsample("it", mode, x, (9, 7))


ONE: dict[str, tuple[Step, Step, tuple[int, ...]]] = {
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
    "sum": (lambda tape, x: tape.reduction("it", "sum", x, -2), lambda x: x.sum(-2, keepdim=True), (2, 3, 4)),
    "sum over the first": (lambda tape, x: tape.reduction("it", "sum", x, 0), lambda x: x.sum(0, keepdim=True), (2, 3, 4)),
    "sum that drops its axis": (
        lambda tape, x: tape.reduction("it", "sum", x, -2, keepdim=False),
        lambda x: x.sum(-2),
        (2, 3, 4),
    ),
    "amax": (lambda tape, x: tape.reduction("it", "amax", x, -1), lambda x: x.amax(-1, keepdim=True), (2, 3, 4)),
    "amax over two": (
        lambda tape, x: tape.reduction("it", "amax", x, 0, -1),
        lambda x: x.amax((0, -1), keepdim=True),
        (2, 3, 4),
    ),
    "normalize": (lambda tape, x: tape.normalize("it", x, -2), lambda x: functional.normalize(x, dim=-2), (2, 3, 4)),
    "normalize over the first": (
        lambda tape, x: tape.normalize("it", x, 0),
        lambda x: functional.normalize(x, dim=0),
        (2, 3, 4),
    ),
    "cat": (lambda tape, x: tape.cat("it", [x, x, x]), lambda x: torch.cat([x, x, x], 1), (2, 3, 4, 5)),
    "pad": (lambda tape, x: tape.pad("it", x, (2, 4, 6)), lambda x: functional.pad(x, (0, 2, 0, 1)), (2, 3, 4)),
    "upsample": (upsample("nearest"), lambda x: functional.interpolate(x, (9, 7)), (2, 3, 4, 5)),
    "bilinear": (upsample("bilinear"), lambda x: functional.interpolate(x, (9, 7), mode="bilinear"), (2, 3, 4, 5)),
    "pool": (lambda tape, x: tape.adaptive_pool("it", x, 3), lambda x: functional.adaptive_avg_pool2d(x, 3), (2, 3, 4, 5)),
    "mean": (lambda tape, x: tape.adaptive_pool("it", x, 1), lambda x: functional.adaptive_avg_pool2d(x, 1), (2, 3, 4, 5)),
    "a product with itself": (lambda tape, x: tape.elementwise("it", "mul", x, x), lambda x: x * x, (2, 3, 4)),
}
TWO: dict[str, tuple[Step, Step, tuple[int, ...], tuple[int, ...], str]] = {
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
    "conv": (
        lambda tape, x, _: tape.conv("it", x, 8, 3),
        lambda x, w: functional.conv2d(x, w, padding=1),
        (2, 3, 5, 6),
        (8, 3, 3, 3),
        "w",
    ),
    "strided conv": (
        lambda tape, x, _: tape.conv("it", x, 8, 3, stride=2),
        lambda x, w: functional.conv2d(x, w, stride=2, padding=1),
        (2, 3, 5, 6),
        (8, 3, 3, 3),
        "w",
    ),
    "patches": (
        lambda tape, x, w: tape.conv("it", x, 8, 2, stride=2, padding=0, weights=[w]),
        lambda x, w: functional.conv2d(x, w, stride=2),
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


def assert_kept(step: Step, torchs: Step, operands: list[tuple[TensorSpec, Tensor]], *, autocast: bool) -> None:
    tape = Tape(training=True, autocast=autocast)
    predicted = step(tape, *(ours for ours, _ in operands))
    tensors = [tensor for _, tensor in operands]
    kept, out = saved(lambda: torchs(*tensors), tensors, autocast=autocast)
    assert tape.saved_bytes == kept
    assert predicted.shape == tuple(out.shape)
    assert predicted.storage.nbytes == out.untyped_storage().nbytes()
    for length, ours, theirs in zip(out.shape, predicted.strides, out.stride(), strict=True):
        assert length == 1 or ours == theirs  # along one number no step is taken
    assert f"torch.{predicted.dtype}" == str(out.dtype)
    assert predicted.differentiable == out.requires_grad


AS_THEY_LIE = ("cat", "pad", "batch norm", "group norm", "upsample", "bilinear", "pool", "mean")
"""Maps, whose axes no network here has in another order in memory."""


@pytest.mark.parametrize(
    ("name", "role"), [(name, role) for name in ONE for role in "xt" if role == "x" or name not in AS_THEY_LIE]
)
def test_an_operation_on_one_tensor(name: str, role: str) -> None:
    step, torchs, shape = ONE[name]
    assert_kept(step, torchs, [pair(shape, role, torch.float32)], autocast=False)


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True)],
    ids=["float32", "autocast", "autocast of bfloat16"],
)
@pytest.mark.parametrize("name", TWO)
def test_an_operation_on_two(name: str, dtype: torch.dtype, autocast: bool) -> None:  # noqa: FBT001
    step, torchs, first, second, role = TWO[name]
    assert_kept(step, torchs, [pair(first, "x", dtype), pair(second, role, dtype)], autocast=autocast)


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
def test_a_product(equation: str, left: tuple[int, ...], right: tuple[int, ...], roles: str, autocast: bool) -> None:  # noqa: FBT001
    operands = [pair(left, roles[0], torch.float32), pair(right, roles[1], torch.float32)]
    assert_kept(
        lambda tape, x, y: tape.einsum("it", equation, x, y),
        lambda x, y: torch.einsum(equation, x, y),
        operands,
        autocast=autocast,
    )


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
def test_fused_attention(autocast: bool) -> None:  # noqa: FBT001
    """Of heads that lie behind the tokens in memory, as in every network here."""
    drawn = [pair((2, 5, 3, 8), "x", torch.float32) for _ in range(3)]
    operands = [(ours.permute([0, 2, 1, 3]), theirs.permute(0, 2, 1, 3)) for ours, theirs in drawn]
    assert_kept(lambda tape, *x: tape.attention("it", *x), functional.scaled_dot_product_attention, operands, autocast=autocast)


def test_autocast_copies_a_parameter_once_a_pass_and_an_activation_each_time() -> None:
    (x, theirs), (weight, learned) = pair((2, 3, 4), "x", torch.float32), pair((4, 4), "w", torch.float32)

    def twice(tape: Tape, x: TensorSpec, _: TensorSpec) -> Any:  # noqa: ANN401 - of the tape's call
        shared = tape.register("linear", "Linear", lambda tape, x: tape.linear("it", x, 4), x)
        tape.call_shared("first", shared, x)
        return tape.call_shared("second", shared, x)

    def torchs(x: Tensor, weight: Tensor) -> Tensor:
        both = [functional.linear(x, weight) for _ in range(2)]
        kept.append(both[0])
        return both[1]

    kept: list[Tensor] = []
    assert_kept(twice, torchs, [(x, theirs), (weight, learned)], autocast=True)


def test_a_storage_counts_once_whatever_keeps_it() -> None:
    tape, x = Tape(training=True), new((2, 3))
    for _ in range(2):
        tape.activation("it", "gelu", x)
        tape.activation("it", "gelu", x.permute([1, 0]))
    assert tape.saved_bytes == 2 * 3 * 4
    assert list(tape.saved) == [x.storage]
