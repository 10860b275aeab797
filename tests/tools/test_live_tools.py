"""The tools themselves: each count is explained to the last integer, and a tool leaves no trace."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from dense_networks import SMALL, task_of
from live_tools import INSTALLED, assert_all_explained, assert_explained, explained_live
from models import MODELS
from recorded import trace_config
from torch import Tensor, nn

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.dense import TASKS, input_shapes
from mpvit.dense.torch_network import empty_network
from mpvit.reconcile.explain import explain, run_tool
from mpvit.tools import ToolCount, get_tool
from mpvit.trace.closed_form import LAYOUTS
from mpvit.trace.live import trace_module

STAGE = StageConfig(2, 1, 16, 8, 2)
NO_VARIANTS = {
    "one_path": ModelConfig((replace(STAGE, paths=1),), num_classes=5),
    "no_encoding": ModelConfig((replace(STAGE, crpe_windows=()),), num_classes=0),
    "deep": ModelConfig((replace(STAGE, layers=3), replace(STAGE, dim=24, heads=4, paths=3)), in_channels=1),
    "wide_mlp": ModelConfig((replace(STAGE, mlp_ratio=3.5, heads=2),), num_classes=7),
    "softmax": ModelConfig((replace(STAGE, attention="softmax"),)),
    "sdpa": ModelConfig((replace(STAGE, attention="sdpa"),)),
    "spatial_reduction": ModelConfig((replace(STAGE, attention="spatial_reduction:2"),)),
    "hydra": ModelConfig((replace(STAGE, attention="hydra"),)),
    "cross_covariance": ModelConfig((replace(STAGE, attention="cross_covariance"),)),
}


# ── the tools themselves ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_development_tools_are_installed() -> None:
    assert {"torch", "fvcore", "thop", "torchinfo", "ptflops-pytorch", "ptflops-aten", "calflops"} <= set(INSTALLED)


@pytest.mark.parametrize("layout", ["published", pytest.param("project", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NO_VARIANTS)
def test_tools_agree_on_networks_that_are_no_variant(name: str, layout: str) -> None:
    assert_explained(explained_live(NO_VARIANTS[name], (40, 64), layout))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["published", "project"])
def test_tools_agree_on_a_variant_at_an_odd_size(layout: str) -> None:
    assert_explained(explained_live(VARIANTS["tiny"].config, (97, 131), layout))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("variant", "size"),
    [("tiny", (224, 416)), ("xsmall", (224, 224)), ("small", (123, 161)), ("base", (128, 96))],
)
def test_tools_agree_on_variants(variant: str, size: tuple[int, int], layout: str) -> None:
    assert_explained(explained_live(VARIANTS[variant].config, size, layout))


@pytest.mark.parametrize("name", MODELS)
def test_tools_agree_on_any_model(name: str) -> None:
    make, shape = MODELS[name]
    assert_all_explained(make().eval(), [torch.zeros(shape)])


class OnLevels(nn.Module):
    """One convolution on several maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, *maps: Tensor) -> list[Tensor]:
        return [self.conv(x) for x in maps]


def test_tools_agree_on_a_module_that_runs_at_several_sizes() -> None:
    """ptflops takes several inputs by name only; these are ``*args``."""
    assert_all_explained(OnLevels().eval(), [torch.zeros(1, 3, side, side + 1) for side in (5, 9, 12)])


@pytest.mark.slow
@pytest.mark.parametrize(("config", "size"), [(SMALL, (97, 65)), (VARIANTS["tiny"].config, (64, 96))], ids=["small", "tiny"])
@pytest.mark.parametrize("name", TASKS)
def test_tools_agree_on_detectors_and_segmenters(name: str, config: ModelConfig, size: tuple[int, int]) -> None:
    task = task_of(name, classes=7)
    trace = trace_config(config, 2, *size, task=task)
    model = empty_network(config, "meta", task)
    given_to = [torch.empty(shape, device="meta") for shape in input_shapes(config, task, 2, *size)]
    assert_explained([run_tool(explain(trace, name, tool, task), model, given_to) for tool in INSTALLED])


class Written(nn.Module):
    """One product and one sum, written in one way."""

    def __init__(self, expression: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.expression = nn.Linear(4, 4), expression

    def forward(self, x: Tensor) -> Tensor:
        return self.expression(self.linear(x))


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: x @ x.mT,
        lambda x: x.matmul(x.mT),
        lambda x: torch.matmul(x, x.mT),
        lambda x: torch.bmm(x, x.mT),
        lambda x: x.bmm(x.mT),
        lambda x: x[0] @ x.mT,
        lambda x: torch.matmul(x[0], x.mT),
        lambda x: x[0].mm(x[1].mT),
        lambda x: torch.addmm(x[0], x[0], x[1, :, :].mT[:, :4]) if x.shape[1] == 4 else x,
        lambda x: torch.baddbmm(x @ x.mT, x, x.mT),
        lambda x: torch.einsum("bnc,bmc->bnm", x, x),
        lambda x: torch.einsum("bnc,bnc->bn", x, x),
        lambda x: torch.einsum("b n c, b m c", x, x),
        lambda x: torch.einsum("...nc,...mc->...nm", x, x),
        lambda x: torch.einsum("bnc->b", x),
        lambda x: torch.einsum("bnc,bmc,bmd->bnd", x, x, x),
        lambda x: torch.einsum("bn,bm->bnm", x[..., 0], x[..., 1]),
        lambda x: torch.add(torch.mul(x, x), x[0]),
        lambda x: x.add(x).mul(2),
        lambda x: x * x + 1,
        lambda x: x.softmax(-1) + torch.softmax(x, -1) + nn.functional.softmax(x, -1),
        lambda x: nn.functional.silu(nn.functional.relu(x)) + nn.functional.elu(x),
    ],
)
def test_tools_depend_on_how_a_call_is_written_and_so_do_their_rules(expression: Callable[[Tensor], Tensor]) -> None:
    assert_all_explained(Written(expression).eval(), [torch.randn(3, 4, 4)])


