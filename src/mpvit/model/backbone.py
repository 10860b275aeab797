"""The network without its classifier: chosen maps of the pyramid, for a detector or segmenter to stand on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mpvit.config import ModelConfig
from mpvit.errors import UsageError
from mpvit.model.network import MPViT
from mpvit.model.weights import fill, read_weights, require_classifier, with_classes_of
from mpvit.variants import get_config

FIRST_REDUCTION = 4
"""How far apart the first map samples the picture: what the stem and the first stage take; each next stage doubles it."""


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """What is known of each map, read as that of timm's ``features_only`` models.

    ``info`` has an entry for every stage of the network: ``num_chs``, ``reduction`` (pixels of the picture between two
    samples), ``module`` and ``index``. Without ``idx`` a method answers for the ``out_indices``, with a number for that
    stage, with several numbers for those.
    """

    info: tuple[dict[str, Any], ...]
    out_indices: tuple[int, ...]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:  # noqa: ANN401 - a number, or a list of them
        """Return the channels of the maps."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:  # noqa: ANN401 - likewise
        """Return the strides of the maps in pixels of the picture."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:  # noqa: ANN401 - likewise of names
        """Return the names of the modules that the maps come from."""
        return self.get("module", idx)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:  # noqa: ANN401 - what the entry holds
        """Return what stands under ``key``."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[index][key] for index in (self.out_indices if idx is None else idx)]

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:  # noqa: ANN401
        """Return the whole entries, or of each what stands under ``keys``."""
        if isinstance(idx, int):
            return {key: value for key, value in self.info[idx].items() if keys is None or key in keys}
        return [self.get_dicts(keys, index) for index in (self.out_indices if idx is None else idx)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the entry of a stage."""
        return self.info[index]

    def __len__(self) -> int:
        """Return how many stages there are."""
        return len(self.info)


class Backbone(nn.Module):
    """The stem and the stages up to the last that is asked for; its tensors have the names that they have in the network."""

    def __init__(self, network: MPViT, out_indices: tuple[int, ...]) -> None:
        """Take over the parts of ``network``; what stands behind the last of ``out_indices`` is left out."""
        super().__init__()
        self.feature_info = FeatureInfo(_info(network.config), out_indices)
        self.stem = network.stem
        self.stages = network.stages[: out_indices[-1] + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (b, in_channels, h, w) to the chosen maps, (b, channels, ceil(h / reduction), ceil(w / reduction)) each."""
        x = self.stem(x)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.feature_info.out_indices:
                maps.append(x)
        return maps


def create_backbone(
    model: str | ModelConfig, out_indices: Sequence[int] | None = None, *, weights: str | Path | None = None
) -> Backbone:
    """Return the backbone of a variant's name or a configuration, with the weights in a file or freshly initialised.

    It maps a picture (b, in_channels, h, w) to a list of maps, one for each of ``out_indices`` (default: every stage's),
    counted from 0 at stride 4; strides double from map to map. ``feature_info.channels()`` and ``.reduction()`` say what
    the maps have. Stages behind the last index are not built in: they cost neither parameters nor time. A classifier
    that the file holds is passed over. Raises ``UsageError`` for an unknown name and indices that are not rising numbers
    of stages, ``WeightsError`` for a file that does not fit.
    """
    config = model if isinstance(model, ModelConfig) else get_config(model)
    chosen = _checked(range(len(config.stages)) if out_indices is None else out_indices, len(config.stages))
    if weights is None:
        return Backbone(MPViT(replace(config, num_classes=0)), chosen)
    content = read_weights(weights)
    require_classifier(content)
    network = MPViT(with_classes_of(content, config))
    fill(network, content)
    return Backbone(network, chosen)


def _info(config: ModelConfig) -> tuple[dict[str, Any], ...]:
    """Return what is known of each stage's map, as ``FeatureInfo.info``."""
    return tuple(
        {"num_chs": config.next_dim(i), "reduction": FIRST_REDUCTION * 2**i, "module": f"stages.{i}", "index": i}
        for i in range(len(config.stages))
    )


def _checked(indices: Sequence[int], stages: int) -> tuple[int, ...]:
    chosen = tuple(indices) if isinstance(indices, Sequence) else ()
    known = all(type(index) is int and 0 <= index < stages for index in chosen)
    if not chosen or not known or list(chosen) != sorted(set(chosen)):
        raise UsageError(f"out_indices = {indices!r}: must be rising numbers of stages from 0 to {stages - 1}, at least one")
    return chosen
