"""Outputs of modules inside a network, recorded and replaced by hooks; the network itself does not change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mpvit.architecture.config import FIRST_STAGE
from mpvit.errors import MpvitError, first_line
from mpvit.units import times

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mpvit.model.network import MPViT
    from mpvit.model.stages import Path, Stage

LOCAL = "local"


class Branch(NamedTuple):
    """One input of the fusion of a stage: ``local``, or ``path 1``, ``path 2``, ...; stages count as in the paper."""

    stage: int
    name: str
    module: nn.Module

    @property
    def label(self) -> str:
        """Name for people: stage 2 path 1."""
        return f"stage {self.stage} {self.name}"

    def output(self, outputs: Mapping[nn.Module, Any]) -> Tensor:
        """Return the input to the fusion, (b, c, h, w), from recorded outputs; a path also outputs its embedding."""
        output = outputs[self.module]
        return output if self.name == LOCAL else output[1]


class StageBranches(NamedTuple):
    """A stage with the number that it has in the paper, its paths, and its branches in the order of its fusion."""

    number: int
    stage: Stage
    paths: list[Path]
    branches: list[Branch]


def stage_branches(model: MPViT) -> list[StageBranches]:
    """Return the branches of each stage."""
    found = []
    for number, stage in enumerate(cast("Iterable[Stage]", model.stages), FIRST_STAGE):
        paths = list(cast("Iterable[Path]", stage.paths))
        local = [Branch(number, LOCAL, stage.local)] if stage.local is not None else []
        branches = local + [Branch(number, f"path {index}", path) for index, path in enumerate(paths, 1)]
        found.append(StageBranches(number, stage, paths, branches))
    return found


def run(model: MPViT, images: Tensor) -> Tensor:
    """Map (b, c, h, w) -> (b, classes) logits; raise ``MpvitError`` if the network fails on the images."""
    try:
        return model(images.to(next(model.parameters())))
    except (RuntimeError, MemoryError) as error:  # torch's own out-of-memory errors are RuntimeErrors
        size = times(tuple(images.shape[2:]))
        raise MpvitError(
            f"the network failed on {len(images)} images of {size} pixels: {first_line(error)}",
            hint="a smaller size or batch needs less memory",
        ) from error


@contextmanager
def record_outputs(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Any]]:
    """Yield a dictionary that holds the last output of each of ``modules``."""
    outputs: dict[nn.Module, Any] = {}

    def record(module: nn.Module, _inputs: object, output: object) -> None:
        outputs[module] = output

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(record).remove)
        yield outputs


@contextmanager
def replace_output(branch: Branch, mean: Tensor) -> Iterator[None]:
    """Replace the input of ``branch`` to the fusion by ``mean``, (c, h, w); the embedding of a path stays as it is."""

    def replace(_module: nn.Module, _inputs: object, output: Any) -> Any:  # noqa: ANN401 - a path has two outputs
        return mean.expand_as(output) if branch.name == LOCAL else (output[0], mean.expand_as(output[1]))

    hook = branch.module.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
