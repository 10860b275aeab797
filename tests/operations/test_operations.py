import pytest
import torch
from recorded import conv, einsum, elementwise, linear, norm, pool, recorded, upsample
from torch import nn

from mpvit.ablation.results import NetworkCost
from mpvit.operations import Block, Cost, Operation, called, registered, walk
from mpvit.operations.conventions import CONVENTIONS, multiply_adds, tally
from mpvit.operations.tensor_spec import new, parameter
from mpvit.trace.layer_tree import LayerCost


@pytest.mark.parametrize(
    ("one", "other", "total"),
    [
        (Cost(7, 50, 9), Cost(5, 20, 3), Cost(12, 70, 12)),
        (LayerCost(1, 2, 3, 4, 5, 6, 7), LayerCost(10, 20, 30, 40, 50, 60, 70), LayerCost(11, 22, 33, 44, 55, 66, 77)),
        (NetworkCost(1, 2, 3, 40, 500), NetworkCost(1, 1, 1, 2, 3), NetworkCost(2, 3, 4, 42, 503)),
    ],
    ids=lambda cost: type(cost).__name__,
)
def test_costs_are_added_and_subtracted(one: Cost, other: Cost, total: Cost) -> None:
    assert one + other == total
    assert total - other == one


def test_sum_of_costs_starts_at_zero() -> None:
    assert sum([Cost(1, 2, 3), Cost(10, 20, 30)], Cost()) == Cost(11, 22, 33)
    assert sum([], Cost()) == Cost(0, 0, 0)


def test_sum_and_difference_lack_a_figure_that_one_cost_lacks() -> None:
    trained, untrainable = NetworkCost(9, 8, 7, 60, 50), NetworkCost(1, 1, 1)
    assert trained + untrainable == untrainable + trained == NetworkCost(10, 9, 8)
    assert trained - untrainable == NetworkCost(8, 7, 6)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "height", "width"), [(1, 1, 1), (3, 7, 10), (7, 2, 5)])
