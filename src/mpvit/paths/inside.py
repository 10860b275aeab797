"""What a network holds inside while it looks at pictures, kept and changed by hooks: the network itself stays as it is."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mpvit.config import FIRST_STAGE
from mpvit.errors import MpvitError, first_line
from mpvit.units import times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

    from mpvit.model.network import MPViT
    from mpvit.model.stages import Path, Stage

LOCAL = "local"


class Branch(NamedTuple):
    """What goes into a stage's fusion: the local branch, or path 1, 2, ...; ``stage`` is the paper's number."""

    stage: int
    name: str
    module: nn.Module

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"stage {self.stage} {self.name}"


class Opened(NamedTuple):
    """A stage, its paths, and its branches in the order in which its fusion takes them; ``number`` is the paper's."""

    number: int
    stage: Stage
    paths: list[Path]
    branches: list[Branch]


def opened(model: MPViT) -> list[Opened]:
    """Return the stages of a network."""
    found = []
    for number, stage in enumerate(cast("Iterable[Stage]", model.stages), FIRST_STAGE):
        paths = list(cast("Iterable[Path]", stage.paths))
        local = [Branch(number, LOCAL, stage.local)] if stage.local is not None else []
        found.append(
            Opened(number, stage, paths, local + [Branch(number, f"path {place}", path) for place, path in enumerate(paths, 1)])
        )
    return found


def show(model: MPViT, images: Tensor) -> Tensor:
    """Return the logits, (b, c, h, w) -> (b, classes); raise ``MpvitError`` where the network fails on so many pictures."""
    try:
        return model(images.to(next(model.parameters())))
    except (RuntimeError, MemoryError) as error:  # torch's own out-of-memory errors are RuntimeErrors
        size = times(tuple(images.shape[2:]))
        raise MpvitError(
            f"the network failed on {len(images)} pictures of {size} pixels: {first_line(error)}",
            hint="a smaller size or batch needs less memory",
        ) from error


@contextmanager
def kept(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Any]]:
    """Yield what each of ``modules`` has given last, by module."""
    found: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, _given: object, output: object) -> None:
        found[module] = output

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(keep).remove)
        yield found


@contextmanager
def silenced(branch: Branch, mean: Tensor) -> Iterator[None]:
    """Put ``mean``, (c, h, w), in the place of what ``branch`` hands to the fusion; what a path embeds stays."""

    def replace(_module: nn.Module, _given: object, output: Any) -> Any:  # noqa: ANN401 - a path gives two maps
        if branch.name == LOCAL:
            return mean.expand_as(output)
        embedded, encoded = output
        return embedded, mean.expand_as(encoded)

    hook = branch.module.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def to_fusion(found: dict[nn.Module, Any], branch: Branch) -> Tensor:
    """Return what a branch that was ``kept`` has handed to the fusion, (b, c, h, w)."""
    output = found[branch.module]
    return output if branch.name == LOCAL else output[1]
