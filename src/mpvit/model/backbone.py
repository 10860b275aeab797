"""The network without its classifier: feature maps for a detector or segmenter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partialmethod
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import get_config
from mpvit.errors import UsageError
from mpvit.model.network import MPViT
from mpvit.model.stages import pyramid
from mpvit.model.weights import load_into, read_weights, require_classifier, with_classes_of


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """Facts about the feature maps, with the interface of timm's ``features_only`` models.

    Attributes:
        info: for every stage of the network ``num_chs``, ``reduction`` (stride in pixels of the image), ``module`` and
            ``index``.
        out_indices: stages whose maps the backbone returns. They are what a method answers for without ``idx``; with a number
            it returns the fact of that stage, with several numbers a list.
    """

    info: tuple[dict[str, Any], ...]
    out_indices: tuple[int, ...]

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:  # noqa: ANN401 - a value or a list
        """Return the facts of name ``key``; ``channels``, ``reduction`` and ``module_name`` are those of one name."""
        found = self.get_dicts([key], idx)
        return found[key] if isinstance(idx, int) else [each[key] for each in found]

    channels = partialmethod(get, "num_chs")
    reduction = partialmethod(get, "reduction")
    module_name = partialmethod(get, "module")

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:  # noqa: ANN401
        """Return dictionaries of all facts, or only those of names ``keys``."""
        if isinstance(idx, int):
            return {key: value for key, value in self.info[idx].items() if keys is None or key in keys}
        return [self.get_dicts(keys, index) for index in (self.out_indices if idx is None else idx)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)


class Backbone(nn.Module):
    """The stem and the stages up to the last of ``out_indices``; its tensors have the same names as in the network."""

    def __init__(self, network: MPViT, out_indices: tuple[int, ...]) -> None:
        super().__init__()
        config = network.config
        info = tuple(
            {"num_chs": config.next_dim(i), "reduction": config.reduction(i), "module": f"stages.{i}", "index": i}
            for i in range(len(config.stages))
        )
        self.feature_info = FeatureInfo(info, out_indices)
        self.stem = network.stem
        self.stages = network.stages[: out_indices[-1] + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (b, in_channels, h, w) to the chosen maps, (b, channels, ceil(h / reduction), ceil(w / reduction)) each."""
        maps = pyramid(self.stages, self.stem(x))
        return [maps[index] for index in self.feature_info.out_indices]


def create_backbone(
    model: str | ModelConfig, out_indices: Sequence[int] | None = None, *, weights: str | Path | None = None
) -> Backbone:
    """Return the backbone of a variant or a configuration, with the weights in a file or freshly initialised.

    It maps images (b, in_channels, h, w) to a list of maps, one for each of ``out_indices``: stages from 0, at strides 4, 8,
    16, ...; by default all. ``feature_info.channels()`` and ``.reduction()`` describe the maps. Later stages are not built.
    A classifier in the file is ignored. Raises ``UsageError`` for an unknown variant or for indices that are not increasing
    stages, ``WeightsError`` for a file that does not fit.
    """
    config = model if isinstance(model, ModelConfig) else get_config(model)
    chosen = _checked(range(len(config.stages)) if out_indices is None else out_indices, len(config.stages))
    if weights is None:
        return Backbone(MPViT(replace(config, num_classes=0)), chosen)
    content = read_weights(weights)
    require_classifier(content)
    network = MPViT(with_classes_of(content, config))
    load_into(network, content)
    return Backbone(network, chosen)


def _checked(indices: Sequence[int], stages: int) -> tuple[int, ...]:
    chosen = tuple(indices) if isinstance(indices, Sequence) else ()
    known = all(type(index) is int and 0 <= index < stages for index in chosen)
    if not chosen or not known or list(chosen) != sorted(set(chosen)):
        rule = f"must be at least one stage from 0 to {stages - 1}, in increasing order"
        raise UsageError(f"out_indices = {indices!r}: {rule}")
    return chosen
