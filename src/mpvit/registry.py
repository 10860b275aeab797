"""Registries: dictionaries from a name to "module:object"."""

from importlib import import_module
from typing import Any


def resolve(reference: str) -> Any:  # noqa: ANN401 - whatever the registry holds
    """Import the object that "module:object" names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
