"""Exports with dynamic batch and size, of a published network and of random ones."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs

from mpvit.architecture.config import ModelConfig
from mpvit.export import SUFFIXES, ExportOptions
from mpvit.export.convert import export_network, write_files
from mpvit.export.exported_network import open_exported
from mpvit.model.metadata import NO_METADATA
from mpvit.prediction.loading import random_network

CASES = [(1, (224, 224)), (3, (192, 320)), (2, (256, 256))]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tiny_agrees_with_torch_at_any_batch_and_size(suffix: str, tmp_path: Path) -> None:
    network = random_network("tiny")
    path = tmp_path / f"tiny{suffix}"
    write_files(
        export_network(
            "tiny", network.model, network.metadata, ExportOptions(target=SUFFIXES[suffix], dynamic=("batch", "size"))
        ),
        path,
    )
    engine = open_exported(path).network
    for batch, size in CASES:
        images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            torch.testing.assert_close(engine(images), network.model(images), atol=1e-5, rtol=0)
    if suffix == ".onnx":
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
            "batch",
            3,
            "height",
            "width",
        ]


@pytest.mark.slow
@pytest.mark.parametrize("target", SUFFIXES.values())
@settings(max_examples=3)
@given(config=configs(), fused=st.booleans())
def test_drawn_networks_agree_with_torch_at_any_batch_and_size(target: str, config: ModelConfig, *, fused: bool) -> None:
    """``export_network`` compares the engine with torch on nine shapes, and raises an error if they differ."""
    network = random_network(replace(config, num_classes=max(config.num_classes, 1))).model
    made = export_network(
        "drawn", network, NO_METADATA, ExportOptions(target=target, dynamic=("batch", "size"), size=(33, 47), fused=fused)
    )
    assert [each.shape[0] for each in made.differences] == [1, 3, 8] * 3
    assert max(each.relative for each in made.differences) <= 1e-5
