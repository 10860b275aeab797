"""A network of the user's own, by the name of its class or factory: ``package.module:name``. Importing it runs its code."""

import ast
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.errors import MpvitError, UsageError, unknown_name
from mpvit.operations import Shape
from mpvit.units import is_whole

if TYPE_CHECKING:
    from torch import Tensor, nn


INPUT_DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "bool")
"""What an input may hold; whole numbers are zeros, which an embedding takes as indices."""


class Input(NamedTuple):
    """The shape and dtype of one argument of a model's forward pass."""

    shape: Shape
    dtype: str = "float32"


class UserModel(NamedTuple):
    """How to make a network afresh, and what it is called on."""

    name: str
    make: "Callable[[], nn.Module]"
    inputs: tuple[Input, ...]

    def tensors(self, device: str) -> "list[Tensor]":
        """Return the inputs on ``device``: zeros."""
        import torch

        return [torch.zeros(each.shape, dtype=getattr(torch, each.dtype), device=device) for each in self.inputs]


def load_model(target: str, arguments: Mapping[str, Any], inputs: Sequence[Input]) -> UserModel:
    """Import the class or factory ``target``, "package.module:name", which takes ``arguments`` and returns a network.

    The working folder is looked in first. The network is made when it is asked for, in evaluation mode, on the CPU.
    Raises ``UsageError`` where there is no such module or name; ``make`` raises ``MpvitError`` where it fails, and
    ``UsageError`` where what it makes is no network.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"--model {target!r}: must be package.module:name", hint="for example --model my_models.vit:ViT")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"--model {target!r}: cannot import {module_name}: {_reason(error)}") from error
    finally:
        sys.path.pop(0)
    factory = getattr(module, name, None)
    if factory is None:
        names = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        raise unknown_name(f"class or function of {module_name}", name, names)
    if not callable(factory):
        raise UsageError(f"--model {target!r}: {name} is {type(factory).__name__}, must be a class or a function")

    def make() -> "nn.Module":
        from torch import nn

        try:
            network = factory(**arguments)
        except (Exception, SystemExit) as error:
            raise MpvitError(
                f"--model {target!r} failed: {_reason(error)}", hint="pass arguments as --arg name=value"
            ) from error
        if not isinstance(network, nn.Module):
            raise UsageError(f"--model {target!r} makes {type(network).__name__}, must be a torch.nn.Module")
        return network.eval()

    return UserModel(target, make, tuple(inputs))


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Read "name=value" each; a value is a Python literal where it reads as one, else text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--arg {text!r}: must be name=value", hint="for example --arg depth=12")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def parse_input(text: str) -> Input:
    """Read "1x3x224x224", or "1x128:int64", as an input; raise ``UsageError`` for anything else."""
    sizes, _, dtype = text.lower().replace("×", "x").partition(":")
    lengths = sizes.split("x")
    if not all(map(is_whole, lengths)):
        raise UsageError(f"--input {text!r}: must be whole numbers of at least 1", hint="for example --input 1x3x224x224")
    if dtype and dtype not in INPUT_DTYPES:
        raise unknown_name("dtype", dtype, INPUT_DTYPES)
    return Input(tuple(int(length) for length in lengths), dtype or "float32")


def _reason(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
