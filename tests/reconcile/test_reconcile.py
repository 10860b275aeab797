"""Each tool's number, explained: against recorded figures, and against the tools themselves, to the last integer."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dense_networks import SMALL, task_of
from golden import golden
from hypothesis import given
from hypothesis import settings as runs
from models import MODELS
from recorded import trace_config
from strategies import configs, shapes
from torch import Tensor, nn

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.dense import TASKS, input_shapes
from mpvit.dense.torch_network import empty_network
from mpvit.errors import CheckError, UsageError
from mpvit.model.published_layout import PublishedLayout
from mpvit.reconcile.explain import Explanation, explain, require_explained, run_tool
from mpvit.tools import TOOLS, Term, Tool, ToolCount, get_tool
from mpvit.trace import Trace
from mpvit.trace.closed_form import LAYOUTS
from mpvit.trace.live import trace_module

INSTALLED = [name for name in TOOLS if get_tool(name).installed_version]

PUBLISHED = {  # measured with the published network at 224x224, batch 1: MACs of tiny and xsmall
    "torch": (1_635_527_496, 2_950_215_936),
    "fvcore": (1_654_163_812, 2_971_396_560),
    "thop": (3_176_213_328, 4_700_317_184),
    "ultralytics-thop": (1_657_195_688, 2_974_651_648),
    "torchinfo": (415_535_112, 523_254_056),
    "ptflops-pytorch": (1_838_903_584, 3_186_420_456),
    "ptflops-aten": (1_647_216_760, 2_966_637_032),
    "calflops": (1_804_795_840, 3_138_463_744),
    "deepspeed": (1_598_338_456, 2_900_441_344),
}
WRONG_PARAMS = {"thop": (6_093_144, 10_859_144), "torchinfo": (8_792_328, 15_746_504)}
RIGHT_PARAMS = (5_843_736, 10_573_448)

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


def arranged(config: ModelConfig, layout: str) -> nn.Module:
    model = empty_network(config, "meta")
    return PublishedLayout(model) if layout == "published" else model


def live(config: ModelConfig, size: tuple[int, int], layout: str, tools: list[str] = INSTALLED) -> list[Explanation]:
    trace = trace_config(config, 2, *size, layout=layout)
    images = torch.empty(2, config.in_channels, *size, device="meta")
    return [run_tool(explain(trace, "network", tool), arranged(config, layout), [images]) for tool in tools]


def traced(model: nn.Module, images: list[Tensor]) -> Trace:
    return trace_module(model, images, graph=True, dispatched_on_cpu=True)


def assert_explained(explanations: list[Explanation]) -> None:
    for each in explanations:
        assert not each.error, each.error
        assert (each.tool, each.residual, each.params_residual or 0) == (each.tool, 0, 0)


# ── the published network ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("index", "variant"), [(0, "tiny"), (1, "xsmall")])
def test_the_published_layout_gives_the_figures_that_people_get(tool: str, index: int, variant: str) -> None:
    trace = trace_config(VARIANTS[variant].config, 1, 224, 224, layout="published")
    found = explain(trace, variant, tool)
    assert found.tool_macs == PUBLISHED[tool][index]
    expected = WRONG_PARAMS[tool][index] if tool in WRONG_PARAMS else RIGHT_PARAMS[index]
    assert found.tool_params in (expected, None)
    assert (found.tool_params is None) == (tool == "torch")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_published_layout_has_the_names_of_the_checkpoint(variant: str) -> None:
    trace = trace_config(VARIANTS[variant].config, 1, 64, 64, layout="published")
    named = {name: set(module.names[1:]) for name, module in trace.modules.items() if module.parameters}
    expected: dict[str, set[str]] = {}
    for tensor in golden(variant)["tensors"]:
        module, _, _ = tensor["key"].rpartition(".")
        expected.setdefault(module, set()).update(alias.rpartition(".")[0] for alias in tensor["aliases"])
    assert named == expected


def test_the_published_arrangement_computes_the_same() -> None:
    model = build_model(ModelConfig((STAGE, replace(STAGE, dim=24, layers=2)), num_classes=5)).eval()
    image = torch.randn(2, 3, 33, 48)
    with torch.inference_mode():
        plain = model(image)
        assert torch.equal(PublishedLayout(model)(image), plain)


@runs(max_examples=5)
@given(configs(), shapes())
def test_a_configuration_and_its_network_are_explained_alike(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    images = [torch.empty(batch, config.in_channels, height, width, device="meta")]
    for layout in LAYOUTS:
        predicted = trace_config(config, batch, height, width, layout=layout)
        with torch.device("meta"):
            found = trace_module(arranged(config, layout), images)
        for tool in TOOLS:
            first, second = explain(predicted, "", tool), explain(found, "", tool)
            assert (first.tool_macs, first.tool_params) == (second.tool_macs, second.tool_params)


# ── the tools themselves ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_development_tools_are_installed() -> None:
    assert {"torch", "fvcore", "thop", "torchinfo", "ptflops-pytorch", "ptflops-aten", "calflops"} <= set(INSTALLED)


@pytest.mark.parametrize("layout", ["published", pytest.param("project", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NO_VARIANTS)
def test_tools_agree_on_networks_that_are_no_variant(name: str, layout: str) -> None:
    assert_explained(live(NO_VARIANTS[name], (40, 64), layout))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["published", "project"])
def test_tools_agree_on_a_variant_at_an_odd_size(layout: str) -> None:
    assert_explained(live(VARIANTS["tiny"].config, (97, 131), layout))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("variant", "size"),
    [("tiny", (800, 1280)), ("xsmall", (224, 224)), ("small", (223, 161)), ("base", (224, 224))],
)
def test_tools_agree_on_variants(variant: str, size: tuple[int, int], layout: str) -> None:
    assert_explained(live(VARIANTS[variant].config, size, layout))


def assert_all_explained(model: nn.Module, images: list[Tensor]) -> None:
    trace = traced(model, images)
    assert_explained([run_tool(explain(trace, "network", tool), model, images) for tool in INSTALLED])


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
    """Given as ``*args``, which ptflops takes by name alone."""
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
    explained = explain(trace_module(model, images), name, tool)
    first, again = (run_tool(explained, model, images).live for _ in range(2))
    with torch.device("meta"):
        elsewhere = make().eval()
    on_meta = run_tool(explained, elsewhere, [torch.empty(shape, device="meta")]).live
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


# ── what is said ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_version_is_said_and_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tool, "installed_version", "9.9")
    explained = explain(trace_config(STAGED, 1, 32, 32), "network", "thop")
    found = run_tool(explained, arranged(STAGED, "project"), [torch.empty(1, 3, 32, 32, device="meta")])
    assert found.error == "rule made for 0.1.1-2209072238, found 9.9"
    assert found.live is None
    assert found.residual is None


def test_a_tool_that_is_not_installed_is_said_to_be_so() -> None:
    explained = explain(trace_config(STAGED, 1, 32, 32), "network", "ultralytics-thop")
    found = run_tool(explained, arranged(STAGED, "project"), [torch.empty(1, 3, 32, 32, device="meta")])
    assert (found.error, found.failed) == ("not installed", False)


STAGED = ModelConfig((STAGE,))


def test_an_unexplained_count_is_named() -> None:
    explained = replace(explain(trace_config(STAGED, 1, 32, 32), "network", "thop"), live=ToolCount(macs=1, params=2))
    with pytest.raises(CheckError, match="MACs of thop are not explained"):
        require_explained([explained])
    right = ToolCount(macs=explained.tool_macs, params=2)
    with pytest.raises(CheckError, match="parameters of thop are not explained"):
        require_explained([replace(explained, live=right)])


NESTED = nn.Sequential(nn.Linear(6, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize("tool", INSTALLED)
def test_the_module_is_named_in_which_a_rule_is_wrong(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, images = get_tool(tool), [torch.zeros(2, 5, 6)]

    def wrong(trace: Trace) -> list[Term]:
        return [*right.rule(trace), *(Term("wrong", 7, "") for call in trace.calls if call.module == "1.linear2")]

    monkeypatch.setattr(TOOLS[tool].replace(":", "."), replace(right, rule=wrong))
    trace = traced(NESTED, images)
    found = run_tool(explain(trace, "network", tool), NESTED, images)
    with pytest.raises(CheckError, match=r"-7 MACs of [\w-]+ are not explained: in 1\.linear2 \(-7\)$") as raised:
        require_explained([found], {"network": trace})
    assert raised.value.hint == "its rule may not know how the tool counts linear"


def test_modules_are_named_in_which_a_call_is_misread() -> None:
    images = [torch.zeros(2, 5, 6)]
    trace = traced(NESTED, images)
    calls = tuple(replace(call, macs=2 * call.macs) if call.operator == "linear" else call for call in trace.calls)
    misread = replace(trace, calls=calls)
    found = run_tool(explain(misread, "network", "torch"), NESTED, images)
    with pytest.raises(CheckError, match=r"in 0 \(-480\), 1\.self_attn \(-2560\), 1\.linear1 \(-1280\) and 2 more$"):
        require_explained([found], {"network": misread})


def test_an_unknown_tool_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown tool 'torchinfos'"):
        explain(trace_config(STAGED, 1, 32, 32), "network", "torchinfos")


def test_rows_add_up(tmp_path: Path) -> None:
    row = explain(trace_config(VARIANTS["xsmall"].config, 1, 224, 224, layout="published"), "xsmall", "thop").as_row()
    assert row["exact_macs"] + sum(row["terms"].values()) == row["macs"] == 4_700_317_184
    assert row["exact_params"] + sum(row["param_terms"].values()) == row["params"] == 10_859_144
    assert row["terms"].keys() == row["reasons"].keys()
    assert all(row["reasons"].values())
    assert row["printed"] == "4700317184.0"
    (tmp_path / "row.json").write_text(json.dumps(row))


def test_a_misread_call_leaves_a_residual_of_torch() -> None:
    """The rule goes by what torch documents, operator by operator: it cannot take a wrong reading for a reason."""
    model, images = nn.Conv2d(3, 2, 3), [torch.zeros(1, 3, 8, 8)]
    trace = trace_module(model, images)
    misread = replace(trace, calls=tuple(replace(call, macs=16 * call.macs) for call in trace.calls))
    assert run_tool(explain(trace, "conv", "torch"), model, images).residual == 0
    assert run_tool(explain(misread, "conv", "torch"), model, images).residual == -15 * trace.macs
