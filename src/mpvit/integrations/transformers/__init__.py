"""MPViT for Hugging Face's transformers. Importing this makes it known to their Auto classes."""

from mpvit.extras import require

require("transformers")  # before what follows imports it

from transformers import (  # noqa: E402
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
)

from mpvit.integrations.transformers.configuration import MPViTConfig  # noqa: E402
from mpvit.integrations.transformers.conversion import from_weights  # noqa: E402
from mpvit.integrations.transformers.image_processor import MPViTImageProcessor  # noqa: E402
from mpvit.integrations.transformers.modeling import (  # noqa: E402
    MPViTBackbone,
    MPViTForImageClassification,
    MPViTModel,
)

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
    """Make the classes known to the Auto classes as model type ``mpvit``; twice is as good as once."""
    AutoConfig.register("mpvit", MPViTConfig, exist_ok=True)
    AutoModel.register(MPViTConfig, MPViTModel, exist_ok=True)
    AutoModelForImageClassification.register(MPViTConfig, MPViTForImageClassification, exist_ok=True)
    AutoBackbone.register(MPViTConfig, MPViTBackbone, exist_ok=True)
    AutoImageProcessor.register(MPViTConfig, image_processor_classes={"pil": MPViTImageProcessor}, exist_ok=True)


register()
