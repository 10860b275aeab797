"""Networks as files for other programs: one file a target. An export is compared with torch before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.errors import UsageError, unknown_name
from mpvit.export.shapes import InputOutputShapes
from mpvit.imports import require, resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mpvit.model.network import MPViT

TARGETS = {
    "onnx": "mpvit.export.onnx:TARGET",
    "openvino": "mpvit.export.openvino:TARGET",
    "pt2": "mpvit.export.pt2:TARGET",
}
"""Targets that a network can be exported to."""

SUFFIXES = {".onnx": "onnx", ".xml": "openvino", ".pt2": "pt2"}
"""Target of a file by its suffix; OpenVINO's .xml has a .bin of the same name next to it."""

DTYPES = ("float32", "float16", "int8")
"""Numbers that an exported file can hold."""

DYNAMIC = ("batch", "size")
"""Axes of the input that can be dynamic: the batch; the height and width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a network is exported. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        target: one of ``TARGETS``.
        dtype: one of ``DTYPES``, for the weights and, where the processor supports it, for the arithmetic; images and logits
            are always float32.
        dynamic: names of ``DYNAMIC`` whose axes may have any length in a call.
        fused: whether to export ``mpvit.fuse(network)`` instead of the network itself.
        batch: images in a call, if the batch is not dynamic.
        size: (height, width) of the images in pixels, if the size is not dynamic.
    """

    target: str
    dtype: str = "float32"
    dynamic: tuple[str, ...] = ()
    fused: bool = False
    batch: int = 1
    size: tuple[int, int] = (224, 224)

    def __post_init__(self) -> None:
        names = [("target", self.target, TARGETS), ("dtype", self.dtype, DTYPES)]
        for what, name, known in (*names, *(("dynamic", name, DYNAMIC) for name in self.dynamic)):
            if name not in known:
                raise unknown_name(what, name, known)
        if self.batch < 1:
            raise UsageError(f"batch = {self.batch}: must be at least 1")

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(batch, height, width) of the inputs on which an export is compared with torch."""
        height, width = self.size
        batches = (1, 3, 8) if "batch" in self.dynamic else (self.batch,)
        sizes = [self.size]
        if "size" in self.dynamic:  # for 224×224 also 192×320 and 256×256
            sizes += [(max(height - 32, 32), width + 96), (height + 32, width + 32)]
        return tuple((batch, *size) for size in sizes for batch in batches)


class InferenceSession(NamedTuple):
    """A file that an engine has loaded.

    Attributes:
        run: function from contiguous float32 images (b, c, h, w) to float32 logits (b, classes).
        shapes: shapes of the images and logits.
        metadata: text in the file by name.
        engine: name and version of the engine.
    """

    run: Callable[[NDArray[Any]], NDArray[Any]]
    shapes: InputOutputShapes
    metadata: Mapping[str, str]
    engine: str


class Target(NamedTuple):
    """A file format and the engine that runs it.

    Attributes:
        suffixes: suffixes of the files; the first one is the file that the user names.
        libraries: libraries that the target needs.
        quantiser: further libraries for int8; None if the engine has no quantiser.
        write: function from a network, its options, its metadata and calibration images (n, c, h, w), which only int8 needs, to
            the bytes of the files by suffix.
        open: function from these bytes and a number of CPU threads to a session.
    """

    suffixes: tuple[str, ...]
    libraries: tuple[str, ...]
    quantiser: tuple[str, ...] | None
    write: Callable[[MPViT, ExportOptions, Mapping[str, str], Tensor | None], dict[str, bytes]]
    open: Callable[[Mapping[str, bytes], int], InferenceSession]


def get_target(name: str, dtype: str = "float32") -> Target:
    """Return a target; raise ``MpvitError`` if a library is missing, ``UsageError`` if it does not support int8."""
    target: Target = resolve(TARGETS[name])
    require(*target.libraries)
    if dtype == "int8":
        if target.quantiser is None:
            able = ", ".join(other for other in TARGETS if resolve(TARGETS[other]).quantiser is not None)
            raise UsageError(f"dtype int8 with target {name}: torch has no quantiser of its own", hint=f"{able} have one")
        require(*target.quantiser)
    return target
