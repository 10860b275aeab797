"""The inputs of a network's forward pass: shapes, dtypes and, for keyword arguments, names."""

import inspect
from collections.abc import Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.errors import UsageError, unknown_name
from mpvit.operations import Shape
from mpvit.units import is_whole, times

if TYPE_CHECKING:
    from torch import nn


INPUT_DTYPES = ("float32", "float16", "bfloat16", "float64", "complex64", "int64", "int32", "uint8", "bool")
"""Dtypes of inputs. Inputs are zeros, which an embedding takes for indices if they are integers."""

_EXAMPLES = "for example 1x3x224x224 or tokens=1x128:int64"


class Input(NamedTuple):
    """One argument of a network's forward pass: its shape, its dtype and, unless it is passed by position, its name."""

    shape: Shape
    dtype: str = "float32"
    name: str = ""

    def __str__(self) -> str:
        """Return it as people write it: 1×3×224×224, or tokens=1×128."""
        return f"{self.name}={times(self.shape)}" if self.name else times(self.shape)


def parse_input(text: str) -> Input:
    """Read "1x3x224x224", "1x128:int64" or "tokens=1x128:int64"; raise ``UsageError`` for anything else."""
    name, equals, rest = text.rpartition("=")
    if equals and not name.isidentifier():
        raise UsageError(f"input {text!r}: {name!r} cannot be the name of an argument", hint=_EXAMPLES)
    sizes, colon, dtype = rest.lower().replace("×", "x").partition(":")
    lengths = sizes.split("x")
    if not all(map(is_whole, lengths)):
        raise UsageError(f"input {text!r}: must be whole numbers of at least 1", hint=_EXAMPLES)
    if colon and dtype not in INPUT_DTYPES:
        raise unknown_name("dtype", dtype, INPUT_DTYPES)
    return Input(tuple(int(length) for length in lengths), dtype or "float32", name)


def parse_inputs(texts: Sequence[str]) -> tuple[Input, ...]:
    """Read several; raise ``UsageError`` also for a repeated name, and for a positional input after a named one."""
    found = tuple(map(parse_input, texts))
    names = [each.name for each in found]
    for index, name in enumerate(names):
        if not name and any(names[:index]):
            raise UsageError(f"input {texts[index]!r}: must come before the named ones")
        if name and name in names[:index]:
            raise UsageError(f"input {name!r}: must be given once")
    return found


def bind(network: "nn.Module", inputs: Sequence[Input], label: str) -> "nn.Module":
    """Make ``network`` take ``inputs`` by position, in their order, and return it.

    So neither a trace nor a tool needs to know names. ``label`` is the network's name in errors. Raises ``UsageError`` for an
    argument that ``forward`` does not have, or one that it requires and does not get.
    """
    try:
        signature = inspect.signature(network.forward)
    except (TypeError, ValueError):  # written in C
        return network
    _check(signature, inputs, label)
    names = [each.name for each in inputs]
    positional = [name for name, each in signature.parameters.items() if each.kind in _POSITIONAL]
    if any(name and positional[index : index + 1] != [name] for index, name in enumerate(names)):
        network.forward = MethodType(
            _by_name(signature, names), network
        )  # a method, so that a copy of the network gets its own
    return network


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _check(signature: inspect.Signature, inputs: Sequence[Input], label: str) -> None:
    by_name = {each.name: each for each in inputs if each.name}
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
    takes = [name for name, each in signature.parameters.items() if each.kind not in _VARIABLE]
    for name in by_name:
        if name not in takes and not takes_any:
            raise unknown_name(f"argument of the forward of {label}", name, takes)
    positions = [each for each in inputs if not each.name]
    try:
        signature.bind(*positions, **by_name)
    except TypeError as error:
        given = {*list(signature.parameters)[: len(positions)], *by_name}
        required = [each.name for each in signature.parameters.values() if each.default is each.empty]
        missing = [name for name in required if name in takes and name not in given]
        hint = f"add an input: {', '.join(f'{name}=SHAPE' for name in missing)}" if missing else f"it takes {', '.join(takes)}"
        raise UsageError(f"the forward of {label}, called on {', '.join(map(str, inputs))}: {error}", hint=hint) from error


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _by_name(signature: inspect.Signature, names: Sequence[str]) -> Any:  # noqa: ANN401 - a function with its own signature
    """Return a ``forward`` that takes by position the arguments that the network's own takes by name."""
    start = sum(not name for name in names)
    takes = [name or own for name, own in zip(names, [*signature.parameters, *names], strict=False)]

    def forward(self: "nn.Module", *tensors: Any, **named: Any) -> Any:  # noqa: ANN401
        own = dict(zip(takes[start:], tensors[start:], strict=False)) | named
        return type(self).forward(self, *tensors[:start], **own)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *takes)]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # in which tools look for names
    return forward
