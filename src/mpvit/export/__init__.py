"""Networks for other programs: one file a target, each held against torch in its own engine before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.errors import UsageError, unknown_name
from mpvit.extras import require
from mpvit.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from mpvit.export.signature import Signature
    from mpvit.model.network import MPViT

TARGETS = {
    "onnx": "mpvit.export.onnx:TARGET",
    "openvino": "mpvit.export.openvino:TARGET",
    "pt2": "mpvit.export.pt2:TARGET",
}
"""What a network is exported to."""

SUFFIXES = {".onnx": "onnx", ".xml": "openvino", ".pt2": "pt2"}
"""The target of a file by its suffix: OpenVINO's is the .xml, and a .bin of the same name lies beside it."""

DTYPES = ("float32", "float16", "int8")

DYNAMIC = ("batch", "size")
"""What of its input a file may leave open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What to make of a network. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        target: one of ``TARGETS``.
        dtype: of the weights and, where the processor has it, of the arithmetic; images and logits are float32 throughout.
        dynamic: what stays open: any of ``DYNAMIC``.
        fused: export ``mpvit.fuse`` of the network instead of the network as it is written.
        batch: images in a call, where that is not open.
        size: (height, width) in pixels, where that is not open.
    """

    target: str
    dtype: str = "float32"
    dynamic: tuple[str, ...] = ()
    fused: bool = False
    batch: int = 1
    size: tuple[int, int] = (224, 224)

    def __post_init__(self) -> None:
        """Check every field once."""
        for what, name, known in (("target", self.target, TARGETS), ("dtype", self.dtype, DTYPES)):
            if name not in known:
                raise unknown_name(what, name, known)
        for name in self.dynamic:
            if name not in DYNAMIC:
                raise unknown_name("dynamic", name, DYNAMIC)
        if self.batch < 1:
            raise UsageError(f"batch = {self.batch}: must be at least 1")

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(batch, height, width) of the calls that an export is tried with: all kinds that its file allows."""
        height, width = self.size
        batches = (1, 3, 8) if "batch" in self.dynamic else (self.batch,)
        sizes = [self.size]
        if "size" in self.dynamic:  # 224×224 is tried with 192×320 and 256×256
            sizes += [(max(height - 32, 32), width + 96), (height + 32, width + 32)]
        return tuple((batch, *size) for size in sizes for batch in batches)


class Opened(NamedTuple):
    """A file in its engine.

    Attributes:
        run: maps images, float32 (b, c, h, w) in one piece, to logits, float32 (b, classes).
        signature: which images it takes.
        metadata: what travels with it: text by name.
        engine: its name and version.
    """

    run: Callable[[NDArray[Any]], NDArray[Any]]
    signature: Signature
    metadata: Mapping[str, str]
    engine: str


class Target(NamedTuple):
    """How a network is written for an engine, and run there.

    Attributes:
        suffixes: of its files, first that of the one that is named.
        libraries: what it needs; int8 needs what ``quantiser`` names too.
        quantiser: what int8 needs beyond; None where the engine has no quantiser.
        write: maps a network, what to make of it, what travels with it and pictures, (n, c, h, w), to calibrate int8 by, to
            the bytes of its files by suffix.
        open: maps these bytes and a number of CPU threads to the file in its engine.
    """

    suffixes: tuple[str, ...]
    libraries: tuple[str, ...]
    quantiser: tuple[str, ...] | None
    write: Callable[[MPViT, Export, Mapping[str, str], Tensor | None], dict[str, bytes]]
    open: Callable[[Mapping[str, bytes], int], Opened]


def get_target(name: str, dtype: str = "float32") -> Target:
    """Return a target; raise ``MpvitError`` where a library that it needs is missing, ``UsageError`` where it has no int8."""
    target: Target = resolve(TARGETS[name])
    require(*target.libraries)
    if dtype == "int8":
        if target.quantiser is None:
            able = ", ".join(other for other in TARGETS if resolve(TARGETS[other]).quantiser is not None)
            raise UsageError(f"dtype int8 with target {name}: torch has no quantiser of its own", hint=f"{able} have one")
        require(*target.quantiser)
    return target
