"""A network of the user's own, by the name of its class or factory in a module or a file. Importing it runs its code."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.errors import UsageError, unknown_name
from mpvit.user_model.guard import guarded, importable
from mpvit.user_model.inputs import Input

if TYPE_CHECKING:
    from torch import Tensor, nn


class UserModel(NamedTuple):
    """A network that can be made again and again.

    Attributes:
        name: the class or factory, as the user names it.
        make: makes the network.
        inputs: the inputs of its forward pass.
        note: takes remarks on how the network had to be made or run.
    """

    name: str
    make: "Callable[[], nn.Module]"
    inputs: tuple[Input, ...]
    note: Callable[[str], None] = lambda _: None

    def tensors(self, device: str) -> "list[Tensor]":
        """Return zeros for the inputs, on ``device``."""
        import torch

        return [torch.zeros(each.shape, dtype=getattr(torch, each.dtype), device=device) for each in self.inputs]

    @property
    def shapes(self) -> str:
        """The inputs as people write them."""
        return ", ".join(map(str, self.inputs))


def load_model(
    target: str, arguments: Mapping[str, Any], inputs: Sequence[Input], note: Callable[[str], None] = lambda _: None
) -> UserModel:
    """Import the class or factory ``target``, which takes ``arguments`` and returns a network.

    ``target`` is "package.module:name", searched in the working folder first, or "path/to/file.py:name". The network is in
    evaluation mode. Raises ``UsageError`` if there is no such module or name, and ``MpvitError`` if the import fails. ``make``
    raises ``MpvitError`` if the factory fails or its network cannot be counted, and ``UsageError`` if it returns no network
    or one that does not take ``inputs``.
    """
    module_name, colon, name = target.rpartition(":")
    if not colon or not module_name or not name:
        hint = "for example my_models.vit:ViT or path/to/vit.py:ViT"
        raise UsageError(f"model {target!r}: must be package.module:name or file.py:name", hint=hint)
    path = Path(module_name)
    is_file = path.suffix == ".py"
    module = _import_file(target, path) if is_file else _import(target, module_name)
    factory = getattr(module, name, None)
    if factory is None:
        names = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        raise unknown_name(f"class or function of {module_name}", name, names)
    if not callable(factory):
        raise UsageError(f"model {target!r}: {name} is {type(factory).__name__}, must be a class or a function")
    folder = path.resolve().parent if is_file else Path.cwd()

    def make() -> "nn.Module":
        from mpvit.user_model.making import prepared

        with importable(folder), guarded(f"model {target!r} failed"):
            network = factory(**arguments)
        return prepared(network, target, inputs)

    return UserModel(target, make, tuple(inputs), note)


def _import(target: str, name: str) -> ModuleType:
    with guarded(f"model {target!r}: cannot import {name}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):  # the module itself, or a package around it
                hint = "name a file as path/to/file.py:name"
                raise UsageError(f"model {target!r}: cannot import {name}: there is no {error.name}", hint=hint) from error
            raise


def _import_file(target: str, path: Path) -> ModuleType:
    """Import a file under a name of its own; modules next to it can be imported."""
    if not path.is_file():
        raise UsageError(f"model {target!r}: there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"mpvit_user_model_{path.stem}", path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"model {target!r}: {str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look for it there
    with importable(path.resolve().parent), guarded(f"model {target!r}: cannot import {path}"):
        spec.loader.exec_module(module)
    return module


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Read "name=value" arguments; a value is a Python literal if it can be read as one, else text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"argument {text!r}: must be name=value", hint="for example depth=12")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[name] = value
    return found
