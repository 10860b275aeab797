import pytest
import torch
from torch.nn import functional

from mpvit.prediction.segmentation import upsampled_argmax


@pytest.mark.parametrize("chunk", [1, 2000, 1 << 26])
def test_classes_in_chunks_give_the_same_argmax(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvit.prediction.segmentation._CHUNK", chunk)
    logits = torch.randn(1, 7, 9, 5, generator=torch.Generator().manual_seed(1))
    whole = functional.interpolate(logits, size=(31, 20), mode="bilinear", align_corners=False)[0].argmax(0)
    assert torch.equal(upsampled_argmax(logits, (31, 20)), whole)
