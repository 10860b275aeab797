"""Graphs of a forward pass: when they are recorded and dropped, with a stand-in on the CPU; and on a GPU what they compute."""

import contextlib
import copy
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from mpvit import ModelConfig, StageConfig, build_model
from mpvit.model import cuda_graph
from mpvit.model.cuda_graph import MAX_GRAPHS, WARM_UPS, GraphedModule
from mpvit.model.fused import FusedMPViT, fuse

SMALL = ModelConfig((StageConfig(2, 1, 8, 2, 2), StageConfig(3, 2, 24, 4, 2)), num_classes=5)


class StandIn:
    """A graph that computes instead of replaying. Like a real one it cannot be copied, and it fills memory."""

    recorded: ClassVar[list[int]]
    """Batch sizes of the recordings."""
    kept: ClassVar[weakref.WeakSet["StandIn"]]
    """Stand-ins that exist."""

    def __init__(self, module: GraphedModule, x: Tensor) -> None:
        assert len(StandIn.kept) < MAX_GRAPHS  # the one that makes way has gone before
        self.compute, self.lock = module.compute, threading.Lock()
        self.compute(x)
        StandIn.recorded.append(len(x))
        StandIn.kept.add(self)

    def replay(self, x: Tensor) -> Tensor:
        return self.compute(x)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the CPU pass for a GPU, and return the batch sizes of the recordings."""
    StandIn.recorded, StandIn.kept = [], weakref.WeakSet()
    monkeypatch.setattr(cuda_graph, "CudaGraph", StandIn)
    monkeypatch.setattr(cuda_graph, "_is_replayed", lambda _: True)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: 0)
    return StandIn.recorded


@pytest.fixture
def network() -> FusedMPViT:
    torch.manual_seed(0)
    return fuse(build_model(SMALL).double())


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 40, 56, dtype=torch.float64)


class Doubling(GraphedModule):
    def compute(self, x: Tensor) -> Tensor:
        if not len(x):
            raise ZeroDivisionError
        return 2 * x


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ((), ()),
        ((1, 1, 1), (1,)),
        ((1, 2, 1, 2), (1, 2)),
        ((1, 2, 3, 4, 5, 2, 3, 4, 5), (1, 2, 3, 4, 5)),
        ((1, 2, 3, 4, 5, 1), (1, 2, 3, 4, 5, 1)),
        ((1, 2, 3, 4, 1, 5, 1, 2), (1, 2, 3, 4, 5, 2)),  # 2 was used longest ago
        ((1, 2, 3, 4, 5, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 1, 2, 3, 4, 5)),
    ],
)
def test_the_least_recently_used_graph_makes_way(
    batches: tuple[int, ...], expected: tuple[int, ...], recorded: list[int]
) -> None:
    module = Doubling()
    for batch in batches:
        assert torch.equal(module(torch.ones(batch)), torch.full((batch,), 2.0))
    assert tuple(recorded) == expected


def test_a_pass_that_cannot_be_recorded_is_not_kept(recorded: list[int]) -> None:
    module = Doubling()
    with pytest.raises(ZeroDivisionError):
        module(torch.ones(0))
    assert (recorded, len(StandIn.kept)) == ([], 0)
    assert torch.equal(module(torch.ones(1)), torch.tensor([2.0]))


def test_without_cuda_forward_is_compute(network: FusedMPViT, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "CudaGraph", None)  # calling it would fail
    assert torch.equal(network(image), network.compute(image))
    assert torch.cuda.is_available() or not torch.cuda.is_initialized()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])  # noqa: S301
def test_a_copy_starts_without_graphs(
    network: FusedMPViT, image: Tensor, recorded: list[int], again: Callable[[FusedMPViT], FusedMPViT]
) -> None:
    expected = network(image)
    found = again(network)
    assert torch.equal(found(image), expected)
    assert recorded == [2, 2]
    assert torch.equal(network(image), expected)  # which has kept its own
    assert recorded == [2, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.to(torch.float32),
        lambda network: network.to("meta"),
        lambda network: network.double(),
        lambda network: network.load_state_dict(network.state_dict(), assign=True),
    ],
    ids=["cast", "moved", "cast to its own dtype", "loaded"],
)
def test_replaced_tensors_leave_no_graph(
    network: FusedMPViT, image: Tensor, recorded: list[int], change: Callable[[FusedMPViT], object]
) -> None:
    network(image)
    change(network)
    assert len(StandIn.kept) == 0
    network(image.to(next(network.buffers()).device))
    assert recorded == [2, 2]


def test_graphs_are_no_part_of_the_state(network: FusedMPViT, image: Tensor, recorded: list[int]) -> None:
    network(image)
    assert recorded
    state = network.state_dict()
    assert state
    assert all(isinstance(value, Tensor) for value in state.values())
    assert set(state) == {name for name, _ in network.named_buffers()}


def test_a_cast_network_computes_in_its_new_dtype(network: FusedMPViT, image: Tensor) -> None:
    expected = network(image)
    found = network.to(torch.float32)(image)
    assert found.dtype == torch.float32
    assert ((found - expected).abs() / (1 + expected.abs())).max() <= 1e-4


def counted(network: FusedMPViT, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each pass that is not replayed: a recording has ``WARM_UPS + 1``."""
    passes: list[int] = []
    compute = network.compute

    def count(x: Tensor) -> Tensor:
        passes.append(len(x))
        return compute(x)

    monkeypatch.setattr(network, "compute", count)
    return passes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_on_a_gpu_replays_give_what_the_plain_network_does(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    plain = build_model("tiny").eval().double().cuda()
    network = fuse(plain)
    passes = counted(network, monkeypatch)
    images = [torch.randn(batch, 3, 96, 128, dtype=torch.float64, device="cuda") for batch in (1, 3, 1, 3)]
    found = [network(image) for image in images]  # each shape recorded, then replayed; no output is overwritten
    for image, logits in zip(images, found, strict=True):
        torch.testing.assert_close(logits, plain(image), atol=1e-9, rtol=1e-9)
    assert passes == [1] * (WARM_UPS + 1) + [3] * (WARM_UPS + 1)  # one graph for each shape
    with torch.backends.cudnn.flags(allow_tf32=False):
        network.to(torch.float32)
        for image in images:
            torch.testing.assert_close(network(image).double(), plain(image), atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_limited_number_of_graphs_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fuse(build_model(SMALL).double()).cuda()
    passes = counted(network, monkeypatch)
    images = [torch.randn(batch, 3, 40, 56, dtype=torch.float64, device="cuda") for batch in range(1, MAX_GRAPHS + 3)]
    for image in images:
        torch.testing.assert_close(network(image), network.compute(image), atol=1e-9, rtol=1e-9)
    before = len(passes)
    again = [network(image) for image in images[-MAX_GRAPHS:]][-1]
    assert len(passes) == before  # all of them are still there
    torch.cuda.make_graphed_callables(nn.Linear(2, 2, device="cuda"), (torch.ones(1, 2, device="cuda"),))  # others still can
    assert torch.equal(network(images[-1]), again)
    network(images[0])
    assert len(passes) == before + WARM_UPS + 1  # this one made way
    image = images[-1].cpu()
    assert torch.equal(network.cpu()(image), network.compute(image))
    before = len(passes)
    network.cuda()(images[-1])
    assert len(passes) == before + WARM_UPS + 1
