"""The multiply-adds of a backward pass that ran: what torch's counter sees of it, and where that is wrong."""

from collections.abc import Callable, Sequence

import pytest
import torch
from models import MODELS
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from mpvit.trace.arguments import results_in
from mpvit.trace.live import trace_module

Forward = Callable[[Sequence[nn.Linear], Tensor], Tensor]


class Written(nn.Module):
    """A forward pass in one line, over layers of 16 channels: (2, 16) -> any."""

    def __init__(self, forward: Forward, frozen: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(3))
        self.written = forward
        for layer in self.layers[:frozen]:
            layer.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.written([self.layers[0], self.layers[1], self.layers[2]], x)  # type: ignore[list-item]  # Linear all


class Attention(nn.Module):
    """Matrix products of activations only after a linear layer: (b, n, 8) -> (b, n, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        return self.out((query @ key.mT).softmax(-1) @ value)


class Product(torch.autograd.Function):
    """A product with a backward pass of its own that computes only one gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001 - torch's
        ctx.save_for_backward(x)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return None, ctx.saved_tensors[0].mT @ gradient


def no_grad(layers: Sequence[nn.Linear], x: Tensor) -> Tensor:
    with torch.no_grad():
        x = layers[0](x)
    out: Tensor = layers[1](x)
    return out


def again(*, use_reentrant: bool) -> Forward:
    def forward(layers: Sequence[nn.Linear], x: Tensor) -> Tensor:
        block = nn.Sequential(layers[1], nn.GELU(), layers[2])
        out: Tensor = checkpoint(block, layers[0](x), use_reentrant=use_reentrant)
        return out

    return forward


ONE = 2 * 16 * 16
"""The multiply-adds of one layer of ``Written``."""

WRITTEN: dict[str, tuple[Written, int]] = {
    "weights alone of the first layer": (Written(lambda layers, x: layers[1](layers[0](x))), 3 * ONE),
    "frozen backbone": (Written(lambda layers, x: layers[2](layers[1](layers[0](x))), frozen=2), ONE),
    "frozen head": (Written(lambda layers, x: layers[0](layers[2](x)), frozen=1), 2 * ONE),
    "all frozen": (Written(lambda layers, x: layers[0](x), frozen=3), 0),
    "no_grad": (Written(no_grad), ONE),
    "detach": (Written(lambda layers, x: layers[1](layers[0](x).detach())), ONE),
    "second layer on the inputs": (Written(lambda layers, x: layers[0](x) + layers[1](x)), 2 * ONE),
    "computed weight": (Written(lambda layers, x: x @ (layers[0].weight * 2).mT), ONE),
    "weight of weights": (Written(lambda layers, x: x @ (layers[0].weight @ layers[1].weight)), ONE + 2 * 16**3),
    "einsum of three": (
        Written(lambda layers, x: torch.einsum("ab,bc,cd->ad", x, layers[0].weight, layers[1].weight)),
        3 * ONE,
    ),
    "own backward pass": (Written(lambda layers, x: Product.apply(layers[0](x), layers[1].weight)), ONE),  # type: ignore[no-untyped-call]
    "linear by keyword": (Written(lambda layers, x: functional.linear(weight=layers[0].weight, input=x)), ONE),
    # the block's first layer runs again; torch stops there, as nothing behind it is kept
    "checkpoint": (Written(again(use_reentrant=False)), 5 * ONE + ONE),
    "checkpoint, reentrant": (Written(again(use_reentrant=True)), 5 * ONE + 2 * ONE),
}


def counted(model: nn.Module, x: Tensor) -> int:
    """The MACs of forward and backward by torch's counter, the network in evaluation mode."""
    with FlopCounterMode(display=False) as counter:
        results = [tensor for tensor in results_in(model.eval()(x)) if tensor.requires_grad]
        torch.autograd.backward(results, [torch.ones_like(tensor) for tensor in results])
    return counter.get_total_flops() // 2


