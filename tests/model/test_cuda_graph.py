"""Graphs of a module's forward: what is kept of them anywhere, and on a GPU what they compute."""

import copy
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mpvit import ModelConfig, StageConfig, build_model
from mpvit.model.cuda_graph import GRAPHS, recall
from mpvit.model.fused import FusedMPViT, fuse

SMALL = ModelConfig((StageConfig(2, 1, 8, 2, 2), StageConfig(3, 2, 24, 4, 2)), num_classes=5)


@pytest.mark.parametrize(
    ("asked", "made", "kept"),
    [
        ("", "", ""),
        ("aaa", "a", "a"),
        ("abab", "ab", "ab"),
        ("abc", "abc", "bc"),
        ("abac", "abc", "ac"),  # b was asked for longest ago
        ("abaca", "abc", "ca"),
        ("abcabc", "abcabc", "bc"),
    ],
)
def test_of_two_the_least_recently_recalled_goes(asked: str, made: str, kept: str) -> None:
    record: list[str] = []
    values: dict[object, str] = {}

    def make(key: str) -> str:
        assert len(values) < 2  # what goes has gone before: there is never memory for a third
        record.append(key)
        return key.upper()

    for key in asked:
        assert recall(values, key, lambda key=key: make(key), 2) == key.upper()  # type: ignore[misc]
    assert ("".join(record), "".join(map(str, values))) == (made, kept)


def test_what_cannot_be_made_is_not_kept() -> None:
    values: dict[object, int] = {}
    with pytest.raises(ZeroDivisionError):
        recall(values, "a", lambda: 1 // 0, 2)
    assert not values
    assert recall(values, "a", lambda: 1, 2) == 1


@pytest.fixture
def network() -> FusedMPViT:
    torch.manual_seed(0)
    return fuse(build_model(SMALL).double())


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 40, 56, dtype=torch.float64)


def test_without_cuda_forward_is_compute(network: FusedMPViT, image: Tensor) -> None:
    assert torch.equal(network(image), network.compute(image))
    assert not network._graphs  # noqa: SLF001
    assert torch.cuda.is_available() or not torch.cuda.is_initialized()


@pytest.fixture
def recorded(network: FusedMPViT) -> FusedMPViT:
    """The network with what no copy can hold, as no copy can hold a graph."""
    network._graphs["lock"] = threading.Lock()  # type: ignore[assignment] # noqa: SLF001
    return network


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])  # noqa: S301
def test_a_copy_starts_without_graphs(recorded: FusedMPViT, image: Tensor, again: Callable[[FusedMPViT], FusedMPViT]) -> None:
    found = again(recorded)
    assert not found._graphs  # noqa: SLF001
    assert "lock" in recorded._graphs  # noqa: SLF001
    assert torch.equal(found(image), recorded(image))


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.to(torch.float32),
        lambda network: network.to("meta"),
        lambda network: network.double(),
        lambda network: network.load_state_dict(network.state_dict(), assign=True),
    ],
    ids=["cast", "moved", "cast to its own", "loaded"],
)
def test_other_tensors_leave_no_graph(recorded: FusedMPViT, change: Callable[[FusedMPViT], object]) -> None:
    change(recorded)
    assert not recorded._graphs  # noqa: SLF001


def test_graphs_are_no_part_of_the_state(recorded: FusedMPViT) -> None:
    state = recorded.state_dict()
    assert state
    assert all(isinstance(value, Tensor) for value in state.values())
    assert set(state) == {name for name, _ in recorded.named_buffers()}


def test_a_cast_network_computes_in_its_new_dtype(network: FusedMPViT, image: Tensor) -> None:
    expected = network(image)
    found = network.to(torch.float32)(image)
    assert found.dtype == torch.float32
    assert ((found - expected).abs() / (1 + expected.abs())).max() <= 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_on_a_gpu_replays_give_what_the_plain_network_does() -> None:
    torch.manual_seed(0)
    plain = build_model("tiny").eval().double().cuda()
    network = fuse(plain)
    images = [torch.randn(batch, 3, 96, 128, dtype=torch.float64, device="cuda") for batch in (1, 3, 1, 3)]
    found = [network(image) for image in images]  # each shape recorded, then replayed; no output is overwritten
    for image, logits in zip(images, found, strict=True):
        torch.testing.assert_close(logits, plain(image), atol=1e-9, rtol=1e-9)
    assert len(network._graphs) == 2  # noqa: SLF001 - a shape each
    with torch.backends.cudnn.flags(allow_tf32=False):
        network.to(torch.float32)
        for image in images:
            torch.testing.assert_close(network(image).double(), plain(image), atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_no_more_graphs_are_kept_than_said() -> None:
    network = fuse(build_model(SMALL).double()).cuda()
    for batch in range(1, GRAPHS + 3):
        image = torch.randn(batch, 3, 40, 56, dtype=torch.float64, device="cuda")
        torch.testing.assert_close(network(image), network.compute(image), atol=1e-9, rtol=1e-9)
    assert len(network._graphs) == GRAPHS  # noqa: SLF001
    again = network(image)
    torch.cuda.make_graphed_callables(nn.Linear(2, 2, device="cuda"), (torch.ones(1, 2, device="cuda"),))  # others still can
    assert torch.equal(network(image), again)
    assert torch.equal(network.cpu()(image.cpu()), network.compute(image.cpu()))
    assert not network._graphs  # noqa: SLF001
