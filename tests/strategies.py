"""Random small networks and image sizes for property tests."""

from typing import Any

from hypothesis import strategies as st

from mpvit.architecture.config import ALTERNATIVES, ModelConfig, StageConfig


def alternatives() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a stage that have alternatives."""
    return st.fixed_dictionaries({field: st.sampled_from(choices) for field, choices in ALTERNATIVES.items()})


@st.composite
def stages(draw: st.DrawFn, *, even: bool = False) -> StageConfig:
    heads = draw(st.integers(1, 5))
    head_dim = draw(st.integers(1, 6))
    windows = draw(st.lists(st.tuples(st.sampled_from([1, 3, 5, 7]), st.integers(1, 4)), min_size=1, max_size=3))
    return StageConfig(
        paths=draw(st.integers(1, 4)),
        layers=draw(st.integers(1, 2)),
        dim=heads * head_dim * (2 if even else 1),
        heads=heads,
        mlp_ratio=draw(st.sampled_from([1, 2, 3, 4])),
        crpe_windows=tuple(windows),
        **draw(st.just({}) | alternatives()),
    )


@st.composite
def configs(draw: st.DrawFn, *, fewest_stages: int = 1, most_stages: int = 2) -> ModelConfig:
    return ModelConfig(
        stages=(draw(stages(even=True)), *draw(st.lists(stages(), min_size=fewest_stages - 1, max_size=most_stages - 1))),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from([0, 1, 7])),
        drop_path=draw(st.sampled_from([0.0, 0.3])),
    )


def shapes() -> st.SearchStrategy[tuple[int, int, int]]:
    """(batch, height, width) down to a single pixel."""
    return st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70))
