"""The ``.xml`` and ``.bin`` files of OpenVINO, made from the ONNX model; NNCF's quantiser for transformers makes int8.

When openvino or nncf is imported, it reports its use to Intel under a number that it keeps in the home folder: ``unreported``
imports it without that. The ``.xml`` holds a digest of its ``.bin``, since OpenVINO does not check that they belong together.
"""

import hashlib
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mpvit.errors import MpvitError, UsageError
from mpvit.export import ExportOptions, InferenceSession, Target
from mpvit.export.exported_program import engine_errors, quiet
from mpvit.export.onnx import model_bytes
from mpvit.export.shapes import InputOutputShapes
from mpvit.model.network import MPViT

_TELEMETRY = "openvino_telemetry"
_GROUP, _DIGEST = "mpvit", "bin"
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def write(network: MPViT, options: ExportOptions, metadata: Mapping[str, str], images: Tensor | None) -> dict[str, bytes]:
    """Return the bytes of both files; see ``mpvit.export.Target``. float16 is only the dtype of the weights."""
    openvino = unreported("openvino")
    model = openvino.Core().read_model(model_bytes(network, options, {}, "float32"))
    if options.dtype == "int8":
        assert images is not None  # noqa: S101 - ``export_network`` has checked it
        model = _quantised(model, options, images)
    for name, text in metadata.items():
        model.set_rt_info(text, [_GROUP, name.removeprefix(f"{_GROUP}.")])
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder) / "network.xml", Path(folder) / "network.bin"
        openvino.save_model(model, xml, compress_to_fp16=options.dtype == "float16")
        model.set_rt_info(_digest(weights.read_bytes()), [_GROUP, _DIGEST])
        openvino.save_model(model, xml, compress_to_fp16=options.dtype == "float16")  # the .bin does not change
        return {".xml": xml.read_bytes(), ".bin": weights.read_bytes()}


def _quantised(model: Any, options: ExportOptions, images: Tensor) -> Any:  # noqa: ANN401 - openvino.Model
    """Return the model with 8-bit weights and activations, calibrated on ``images``, (n, c, h, w)."""
    nncf = unreported("nncf")
    batches = [batch.numpy() for batch in images.split(options.batch) if len(batch) == options.batch]
    with quiet():
        return nncf.quantize(model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches))


def open_bytes(files: Mapping[str, bytes], threads: int, dtype: str = "float32") -> InferenceSession:
    """Load a model into OpenVINO on the CPU; what is not int8 is computed in ``dtype``.

    Raises ``MpvitError`` if the model is damaged, takes no images or the processor does not support ``dtype``.
    """
    openvino = unreported("openvino")
    core, hint = openvino.Core(), "is it damaged, or are the .xml and the .bin from different exports?"
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_HYPER_THREADING": True,  # otherwise it uses one of a core's two threads
        "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
    }
    with engine_errors("OpenVINO cannot open it", hint):
        model = core.read_model(files[".xml"], files[".bin"])
        metadata = _metadata(model)
        if (digest := metadata.pop(f"{_GROUP}.{_DIGEST}", None)) not in (None, _digest(files[".bin"])):
            raise MpvitError(f"its .bin is another one than that of digest {digest}", hint=hint)
        compiled = core.compile_model(model, "CPU", settings)
    if (precision := compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()) != _PRECISIONS[dtype]:
        raise MpvitError(f"OpenVINO does not compute in {dtype} on this processor: it would use {precision}")
    if len(compiled.inputs) != 1 or compiled.inputs[0].element_type != openvino.Type.f32:
        given = ", ".join(each.element_type.get_type_name() for each in compiled.inputs)
        raise UsageError(f"it takes {given}: must take one f32 of images")
    request = compiled.create_infer_request()

    def run(images: NDArray[Any]) -> NDArray[Any]:
        with engine_errors("OpenVINO failed"):
            return np.array(request.infer({0: images}, share_inputs=True)[0], dtype=np.float32)

    shapes = InputOutputShapes.from_axes(_lengths(compiled.inputs[0]), _lengths(compiled.outputs[0]))
    return InferenceSession(run, shapes, metadata, f"openvino {openvino.__version__.partition('-')[0]}")


def _metadata(model: Any) -> dict[str, str]:  # noqa: ANN401 - openvino.Model
    if not model.has_rt_info([_GROUP]):
        return {}
    return {f"{_GROUP}.{name}": value.astype(str) for name, value in model.get_rt_info([_GROUP]).astype(dict).items()}


def _lengths(port: Any) -> list[int | None]:  # noqa: ANN401 - openvino's ports have no public class
    shape = port.partial_shape
    return [] if shape.rank.is_dynamic else [each.get_length() if each.is_static else None for each in shape]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def unreported(name: str) -> ModuleType:
    """Import openvino or nncf without its report to Intel; both work without their telemetry library."""
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it now fails
    try:
        with quiet():
            return import_module(name)
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]


TARGET = Target((".xml", ".bin"), ("openvino", "onnx", "onnxscript"), ("nncf",), write, open_bytes)
