"""A network's configuration as transformers keeps it: in a ``config.json`` beside the weights."""

import json
from dataclasses import asdict
from typing import Any, Self

from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

from mpvit.config import ModelConfig, config_from_dict
from mpvit.variants import DEFAULT_VARIANT, get_config


class MPViTConfig(BackboneConfigMixin, PreTrainedConfig):
    """A network in transformers' words, with what every configuration of theirs has (``id2label``, ``num_labels``, ...).

    Attributes:
        stages: the fields of a ``StageConfig`` for each stage; by default those of the default variant.
        num_channels: of the pictures.
        drop_path_rate: of the last layer in training.

    The maps that a backbone gives are ``stage1`` to ``stage4``, chosen by ``out_features``, or by ``out_indices`` from 0
    as in ``create_backbone``; by default the last. Raises ``UsageError``, a ``ValueError``, naming what breaks a rule.
    """

    model_type = "mpvit"

    stages: list[dict[str, Any]] | None = None
    num_channels: int = 3
    drop_path_rate: float = 0.0

    def __post_init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - whatever any configuration of theirs has
        """Check the network once, and write its stages as JSON has them: each field, and lists."""
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
        """Return that of a variant's name or a configuration, as many labels as it has classes; ``own`` goes before it."""
        config = model if isinstance(model, ModelConfig) else get_config(model)
        labels = {} if "id2label" in own else {"num_labels": config.num_classes}
        network = {"num_channels": config.in_channels, "drop_path_rate": config.drop_path}
        return cls(**{"stages": asdict(config)["stages"], **network, **labels, **own})

    def network(self) -> ModelConfig:
        """Return the configuration of the network without its classifier."""
        own = {"in_channels": self.num_channels, "drop_path": self.drop_path_rate}
        return config_from_dict({"stages": self.stages, "num_classes": 0, **own})

    @property
    def hidden_sizes(self) -> list[int]:
        """Channels of each stage's map."""
        network = self.network()
        return [network.next_dim(stage) for stage in range(len(network.stages))]