def backward(model: nn.Module, x: Tensor) -> dict[tuple[str, str], int]:
    trace = trace_module(model, [x], backward=True)
    assert trace.backward is not None
    return dict(trace.backward)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_only_needed_gradients_cost_and_reruns_cost_again(name: str, device: str) -> None:
    model, expected = WRITTEN[name]
    with torch.device(device):
        x = torch.empty(2, 16)
    trace = trace_module(model.to_empty(device=device), [x], backward=True)
    assert trace.backward is not None
    assert sum(trace.backward.values()) == expected
    if expected:
        assert trace.macs + expected == counted(model, x)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Attention, (2, 5, 8)),
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 5, 2, bias=False)), (2, 3, 17, 19)),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.Conv2d(4, 2, 1)), (1, 3, 6, 5)),
        (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), (2, 3, 7, 7)),
        (lambda: nn.GRU(3, 5, 2, bidirectional=True), (4, 2, 3)),
        (lambda: nn.LSTM(3, 5, proj_size=2), (4, 2, 3)),
        (lambda: nn.TransformerEncoderLayer(16, 2, batch_first=True), (2, 5, 16)),
        MODELS["unused_module"],
    ],
    ids=["attention", "convolutions", "transposed", "norm first", "GRU", "LSTM", "transformer", "tied"],
)
def test_the_backward_pass_is_what_torch_counts_without_groups(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model, x = make(), torch.empty(shape)
    assert trace_module(model, [x]).macs + sum(backward(model, x).values()) == counted(model, x)


@pytest.mark.parametrize(("name", "last"), [("checkpoint", 2), ("checkpoint, reentrant", 3)])
def test_each_gradient_counts_for_its_layer(name: str, last: int) -> None:
    """A rerun block costs its first layer again, and two gradients."""
    with torch.device("meta"):
        found = backward(WRITTEN[name][0].to_empty(device="meta"), torch.empty(2, 16))
    assert found == {("layers.0", "linear"): ONE, ("layers.1", "linear"): 3 * ONE, ("layers.2", "linear"): last * ONE}


@pytest.mark.parametrize(
    "forward",
    [
        lambda layers, x: layers[0](x) @ layers[1].weight[0],
        lambda layers, x: torch.outer(layers[0](x)[0], layers[1].weight[0]),
        lambda layers, x: torch.dot(layers[0](x)[0], layers[1].weight[0]),
        lambda layers, x: torch.einsum("a,b->ab", layers[0](x)[0], layers[1].weight[0]),
    ],
    ids=["mv", "outer", "dot", "einsum"],
)
def test_products_of_vectors_cost_twice_their_forward_pass(forward: Forward) -> None:
    with torch.device("meta"):
        model, x = Written(forward), torch.empty(2, 16)
    trace = trace_module(model, [x])
    product = trace.macs - ONE
    assert product > 0
    assert sum(backward(model, x).values()) == ONE + 2 * product
    assert counted(model, x) == 2 * ONE


def test_a_convolution_of_64_groups_is_3_times_its_forward_pass() -> None:
    """torch 2.13 counts 66 times."""
    with torch.device("meta"):
        model = nn.Sequential(nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False))
        images = torch.empty(1, 64, 56, 56)
    forward = 64 * 56 * 56 * 9
    assert trace_module(model, [images]).macs == forward
    assert backward(model, images) == {("1", "conv2d"): 2 * forward}
    assert counted(model, images) == 66 * forward


def test_fused_attention_on_the_cpu_costs_four_products() -> None:
    attention = Written(lambda layers, x: functional.scaled_dot_product_attention(*(layer(x[None, None]) for layer in layers)))
    products = 2 * 2 * 2 * 16
    x = torch.zeros(2, 16)
    assert sum(backward(attention, x).values()) == 3 * ONE + 2 * products
    assert counted(attention, x) == 2 * 3 * ONE


def test_gradients_are_unchanged_afterwards() -> None:
    model = nn.Linear(4, 4)
    model.weight.grad = before = torch.ones(4, 4)
    backward(model, torch.zeros(1, 4))
    assert model.weight.grad is before
    assert torch.equal(before, torch.ones(4, 4))
    assert model.bias.grad is None
