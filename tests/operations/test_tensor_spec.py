"""Tensors without data against torch's tensors: the same strides, and a copy where torch copies."""

from math import prod

import einops
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mpvit.operations import tensor_spec
from mpvit.operations.tensor_spec import TensorSpec, elementwise, new


@pytest.fixture(autouse=True)
def _clear_caches() -> None:
    for cached in vars(tensor_spec).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


Pair = tuple[TensorSpec, Tensor]

SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)


@st.composite
def pairs(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, ...]] = SHAPES) -> Pair:
    """The same tensor here and in torch, its axes in any order, some of them expanded."""
    shape = draw(shapes)
    order = draw(st.permutations(range(len(shape))))
    expanded = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    stored = tuple(1 if repeated else length for length, repeated in zip(shape, expanded, strict=True))
    first = tuple(stored[axis] for axis in order)
    back = [order.index(axis) for axis in range(len(shape))]
    return new(first).permute(back).expand(shape), torch.empty(first).permute(back).expand(shape)


def assert_same(spec: TensorSpec, tensor: Tensor) -> None:
    assert (spec.shape, spec.strides) == (tuple(tensor.shape), tensor.stride())
    assert spec.storage.nbytes == tensor.untyped_storage().nbytes()


def assert_same_view(view: TensorSpec, spec: TensorSpec, torch_view: Tensor, tensor: Tensor) -> None:
    """``view`` of ``spec`` is laid out as ``torch_view`` of ``tensor``, and is a copy if that is one."""
    assert_same(view, torch_view)
    is_view = torch_view.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert (view.storage is spec.storage) == is_view


@given(pairs())
def test_permuted_and_expanded_tensor_has_torchs_layout(pair: Pair) -> None:
    assert_same(*pair)


def factors(number: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Any shape with this number of elements, including axes of length 1."""
    found = []
    for prime in (2, 3):
        while number % prime == 0:
            found.append(prime)
            number //= prime
    return st.permutations([*found, 1]).flatmap(
        lambda parts: st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)).map(lambda cuts: _joined(parts, cuts))
    )


def _joined(parts: list[int], cuts: list[bool]) -> tuple[int, ...]:
    groups: list[list[int]] = [[]]
    for part, cut in zip(parts, cuts, strict=True):
        groups[-1].append(part)
        groups += [[]] if cut else []
    return tuple(map(prod, groups))


@given(st.data())
def test_reshaped_tensor_is_a_view_if_torchs_is(data: st.DataObject) -> None:
    spec, tensor = data.draw(pairs())
    shape = data.draw(factors(prod(spec.shape)))
    assert_same_view(spec.reshape(shape), spec, tensor.reshape(shape), tensor)


@pytest.mark.parametrize(
    ("pattern", "shape", "lengths"),
    [
        ("b n (three heads d) -> three b heads n d", (2, 5, 12), {"three": 3, "heads": 2}),
        ("b heads n d -> b n (heads d)", (2, 3, 5, 4), {}),
        ("b c h w -> b (h w) c", (2, 4, 3, 5), {}),
        ("b (h w) c -> b c h w", (2, 15, 4), {"h": 3}),
        ("b (heads d) (h w) -> (b heads) d h w", (2, 6, 15), {"heads": 3, "w": 5}),
        ("(b one) c -> b (c one)", (4, 3), {"one": 1}),
        ("b c (h p) (w q) -> (b h w) (p q) c", (2, 4, 6, 10), {"p": 3, "q": 5}),
    ],
)
def test_rearranged_tensor_is_that_of_einops(pattern: str, shape: tuple[int, ...], lengths: dict[str, int]) -> None:
    for order in (tuple(range(len(shape))), tuple(reversed(range(len(shape))))):
        first = tuple(shape[axis] for axis in order)
        spec, tensor = new(first).permute(order), torch.empty(first).permute(order)
        assert_same_view(spec.rearrange(pattern, **lengths), spec, einops.rearrange(tensor, pattern, **lengths), tensor)


@given(st.data())
def test_elementwise_result_has_torchs_layout(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    shapes = st.tuples(*(st.sampled_from((1, length)) for length in shape))
    drawn = [data.draw(pairs(shapes)) for _ in range(data.draw(st.integers(1, 3)))]
    expected = drawn[0][1].exp() if len(drawn) == 1 else drawn[0][1] + drawn[1][1]
    if len(drawn) == 3:
        expected = torch.addcmul(drawn[0][1], drawn[1][1], drawn[2][1])
    assert_same(elementwise(*(spec for spec, _ in drawn)), expected)


@pytest.mark.parametrize(
    "dtypes", [("bfloat16",), ("float32",), ("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16")]
)
def test_elementwise_result_has_the_wider_dtype(dtypes: tuple[str, ...]) -> None:
    tensors = [torch.empty(2, 3, dtype=getattr(torch, dtype)) for dtype in dtypes]
    found = elementwise(*(new((2, 3), dtype) for dtype in dtypes))
    expected = sum(tensors[1:], tensors[0])
    assert found.dtype == str(expected.dtype).removeprefix("torch.")
    assert_same(found, expected)


def test_result_needs_a_gradient_if_an_operand_does() -> None:
    fixed, learned = new((2,), differentiable=False), new((2,))
    assert [elementwise(*each).differentiable for each in ((fixed,), (fixed, learned), (learned, fixed))] == [False, True, True]
    for view in (fixed.permute([0]), fixed.reshape((1, 2)), fixed.expand((2,)), fixed.rearrange("a -> a")):
        assert not view.differentiable
    across = new((2, 3), differentiable=False).permute([1, 0])
    for copy in (across.reshape((6,)), across.rearrange("a b -> (a b)")):
        assert copy.storage is not across.storage
        assert not copy.differentiable


def test_parts_of_a_tensor_are_views() -> None:
    spec, tensor = new((3, 4, 5)), torch.empty(3, 4, 5)
    for part, expected in zip(spec.unbind(), tensor.unbind(), strict=True):
        assert_same(part, expected)
        assert part.storage is spec.storage
    assert_same(spec.narrow((3, 2, 5)), tensor.narrow(1, 1, 2))


def test_storage_has_the_bytes_of_its_elements() -> None:
    for dtype in ("float32", "bfloat16", "float16", "bool"):
        assert new((3, 7), dtype).storage.nbytes == torch.empty(3, 7, dtype=getattr(torch, dtype)).nbytes
    assert (new((3,)).differentiable, new((3,)).dtype) == (True, "float32")
