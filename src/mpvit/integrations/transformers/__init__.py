"""MPViT for Hugging Face's transformers. Importing this registers it with their Auto classes as model type ``mpvit``."""

from pathlib import Path

from mpvit.imports import require

require("transformers")  # before what follows imports it

from transformers import (  # noqa: E402
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
)

from mpvit.integrations.transformers.configuration import MPViTConfig  # noqa: E402
from mpvit.integrations.transformers.image_processor import MPViTImageProcessor  # noqa: E402
from mpvit.integrations.transformers.modeling import (  # noqa: E402
    MPViTBackbone,
    MPViTForImageClassification,
    MPViTModel,
)
from mpvit.prediction.loading import load_network  # noqa: E402

__all__ = [
    "MPViTBackbone",
    "MPViTConfig",
    "MPViTForImageClassification",
    "MPViTImageProcessor",
    "MPViTModel",
    "from_weights",
    "register",
]


def register() -> None:
    """Register the classes with the Auto classes as model type ``mpvit``; a second call changes nothing."""
    AutoConfig.register("mpvit", MPViTConfig, exist_ok=True)
    AutoModel.register(MPViTConfig, MPViTModel, exist_ok=True)
    AutoModelForImageClassification.register(MPViTConfig, MPViTForImageClassification, exist_ok=True)
    AutoBackbone.register(MPViTConfig, MPViTBackbone, exist_ok=True)
    AutoImageProcessor.register(MPViTConfig, image_processor_classes={"pil": MPViTImageProcessor}, exist_ok=True)


def from_weights(weights: str | Path, variant: str | None = None) -> tuple[MPViTForImageClassification, MPViTImageProcessor]:
    """Return the model, in evaluation mode, of a weights file, with its classes as labels, and its image processor.

    ``variant`` is the network of a published checkpoint. Raises the errors of ``load_network``.
    """
    network = load_network(Path(weights), variant)
    labels = dict(enumerate(network.classes))
    config = MPViTConfig.of(network.model.config, id2label=labels, label2id={name: index for index, name in labels.items()})
    model = MPViTForImageClassification(config).eval()
    tensors = network.model.state_dict()
    head = {name.removeprefix("head."): tensors.pop(name) for name in list(tensors) if name.startswith("head.")}
    model.mpvit.network.load_state_dict(tensors)
    model.classifier.load_state_dict(head)
    return model, MPViTImageProcessor.of(network.preprocessing)


register()
