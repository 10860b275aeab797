"""mpvit: a Multi-Path Vision Transformer, and its cost, exact to the integer.

Names are imported at their first use, so that closed-form answers never import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpvit.version import __version__ as __version__

if TYPE_CHECKING:
    from mpvit.architecture.config import ModelConfig as ModelConfig
    from mpvit.architecture.config import StageConfig as StageConfig
    from mpvit.architecture.config import load_config as load_config
    from mpvit.architecture.variants import VARIANTS as VARIANTS
    from mpvit.counting import count as count
    from mpvit.model.backbone import create_backbone as create_backbone
    from mpvit.model.fused import fuse as fuse
    from mpvit.model.network import build_model as build_model
    from mpvit.model.weights import load_weights as load_weights
    from mpvit.model.weights import save_weights as save_weights

_EXPORTS = {
    "VARIANTS": "mpvit.architecture.variants",
    "ModelConfig": "mpvit.architecture.config",
    "StageConfig": "mpvit.architecture.config",
    "build_model": "mpvit.model.network",
    "count": "mpvit.counting",
    "create_backbone": "mpvit.model.backbone",
    "fuse": "mpvit.model.fused",
    "load_config": "mpvit.architecture.config",
    "load_weights": "mpvit.model.weights",
    "save_weights": "mpvit.model.weights",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604 - names only


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
