"""The models of transformers: feature maps, a classifier, and a backbone for their detectors and segmenters."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import (
    BackboneOutput,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
)
from transformers.utils.generic import can_return_tuple

from mpvit.integrations.transformers.configuration import MPViTConfig
from mpvit.model.layers import Attention
from mpvit.model.network import MPViT, initialise, pool


class MPViTPreTrainedModel(PreTrainedModel):
    """The base class of the models.

    They return no attention maps: most kinds of attention never compute them (``mpvit paths`` shows the equivalent weights).
    Gradient checkpointing is not supported: a batch norm that runs twice would count each batch twice.
    """

    config: MPViTConfig
    base_model_prefix = "mpvit"
    main_input_name = "pixel_values"
    input_modalities = "image"
    _no_split_modules = ["Stage"]  # noqa: RUF012 - transformers adds to a copy

    @classmethod
    def is_custom_code(cls) -> bool:
        """Return False, so that ``_init_weights`` gets every module, also those without parameters of their own."""
        return False

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise the tensors that a file lacks as published, and keep those that it holds."""
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            super()._init_weights(module)
        elif isinstance(module, nn.Conv2d):
            module.reset_parameters()
        elif isinstance(module, Attention):
            for name, tensor in {**module.kind.parameters(module.sizes), **module.kind.buffers(module.sizes)}.items():
                init.copy_(getattr(module, name), tensor)
        initialise(module)

    def _hidden_states(self, maps: tuple[Tensor, ...], requested: bool | None) -> tuple[Tensor, ...] | None:  # noqa: FBT001
        """Return the maps if the call or else the configuration requests them."""
        return maps if (self.config.output_hidden_states if requested is None else requested) else None


class MPViTModel(MPViTPreTrainedModel):
    """The network without its classifier."""

    def __init__(self, config: MPViTConfig) -> None:
        super().__init__(config)
        self.network = MPViT(config.network())
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self, pixel_values: Tensor, *, output_hidden_states: bool | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Map (b, num_channels, h, w) to the last feature map (b, c, h/32, w/32) and its mean (b, c).

        ``hidden_states``, if requested, are the maps of all stages, at strides 4, 8, 16 and 32.
        """
        maps = self.network.forward_features(pixel_values)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=maps[-1],
            pooler_output=pool(maps[-1]),
            hidden_states=self._hidden_states(maps, output_hidden_states),
        )


class MPViTForImageClassification(MPViTPreTrainedModel):
    """The network with its classifier; without labels its logits are the pooled features."""

    def __init__(self, config: MPViTConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.mpvit = MPViTModel(config)
        width = config.hidden_sizes[-1]
        self.classifier = nn.Linear(width, config.num_labels) if config.num_labels else nn.Identity()
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, *, output_hidden_states: bool | None = None
    ) -> ImageClassifierOutputWithNoAttention:
        """Map (b, num_channels, h, w), and (b,) labels for a loss, to (b, labels) logits.

        ``config.problem_type`` chooses the loss: by default cross-entropy, or squared error for a single label.
        """
        outputs = self.mpvit(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        logits = self.classifier(outputs.pooler_output)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


class MPViTBackbone(BackboneMixin, MPViTPreTrainedModel):
    """The network as a backbone, whose ``channels`` are those of its feature maps, at strides 4, 8, 16 and 32."""

    has_attentions = False

    def __init__(self, config: MPViTConfig) -> None:
        super().__init__(config)
        self.num_features = config.hidden_sizes
        self.network = MPViT(config.network())
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(self, pixel_values: Tensor, *, output_hidden_states: bool | None = None) -> BackboneOutput:
        """Map (b, num_channels, h, w) to the maps of ``out_features``; ``hidden_states``, if requested, are all maps."""
        maps = self.network.forward_features(pixel_values)
        chosen: Any = tuple(each for name, each in zip(self.stage_names, maps, strict=True) if name in self.out_features)
        return BackboneOutput(
            feature_maps=chosen, hidden_states=self._hidden_states(maps, output_hidden_states), attentions=None
        )
