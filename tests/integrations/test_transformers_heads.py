"""Small segmenters and detectors of transformers train on the backbone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSemanticSegmentation,
    DetrConfig,
    DetrForObjectDetection,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from mpvit import ModelConfig, StageConfig
from mpvit.integrations.transformers import MPViTBackbone, MPViTConfig, MPViTForImageClassification

pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

STAGES = (StageConfig(2, 1, 8, 2, 2), *(StageConfig(1, 1, dim, 2, 1) for dim in (12, 16, 20)))
NETWORK = ModelConfig(STAGES)
ALL = ["stage1", "stage2", "stage3", "stage4"]
CLASSES, SIDE = 3, 64
LABELS: dict[str, Any] = {"num_labels": CLASSES}
STEPS = 20


def upernet() -> nn.Module:
    return UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=MPViTConfig.of(NETWORK, out_features=ALL),
            hidden_size=16,
            auxiliary_channels=8,
            **LABELS,
        )
    )


def detr() -> nn.Module:
    return DetrForObjectDetection(
        DetrConfig(
            backbone_config=MPViTConfig.of(NETWORK),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            num_queries=6,
            **LABELS,
            dropout=0.0,
        )
    )


def mask2former() -> nn.Module:
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            backbone_config=MPViTConfig.of(NETWORK, out_features=ALL),
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=32,
            dim_feedforward=32,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=2,
            num_queries=6,
            train_num_points=64,
            **LABELS,
        )
    )


def maskformer() -> nn.Module:
    decoder = DetrConfig(
        backbone_config=MPViTConfig.of(NETWORK),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=6,
        dropout=0.0,
    )
    return MaskFormerForInstanceSegmentation(
        MaskFormerConfig(
            backbone_config=MPViTConfig.of(NETWORK, out_features=ALL),
            decoder_config=decoder,
            fpn_feature_size=32,
            mask_feature_size=32,
            **LABELS,
        )
    )


def regions() -> dict[str, Any]:
    """Return a class for every pixel of two images: left half, right half, a square."""
    labels = torch.zeros(2, SIDE, SIDE, dtype=torch.long)
    labels[:, :, SIDE // 2 :] = 1
    labels[1, 10:40, 20:50] = 2
    return {"labels": labels}


def boxes() -> dict[str, Any]:
    """Return the classes and boxes (centre x, centre y, w, h; in parts of the side) in each of two images."""
    first = {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3]])}
    second = {"class_labels": torch.tensor([2, 1]), "boxes": torch.tensor([[0.7, 0.5, 0.3, 0.3], [0.2, 0.2, 0.2, 0.1]])}
    return {"labels": [first, second]}


def masks() -> dict[str, Any]:
    """Return the regions as a mask and a class each."""
    labels = regions()["labels"]
    found = [each.unique() for each in labels]
    return {
        "mask_labels": [(each == classes[:, None, None]).float() for each, classes in zip(labels, found, strict=True)],
        "class_labels": found,
    }


HEADS: dict[str, tuple[Callable[[], nn.Module], Callable[[], dict[str, Any]], float]] = {
    "upernet": (upernet, regions, 1e-2),
    "detr": (detr, boxes, 1e-2),
    "mask2former": (mask2former, masks, 1e-2),
    "maskformer": (maskformer, masks, 1e-3),
}
"""Network, labels of two images and learning rate of each head."""


@pytest.mark.parametrize("name", ["upernet", "detr", "mask2former", "maskformer"])
def test_it_learns_a_batch(name: str) -> None:
    torch.manual_seed(0)
    make, truth, rate = HEADS[name]
    model, answers = make().train(), truth()
    images = torch.randn(2, 3, SIDE, SIDE)
    backbones = [each for each in model.modules() if isinstance(each, MPViTBackbone)]
    before = [each.detach().clone() for each in backbones[0].parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    losses = []
    for _ in range(STEPS):
        loss = model(pixel_values=images, **answers).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0], losses
    assert all(each.grad is not None for each in backbones[0].parameters())
    assert not any(map(torch.equal, before, backbones[0].parameters()))


def test_a_segmenter_is_saved_with_its_backbone_and_loaded(tmp_path: Path) -> None:
    model = upernet().eval()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert isinstance(again.backbone, MPViTBackbone)
    images = torch.randn(1, 3, 50, 70)
    with torch.inference_mode():
        found = again(images).logits
        assert found.shape == (1, CLASSES, 50, 70)
        assert torch.allclose(found, model(images).logits, atol=1e-6)


def test_a_classifiers_weights_initialise_a_segmenter(tmp_path: Path) -> None:
    classifier = MPViTForImageClassification(MPViTConfig.of(NETWORK))
    classifier.save_pretrained(tmp_path)
    segmenter: Any = upernet()
    segmenter.backbone.load_state_dict(MPViTBackbone.from_pretrained(tmp_path).state_dict())
    wanted = classifier.mpvit.network.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in segmenter.backbone.network.state_dict().items())
