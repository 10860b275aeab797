"""The libraries that only some installations have, and which extra brings each."""

from importlib.util import find_spec

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
"""The extra of the installation that each library beyond the base comes with."""


def missing(*libraries: str) -> str | None:
    """Return the first of ``libraries`` that is not there; None where all are."""
    return next((library for library in libraries if find_spec(library) is None), None)


def require(*libraries: str) -> None:
    """Raise ``MpvitError`` saying which extra to install where one of ``libraries`` is not there."""
    if (library := missing(*libraries)) is not None:
        raise MpvitError(f"{library} is not installed, which this needs", hint=f"{remedy(library)} brings it")


def remedy(library: str) -> str:
    """Return the command that installs a library."""
    return f"pip install 'mpvit[{NEEDED[library]}]'"