def test_convolution_equals_torchs(kernel: int, height: int, width: int, stride: int, *, bias: bool, groups: int) -> None:
    layer = nn.Conv2d(6, 12, kernel, stride, kernel // 2, groups=groups, bias=bias)
    operation = conv((2, 6, height, width), 12, kernel, stride=stride, groups=groups, bias=bias)
    output = layer(torch.zeros(2, 6, height, width))
    assert operation.output_shape == tuple(output.shape)
    assert operation.params == sum(p.numel() for p in layer.parameters())
    # each output element sums over one kernel of one group's input channels: the weight's elements per output channel
    assert operation.macs == output.numel() * layer.weight[0].numel()
    assert operation.elements_read == 2 * 6 * height * width + operation.params
    assert operation.elements_written == operation.activations == output.numel()


def test_transposed_convolution_equals_torchs() -> None:
    layer = nn.ConvTranspose2d(6, 5, 3, 3)
    operation = recorded(lambda tape: tape.transposed_conv("it", new((2, 6, 4, 7)), 5, 3))
    output = layer(torch.zeros(2, 6, 4, 7))
    assert operation.output_shape == tuple(output.shape)
    assert operation.params == sum(p.numel() for p in layer.parameters())
    assert operation.macs == output.numel() * 6  # its windows do not overlap: each output element sums over the channels
    assert operation.elements_read == 2 * 6 * 4 * 7 + operation.params
    assert operation.module == type(layer).__name__


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layer_equals_torchs(*, bias: bool) -> None:
    layer = nn.Linear(5, 7, bias=bias)
    operation = linear((2, 3, 5), 7, bias=bias)
    assert operation.output_shape == tuple(layer(torch.zeros(2, 3, 5)).shape)
    assert operation.params == sum(p.numel() for p in layer.parameters())
    assert operation.macs == 2 * 3 * 7 * 5
    assert operation.elements_read == 2 * 3 * 5 + operation.params
    assert operation.elements_written == operation.activations == 2 * 3 * 7


NORMS = [("batch_norm", nn.BatchNorm2d(4)), ("layer_norm", nn.LayerNorm(5)), ("group_norm", nn.GroupNorm(2, 4))]


@pytest.mark.parametrize(("kind", "layer"), NORMS)
def test_norm_reads_its_input_parameters_and_buffers(kind: str, layer: nn.Module) -> None:
    operation = norm(kind, (2, 4, 5, 5))
    held = [*layer.parameters(), *(buffer for buffer in layer.buffers() if buffer.ndim)]
    assert operation.params == sum(parameter.numel() for parameter in layer.parameters())
    assert operation.elements_read == 2 * 4 * 5 * 5 + sum(tensor.numel() for tensor in held)
    assert operation.module == type(layer).__name__


@pytest.mark.parametrize("equation", ["bnk,bkm->bnm", "bhnk,bhk->bhn", "bhnd,md->bhnm", "ik,kj->ij", "bck,bcv->bckv"])
def test_einsum_equals_torchs(equation: str) -> None:
    """Its multiply-adds are the elements of the product before an axis is summed."""
    lengths = {letter: 2 + i for i, letter in enumerate(sorted(set(equation) - set(",->")))}
    terms, _ = equation.split("->")
    left, right = (tuple(lengths[letter] for letter in term) for term in terms.split(","))
    operation = einsum(equation, left, right)
    assert operation.output_shape == tuple(torch.einsum(equation, torch.zeros(left), torch.zeros(right)).shape)
    every = f"{terms}->{''.join(lengths)}"
    assert operation.macs == torch.einsum(every, torch.zeros(left), torch.zeros(right)).numel()
    assert operation.elements_read == torch.zeros(left).numel() + torch.zeros(right).numel()
    assert operation.params == 0


def test_elements_that_other_operations_read_and_write() -> None:
    shape, half = (2, 4, 5, 5), (2, 2, 5, 5)
    assert [elementwise("add", shape, *others).elements_read for others in ((), (shape,), ((2, 1, 1, 1),))] == [200, 400, 202]
    joined = recorded(lambda tape: tape.cat("it", [new(half), new(half)]))
    assert joined.output_shape == shape
    assert (joined.elements_read, joined.elements_written, joined.activations) == (200, 200, 0)
    pooled = pool(shape, 1)
    assert (pooled.elements_read, pooled.output_shape) == (200, tuple(nn.AdaptiveAvgPool2d(1)(torch.zeros(shape)).shape))
    amax = recorded(lambda tape: tape.reduction("it", "amax", new(shape), 1, 2, 3))
    assert (amax.elements_read, amax.elements_written, amax.macs) == (200, 2, 0)
    assert pool(shape, 3).output_shape == tuple(nn.AdaptiveAvgPool2d(3)(torch.zeros(shape)).shape)
    for mode in ("nearest", "bilinear"):
        resized = upsample(mode, shape, (7, 11))
        assert resized.output_shape == tuple(nn.functional.interpolate(torch.zeros(shape), size=(7, 11), mode=mode).shape)
    for kind, layer in (("gelu", nn.GELU()), ("hardswish", nn.Hardswish()), ("relu", nn.ReLU())):
        operation = recorded(lambda tape, kind=kind: tape.activation("it", kind, new(shape)))  # type: ignore[misc]
        assert (operation.kind, operation.module, operation.output_shape) == (kind, type(layer).__name__, shape)
    relu = recorded(lambda tape: tape.activation("it", "relu", new(shape), function=True))
    assert relu == recorded(lambda tape: tape.activation("it", "relu", new(shape)))._replace(module="")
    weight = parameter("weight", 4, 4, 1, 1)
    called_as_function = recorded(lambda tape: tape.conv("it", new(shape), 4, 1, weights=[weight]))
    assert called_as_function == conv(shape, 4, 1)._replace(module="", weight_names=("weight",))
    assert recorded(lambda tape: tape.conv("it", new(shape), 4, 1, weights=[weight])).params == 0  # counted at the first use


IMAGE, TOKENS = (2, 4, 5, 5), (2, 25, 4)
TRANSPOSED = recorded(lambda tape: tape.transposed_conv("it", new(IMAGE), 8, 2))


@pytest.mark.parametrize(
    ("operation", "fvcore", "exact", "only_matmul"),
    [
        (conv(IMAGE, 8, 1), 2 * 8 * 25 * 4, 2 * 8 * 25 * 4, 2 * 8 * 25 * 4),
        (linear(TOKENS, 8), 2 * 25 * 8 * 4, 2 * 25 * 8 * 4, 2 * 25 * 8 * 4),
        (norm("batch_norm", IMAGE), 2 * 200, 2 * 200, 0),
        (norm("layer_norm", TOKENS), 5 * 200, 5 * 200, 0),
        (pool(IMAGE, 1), 200, 200, 0),
        (pool(IMAGE, 3), 200, 200, 0),
        (TRANSPOSED, 4 * 2 * 8 * 25 * 4, 4 * 2 * 8 * 25 * 4, 4 * 2 * 8 * 25 * 4),
        (norm("group_norm", IMAGE), 5 * 200, 5 * 200, 0),
        (upsample("nearest", IMAGE, (2, 3)), 2 * 4 * 6, 2 * 4 * 6, 0),
        (upsample("bilinear", IMAGE, (2, 3)), 4 * 2 * 4 * 6, 4 * 2 * 4 * 6, 0),
        (elementwise("softmax", TOKENS), 0, 0, 0),
        # 2 x 123 456 FLOPs print as 2.469e+05, four digits, of which fvcore takes half
        (einsum("ik,kj->ij", (1, 123_456), (123_456, 1)), 123_450, 123_456, 123_456),
        (einsum("ik,kj->ij", (2, 1), (1, 3)), 6, 6, 0),  # torch dispatches an elementwise product
        (einsum("ik,kj->ij", (1, 4_999), (4_999, 1)), 4_999, 4_999, 4_999),
        (einsum("ik,kj->ij", (1, 50_025), (50_025, 1)), 50_050, 50_025, 50_025),  # a tie: numpy prints one FLOP more
        (einsum("ik,kj->ij", (1, 1_605_632), (1_605_632, 1)), 1_605_500, 1_605_632, 1_605_632),
    ],
    ids=lambda value: value.kind if isinstance(value, Operation) else None,
)
def test_conventions(operation: Operation, fvcore: int, exact: int, only_matmul: int) -> None:
    tree = Block({"it": operation})
    assert [tally(tree, name).cost.macs for name in ("fvcore", "exact", "matmul")] == [fvcore, exact, only_matmul]


def test_published_dense_leaves_out_einsum_pools_and_upsampling() -> None:
    counted = [conv(IMAGE, 8, 1), linear(TOKENS, 8), norm("batch_norm", IMAGE), norm("layer_norm", TOKENS)]
    others = [einsum("ik,kj->ij", (2, 3), (3, 4)), pool(IMAGE, 1), upsample("nearest", IMAGE, (9, 9))]
    tree = Block({str(i): operation for i, operation in enumerate([*counted, *others])})
    assert tally(tree, "published-dense").cost.macs == 1600 + 1600 + 400 + 1000
    assert tally(tree, "published-dense").not_counted == {"matmul": 1, "pool": 1, "upsample_nearest2d": 1}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_tally_has_the_number_of_calls_that_are_not_counted(convention: str) -> None:
    tree = Block({str(i): elementwise("softmax", TOKENS) for i in range(3)})
    assert tally(tree, convention).not_counted == {"softmax": 3}


def test_shared_module_counts_its_parameters_once_and_each_call() -> None:
    shared = Block({"conv": conv(IMAGE, 4, 3, groups=4, bias=True), "add": elementwise("add", IMAGE)}, module="Encoding")
    layers: dict[str, Operation | Block] = {str(i): Block({"cpe": called(shared, "cpe")}) for i in range(3)}
    path = Block({"cpe": registered(shared), "layers": Block(layers)}, scope=True)
    tree = Block({"paths": Block({"0": path, "1": path})})
    one_call = 2 * 4 * 25 * 9
    assert tally(path, "matmul").cost.params == 4 * 9 + 4
    assert tally(path, "matmul").cost.macs == 3 * one_call
    assert tally(path.block("layers").children["1"], "matmul").cost.macs == one_call
    assert tally(tree, "matmul").cost.macs == 2 * 3 * one_call
    calls = [(where, module) for where, module, operation in walk(tree) if operation.kind == "conv" and operation.calls]
    assert calls[-1] == ("paths.1.layers.2.cpe.conv", "paths.1.cpe.conv")
    assert multiply_adds(tree) == tally(tree, "matmul").cost.macs
    assert [module for _, module, _ in walk(path)] == [
        "cpe.conv",
        *(name for i in range(3) for name in ("cpe.conv", f"layers.{i}.cpe.add")),
    ]
    for each in (registered(shared), called(shared, "cpe")):
        assert isinstance(each, Block)
        assert each.module == "Encoding"
    assert tally(registered(shared), "matmul").not_counted == {}
