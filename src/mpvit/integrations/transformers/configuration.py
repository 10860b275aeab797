"""The configuration of transformers: a ``config.json`` next to the weights."""

import json
from dataclasses import asdict
from typing import Any, Self

from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

from mpvit.architecture.config import ModelConfig, config_from_dict
from mpvit.architecture.variants import DEFAULT_VARIANT, get_config


class MPViTConfig(BackboneConfigMixin, PreTrainedConfig):
    """A network's configuration, with the fields of every configuration of transformers (``id2label``, ``num_labels``, ...).

    Attributes:
        stages: fields of a ``StageConfig`` for each stage; by default those of the default variant.
        num_channels: channels of the images.
        drop_path_rate: rate of the last layer in training.

    The feature maps of a backbone are ``stage1`` to ``stage4``, chosen by ``out_features``, or by ``out_indices`` from 0 as in
    ``create_backbone``; by default the last. Raises ``UsageError``, a ``ValueError``, naming the field, the value and the rule.
    """

    model_type = "mpvit"

    stages: list[dict[str, Any]] | None = None
    num_channels: int = 3
    drop_path_rate: float = 0.0

    def __post_init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - the fields of any configuration
        if self.stages is None:
            self.stages = asdict(get_config(DEFAULT_VARIANT))["stages"]
        self.stages = json.loads(json.dumps(asdict(self.network())["stages"]))
        self.stage_names = [f"stage{number}" for number in range(1, len(self.stages) + 1)]
        self.set_output_features_output_indices(
            out_features=kwargs.pop("out_features", None), out_indices=kwargs.pop("out_indices", None)
        )
        super().__post_init__(**kwargs)

    @classmethod
    def of(cls, model: str | ModelConfig, **own: Any) -> Self:  # noqa: ANN401 - as the constructor
        """Return the configuration of a variant or a ``ModelConfig``, with a label for each class; ``own`` takes precedence."""
        config = model if isinstance(model, ModelConfig) else get_config(model)
        labels = {} if "id2label" in own else {"num_labels": config.num_classes}
        network = {"num_channels": config.in_channels, "drop_path_rate": config.drop_path}
        return cls(**{"stages": asdict(config)["stages"], **network, **labels, **own})

    def network(self) -> ModelConfig:
        """Return the ``ModelConfig`` of the network without its classifier."""
        fields = {"stages": self.stages, "in_channels": self.num_channels, "drop_path": self.drop_path_rate}
        return config_from_dict({**fields, "num_classes": 0})

    @property
    def hidden_sizes(self) -> list[int]:
        """Channels of each stage's feature map."""
        network = self.network()
        return [network.next_dim(stage) for stage in range(len(network.stages))]
