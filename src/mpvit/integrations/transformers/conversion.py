"""Weights of this project, or a published checkpoint, as a model of transformers."""

from pathlib import Path

from mpvit.integrations.transformers.configuration import MPViTConfig
from mpvit.integrations.transformers.image_processor import MPViTImageProcessor
from mpvit.integrations.transformers.modeling import MPViTForImageClassification
from mpvit.prediction.inference import load_network


def from_weights(weights: str | Path, variant: str | None = None) -> tuple[MPViTForImageClassification, MPViTImageProcessor]:
    """Return the model, in evaluation mode, whose weights are in a file, its labels the file's classes, and its processor.

    ``variant`` names the network of a published checkpoint. Errors are those of ``load_network``.
    """
    network = load_network(Path(weights), variant)
    config = MPViTConfig.of(
        network.model.config,
        id2label=dict(enumerate(network.classes)),
        label2id={name: index for index, name in enumerate(network.classes)},
    )
    model = MPViTForImageClassification(config).eval()
    tensors = network.model.state_dict()
    head = {name: tensors.pop(name) for name in list(tensors) if name.startswith("head.")}
    model.mpvit.network.load_state_dict(tensors)
    model.classifier.load_state_dict({name.removeprefix("head."): tensor for name, tensor in head.items()})
    return model, MPViTImageProcessor.of(network.preprocessing)
