"""The published network's values, and the weights that they were computed on (see tests/data/golden)."""

import json
import zlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpvit import build_model
from mpvit.model.network import MPViT
from mpvit.model.weights import WeightsFile, load_into

DATA = Path(__file__).parent / "data" / "golden"


@cache
def golden(variant: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / f"mpvit_{variant}.json").read_text())
    return content


def published_tensors(variant: str) -> dict[str, Tensor]:
    """The tensors of a published checkpoint, aliases included, with the golden weights; do not write into them."""
    weights = _weights(variant)
    return {name: weights[entry["key"]] for entry in golden(variant)["tensors"] for name in (entry["key"], *entry["aliases"])}


def golden_model(variant: str) -> MPViT:
    """The network in evaluation mode with the golden weights."""
    with torch.device("meta"):
        model = build_model(variant)
    model = model.to_empty(device="cpu").eval()  # nothing is initialised that is overwritten
    load_into(model, WeightsFile(DATA, published_tensors(variant)))
    return model


def golden_input(case: dict[str, Any]) -> Tensor:
    random = np.random.RandomState(case["seed"])
    return torch.from_numpy(random.standard_normal(case["input"]).astype(np.float32))


@lru_cache(maxsize=3)  # all but base, which one test uses
def _weights(variant: str) -> dict[str, Tensor]:
    return {entry["key"]: _weight(entry["key"], entry["shape"]) for entry in golden(variant)["tensors"]}


def _weight(key: str, shape: list[int]) -> Tensor:
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    word = key.rpartition(".")[2]
    if word == "running_var":
        value = 0.5 + abs(z)
    elif word in ("running_mean", "bias"):
        value = 0.1 * z
    elif len(shape) == 1:
        value = 1 + 0.1 * z
    else:
        value = 0.6 * z / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32))
