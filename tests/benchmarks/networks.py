"""The network for inference against the plain one, in the same run: float32, batch 1 and 8, 224x224, on the CPU."""

from functools import partial

import torch
from torch import Tensor, nn

from mpvit import VARIANTS, build_model, fuse

from .plan import Benchmark, Case, Ratio

BATCHES = (1, 8)


def fused() -> Benchmark:
    """Every variant: the fused network is to take less time than the plain one."""
    cases: dict[str, Case] = {}
    ratios = []
    for name in VARIANTS:
        plain = build_model(name).eval()
        networks = {"plain": plain, "fused": fuse(plain, keep_memory=True)}
        for batch in BATCHES:
            images = torch.randn(batch, 3, 224, 224)
            for kind, network in networks.items():
                cases[f"{kind} {name}, batch {batch}"] = partial(_run, network, images)
            ratios.append(Ratio(f"fused {name}, batch {batch}", f"plain {name}, batch {batch}", at_most=1))
    return Benchmark(cases, tuple(ratios), min_samples=9)


@torch.inference_mode()
def _run(network: nn.Module, images: Tensor) -> Tensor:
    output: Tensor = network(images)
    return output
