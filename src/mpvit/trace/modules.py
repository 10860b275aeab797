"""The modules of a network for its trace: their names, their parameters, and the settings by which tools count."""

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from mpvit.trace import Module
from mpvit.trace.arguments import shape_of

_SETTINGS = ("dim", "mode", "num_heads", "batch_first")
"""The attributes of modules by which tools count."""

_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_SETTINGS_OF_AVERAGES = ("kernel_size", "stride", "padding", "count_include_pad")

_SHAPED = ("MultiheadAttention",)
"""Classes with modules below them whose shapes tools read."""


def names_of(network: nn.Module) -> dict[nn.Module, list[str]]:
    """Return every name of each module of ``network``, in the order in which torch walks over them."""
    names: dict[nn.Module, list[str]] = {}
    _name(network, "", names)
    return names


def _name(module: nn.Module, name: str, names: dict[nn.Module, list[str]]) -> None:
    names.setdefault(module, []).append(name)
    for child_name, child in module.named_children():
        _name(child, f"{name}.{child_name}".lstrip("."), names)


def modules_of(names: Mapping[nn.Module, Sequence[str]], calling: Collection[str]) -> dict[str, Module]:
    """Return, by their first name, the modules that own parameters or whose name is in ``calling``."""
    seen: dict[int, str] = {}
    modules: dict[str, Module] = {}
    for module, own_names in names.items():
        own = dict(module.named_parameters(recurse=False))
        if own or own_names[0] in calling:
            modules[own_names[0]] = Module(
                names=tuple(own_names),
                type=_type(module),
                leaf=not any(True for _ in module.children()),
                parameters=tuple((name, shape_of(parameter)) for name, parameter in own.items()),
                tied={name: seen[id(parameter)] for name, parameter in own.items() if id(parameter) in seen},
                frozen=tuple(name for name, parameter in own.items() if not parameter.requires_grad),
                settings=_settings(module),
                base=_base(module),
            )
            for name, parameter in own.items():
                seen.setdefault(id(parameter), f"{own_names[0]}.{name}")
    return modules


def _type(module: nn.Module) -> str:
    kind = type(module)
    stranger = getattr(nn, kind.__name__, kind) is not kind
    return f"{kind.__module__}.{kind.__name__}" if stranger else kind.__name__


def _base(module: nn.Module) -> str:
    own, *above = (kind.__name__ for kind in type(module).__mro__ if getattr(nn, kind.__name__, None) is kind)
    return own if above and own != _type(module) else ""


def _settings(module: nn.Module) -> tuple[tuple[str, int | str | tuple[int, ...]], ...]:
    names = _SETTINGS_OF_AVERAGES if isinstance(module, _AVERAGES) else _SETTINGS
    found = ((name, getattr(module, name, None)) for name in names)
    return tuple((name, value) for name, value in found if isinstance(value, int | str | tuple))


def has_shapes(module: nn.Module) -> bool:
    """Tell whether a tool counts by the shapes of the module's tensors."""
    return type(module).__name__ in _SHAPED or not any(True for _ in module.children())