class Linear(nn.Module):
    """A class with the name of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


POSING = type("Linear", (nn.Linear,), {"__module__": "torch.nn.modules.linear"})  # tools ask for the class, not its name

FROZEN = nn.Sequential(nn.Linear(5, 5).requires_grad_(requires_grad=False), nn.ReLU())

LAYERS = [
    (Linear(), (2, 4, 5)),
    (POSING(5, 3), (2, 4, 5)),
    (FROZEN, (2, 4, 5)),
    (nn.Conv1d(4, 6, 3, groups=2), (2, 4, 9)),
    (nn.Conv3d(2, 4, 3, bias=False), (1, 2, 5, 5, 5)),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), (2, 4, 5, 5)),
    (nn.BatchNorm2d(4, affine=False), (2, 4, 5, 5)),
    (nn.InstanceNorm2d(4, affine=True), (2, 4, 5, 5)),
    (nn.GroupNorm(2, 4), (2, 4, 5, 5)),
    (nn.LayerNorm(5, elementwise_affine=False), (2, 4, 5)),
    (nn.RMSNorm(5), (2, 4, 5)),
    (nn.PReLU(), (2, 4, 5)),
    (nn.Softmax(dim=-1), (2, 4, 5)),
    (nn.SiLU(), (2, 4, 5)),
    (nn.LeakyReLU(), (2, 4, 5)),
    (nn.ReLU6(), (2, 4, 5)),
    (nn.MaxPool2d(2), (2, 4, 6, 6)),
    (nn.AvgPool2d(2), (2, 4, 6, 6)),
    (nn.AdaptiveAvgPool2d(3), (2, 4, 6, 6)),
    (nn.AdaptiveAvgPool1d(3), (2, 4, 6)),
    (nn.AdaptiveMaxPool2d(3), (2, 4, 6, 6)),
    (nn.Upsample(scale_factor=2), (2, 4, 6, 6)),
    (nn.Dropout(0.1), (2, 4, 5)),
    (nn.Identity(), (2, 4, 5)),
    (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    (nn.MultiheadAttention(8, 2, bias=False, batch_first=True), (2, 5, 8)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[type(layer).__name__ for layer, _ in LAYERS])
def test_each_layer_of_torch(layer: nn.Module, shape: tuple[int, ...]) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.scale = layer, nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            if isinstance(self.layer, nn.MultiheadAttention):
                return self.layer(x, x, x)[0] * self.scale
            return self.layer(x) * self.scale

    assert_all_explained(Around().eval(), [torch.randn(shape)])


# ── the contract: a tool leaves no trace ────────────────────────────────────────────────────────────────────────────


def state(model: nn.Module) -> list[object]:
    modules = dict(model.named_modules(remove_duplicate=False))
    hooks = [(n, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in modules.items()]  # noqa: SLF001 - no public way
    modes = [(m.training, sorted(vars(m))) for m in modules.values()]
    tensors = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    return [
        hooks,
        modes,
        tensors,
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.backends.mha.get_fastpath_enabled(),
    ]


@pytest.mark.parametrize("tool", INSTALLED)
@pytest.mark.parametrize("name", [*MODELS, "mpvit"])
def test_a_tool_leaves_no_trace(name: str, tool: str, capfd: pytest.CaptureFixture[str]) -> None:
    mpvit: tuple[Callable[[], nn.Module], tuple[int, ...]] = (lambda: build_model(NO_VARIANTS["deep"]), (1, 1, 32, 32))
    make, shape = {**MODELS, "mpvit": mpvit}[name]
    torch.manual_seed(3)
    model, images = make().eval(), [torch.randn(shape)]
    next(model.children(), model).train()
    output = model(*images)
    before = state(model)
    count = get_tool(tool).count
    first, again = (count(model, images) for _ in range(2))
    with torch.device("meta"):
        elsewhere = make().eval()
    on_meta = count(elsewhere, [torch.empty(shape, device="meta")])
    assert first == again == on_meta
    assert isinstance(first, ToolCount)
    assert state(model) == before
    assert capfd.readouterr() == ("", "")
    assert torch.equal(model(*images), output)


def test_a_tool_that_fails_leaves_no_trace_either() -> None:
    """Calflops asserts that a convolution's input has a batch, with torch's functions patched."""

    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x[0])

    model, images = Unbatched().eval(), [torch.zeros(1, 3, 8, 8)]
    before = [dict(vars(home)) for home in (torch, nn.functional, torch.Tensor)]
    found = run_tool(explain(trace_module(model, images), "unbatched", "calflops"), model, images)
    assert found.failed
    assert found.error.startswith("calflops failed")
    assert [dict(vars(home)) for home in (torch, nn.functional, torch.Tensor)] == before
