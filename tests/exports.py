"""A small network exported to every target, and ONNX files of other programs."""

from pathlib import Path

import numpy as np
import torch
from drawn_networks import drawn

from mpvit.architecture.config import ModelConfig, StageConfig
from mpvit.export import SUFFIXES, ExportOptions
from mpvit.export.convert import export_network, write_files
from mpvit.model.metadata import Metadata, Preprocessing, TrainingRecord
from mpvit.model.network import MPViT
from mpvit.model.weights import save_weights

SMALL = ModelConfig((StageConfig(1, 1, 8, 2, 2, crpe_windows=((3, 1), (5, 1))),), num_classes=3)
METADATA = Metadata(
    ("Ameise", 'Biene "<&>"', "Kater, Katze"),
    Preprocessing(size=32, crop=1.0),
    TrainingRecord(data="animals", held_out=0.2, images=10, correct=9, epochs=1, recipe="small"),
)


def network() -> MPViT:
    """Return the network in float32 with random weights."""
    return drawn(SMALL).float()


def export_all(folder: Path) -> None:
    """Write ``small.safetensors``, and the network exported to each target for two images of 32×32 pixels."""
    save_weights(network(), folder / "small.safetensors", metadata=METADATA)
    for suffix, target in SUFFIXES.items():
        write_files(
            export_network("small", network(), METADATA, ExportOptions(target=target, batch=2, size=(32, 32))),
            folder / f"small{suffix}",
        )


def random_images(number: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """Return preprocessed images, float32 (number, 3, height, width)."""
    return torch.randn(number, 3, height, width, generator=torch.Generator().manual_seed(number))


def foreign(shape: list[int | str], classes: int = 4, *, kind: int = 1) -> bytes:
    """Return an ONNX file of another program: means of the channels times a matrix; ``kind`` is the input's type."""
    from onnx import helper, numpy_helper

    matrix = np.arange(3 * classes, dtype=np.float32).reshape(3, classes)[: 1 if shape[1] == 1 else 3]
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=1),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes if len(shape) == 4 else [helper.make_node("Cast", ["x"], ["y"], to=1)],
        "somebody's",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", 1, ["n", classes] if len(shape) == 4 else shape)],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
