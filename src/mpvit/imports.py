"""Imports by name, and optional libraries with the extra that installs each."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mpvit.errors import MpvitError

NEEDED = {
    "accelerate": "train",
    "kornia": "train",
    "sklearn": "train",
    "torchmetrics": "train",
    "datasets": "datasets",
    "tensorboard": "tensorboard",
    "transformers": "transformers",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "openvino": "export",
    "nncf": "export",
}
"""Extra that installs each optional library."""


def missing(*libraries: str) -> str | None:
    """Return the first of ``libraries`` that is not installed, None if all are."""
    return next((library for library in libraries if find_spec(library) is None), None)


def require(*libraries: str) -> None:
    """Raise ``MpvitError`` with the command to run if one of ``libraries`` is not installed."""
    if (library := missing(*libraries)) is not None:
        raise MpvitError(f"{library} is not installed", hint=f"{remedy(library)} installs it")


def remedy(library: str) -> str:
    """Return the command that installs a library."""
    return f"pip install 'mpvit[{NEEDED[library]}]'"


def resolve(reference: str) -> Any:  # noqa: ANN401 - the object that a registry names
    """Import the object that "module:object" names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
