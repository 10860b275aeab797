"""OpenVINO's .xml and .bin, read from the ONNX model; int8 by NNCF's quantiser for transformers.

Two things of OpenVINO are kept from happening: importing it reports to Intel that it was, under a number that it keeps in the
home folder, and its files do not say which .xml and .bin belong together.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpvit.errors import MpvitError, UsageError, first_line
from mpvit.export import Export, Opened, Target
from mpvit.export.onnx import model_bytes
from mpvit.export.program import quiet
from mpvit.export.signature import signature_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from numpy.typing import NDArray
    from torch import Tensor

    from mpvit.model.network import MPViT

_TELEMETRY = "openvino_telemetry"
_GROUP, _DIGEST = "mpvit", "bin"


def write(network: MPViT, asked: Export, metadata: Mapping[str, str], pictures: Tensor | None) -> dict[str, bytes]:
    """Return both files' bytes; see ``mpvit.export.Target``. float16 is how weights are kept: the processor's best computes."""
    openvino = unreported("openvino")
    model = openvino.Core().read_model(model_bytes(network, asked, {}, "float32"))
    if asked.dtype == "int8":
        assert pictures is not None  # noqa: S101 - as ``export`` has checked
        model = _quantised(model, asked, pictures)
    for name, text in metadata.items():
        model.set_rt_info(text, [_GROUP, name.removeprefix(f"{_GROUP}.")])
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder) / "network.xml", Path(folder) / "network.bin"
        openvino.save_model(model, xml, compress_to_fp16=asked.dtype == "float16")
        digest = _digest(weights.read_bytes())
        model.set_rt_info(digest, [_GROUP, _DIGEST])  # which changes the .xml alone
        openvino.save_model(model, xml, compress_to_fp16=asked.dtype == "float16")
        return {".xml": xml.read_bytes(), ".bin": weights.read_bytes()}


def _quantised(model: Any, asked: Export, pictures: Tensor) -> Any:  # noqa: ANN401 - openvino.Model
    """Return the model with weights and activations of 8 bits, whose ranges are those met on ``pictures``, (n, c, h, w)."""
    nncf = unreported("nncf")
    batches = [batch.numpy() for batch in pictures.split(asked.batch) if len(batch) == asked.batch]
    with quiet():
        return nncf.quantize(model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches))


_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def open_bytes(files: Mapping[str, bytes], threads: int, dtype: str = "float32") -> Opened:
    """Return a model in OpenVINO on the CPU, computing in ``dtype`` what is not int8.

    Raises ``MpvitError`` where it is damaged, takes no images or the processor has no such ``dtype``.
    """
    openvino = unreported("openvino")
    core, belonging = openvino.Core(), "is it damaged, or are the .xml and the .bin not of one export?"
    try:
        model = core.read_model(files[".xml"], files[".bin"])
        metadata = _metadata(model)
        if (digest := metadata.pop(f"{_GROUP}.{_DIGEST}", None)) not in (None, _digest(files[".bin"])):
            raise MpvitError(f"its .bin is another one than that of digest {digest}", hint=belonging)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_HYPER_THREADING": True,  # or two threads of one core are one
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
        }
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise MpvitError(f"OpenVINO cannot open it: {_said(error)}", hint=belonging) from None
    computed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if computed != _PRECISIONS[dtype]:
        raise MpvitError(f"OpenVINO computes no {dtype} on this processor: it would take {computed}")
    if len(compiled.inputs) != 1 or compiled.inputs[0].element_type != openvino.Type.f32:
        given = ", ".join(f"{each.element_type.get_type_name()}" for each in compiled.inputs)
        raise UsageError(f"it takes {given}: must take one f32 of images")
    request = compiled.create_infer_request()

    def run(images: NDArray[Any]) -> NDArray[Any]:
        try:
            return np.array(request.infer({0: images}, share_inputs=True)[0], dtype=np.float32)
        except RuntimeError as error:
            raise MpvitError(f"OpenVINO failed: {_said(error)}") from None

    return Opened(
        run=run,
        signature=signature_of(_lengths(compiled.inputs[0]), _lengths(compiled.outputs[0]), "it"),
        metadata=metadata,
        engine=f"openvino {openvino.__version__.partition('-')[0]}",
    )


def _metadata(model: Any) -> dict[str, str]:  # noqa: ANN401 - openvino.Model
    if not model.has_rt_info([_GROUP]):
        return {}
    return {f"{_GROUP}.{name}": value.astype(str) for name, value in model.get_rt_info([_GROUP]).astype(dict).items()}


def _lengths(port: Any) -> list[int | None]:  # noqa: ANN401 - openvino's ports have no public class
    shape = port.partial_shape
    return [] if shape.rank.is_dynamic else [each.get_length() if each.is_static else None for each in shape]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _said(error: RuntimeError) -> str:
    """Return the reason among what OpenVINO says, whose first lines are its own places."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_line(RuntimeError(lines[-1] if lines else "no reason given"))


def unreported(name: str) -> ModuleType:
    """Import openvino or nncf without its report to Intel: both do without it where its library is not there."""
    from importlib import import_module

    with _without(_TELEMETRY), quiet():
        return import_module(name)


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Let importing ``name`` fail while this lasts; what has been imported already stays so."""
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]


TARGET = Target((".xml", ".bin"), ("openvino", "onnx", "onnxscript"), ("nncf",), write, open_bytes)
