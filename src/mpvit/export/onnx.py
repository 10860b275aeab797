"""The ``.onnx`` file, which onnxruntime runs; its static quantiser makes int8 (QDQ, weights by channel)."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mpvit.errors import MpvitError, UsageError
from mpvit.export import ExportOptions, InferenceSession, Target
from mpvit.export.exported_program import engine_errors, export_error, export_program, quiet
from mpvit.export.shapes import INPUT, OUTPUT, InputOutputShapes
from mpvit.model.network import MPViT

_MAX_BYTES = 2**31 - 1
"""Maximum size of an ONNX file, which is a protobuf message."""

_FLOAT = "tensor(float)"


def model_bytes(network: MPViT, options: ExportOptions, metadata: Mapping[str, str], dtype: str) -> bytes:
    """Return the network as an ONNX model of ``dtype`` that holds ``metadata``.

    torch simplifies only the plain network for onnxruntime, which then takes a tenth less time. OpenVINO is no faster for it,
    and for the fused network, which has six times as many nodes, it takes minutes.
    """
    program = export_program(network, options, getattr(torch, dtype))
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                optimize=options.target == "onnx" and not options.fused,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
    except Exception as error:  # the exporter raises anything
        kind = "the fused network" if options.fused else "the network"
        raise export_error(f"write {kind} as ONNX", options, error.__cause__ or error) from error
    assert exported is not None  # noqa: S101 - without a file name it returns the program
    model = exported.model_proto
    _name_axes(model)
    return _serialised(model, metadata)


def _name_axes(model: Any) -> None:  # noqa: ANN401 - onnx.ModelProto
    """Replace torch's symbols of the dynamic axes by batch, height and width."""
    axes = zip(model.graph.input[0].type.tensor_type.shape.dim, ("batch", "", "height", "width"), strict=True)
    names = {dim.dim_param: name for dim, name in axes if dim.dim_param}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _serialised(model: Any, metadata: Mapping[str, str]) -> bytes:  # noqa: ANN401 - onnx.ModelProto
    import onnx

    for node in model.graph.node:
        del node.metadata_props[:]  # names of modules, and files of this machine
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    if (size := model.ByteSize()) > _MAX_BYTES:
        raise MpvitError(
            f"the ONNX file would have {size} bytes: must be at most {_MAX_BYTES}", hint="target openvino has no limit"
        )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def write(network: MPViT, options: ExportOptions, metadata: Mapping[str, str], images: Tensor | None) -> dict[str, bytes]:
    """Return the file's bytes; see ``mpvit.export.Target``."""
    if options.dtype != "int8":
        return {".onnx": model_bytes(network, options, metadata, options.dtype)}
    assert images is not None  # noqa: S101 - ``export_network`` has checked it
    return {".onnx": _quantised(model_bytes(network, options, metadata, "float32"), options, metadata, images)}


def _quantised(data: bytes, options: ExportOptions, metadata: Mapping[str, str], images: Tensor) -> bytes:
    """Return the model with 8-bit weights and activations, calibrated on ``images``, (n, c, h, w)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class BatchReader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self.batches = (batch for batch in images.split(options.batch) if len(batch) == options.batch)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, quiet():
        plain, simplified, quantised = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "simplified", "quantised"))
        Path(plain).write_bytes(data)
        quant_pre_process(plain, simplified, skip_symbolic_shape=bool(options.dynamic))
        quantize_static(
            simplified,
            quantised,
            BatchReader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return _serialised(onnx.load(quantised), metadata)


def open_bytes(files: Mapping[str, bytes], threads: int) -> InferenceSession:
    """Load a model into onnxruntime on the CPU; raise ``MpvitError`` if it is damaged or takes no images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads do not slow down what runs next
    options.log_severity_level = 4
    with engine_errors("onnxruntime cannot open it", "is it damaged, or not an ONNX file?"):
        session = onnxruntime.InferenceSession(files[".onnx"], options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type != _FLOAT or outputs[0].type != _FLOAT:
        given = ", ".join(f"{each.name} {each.type}" for each in inputs)
        raise UsageError(f"it takes {given}: must take one {_FLOAT} of images and return one of logits")

    def run(images: NDArray[Any]) -> NDArray[Any]:
        with engine_errors("onnxruntime failed"):
            logits: NDArray[Any] = session.run([outputs[0].name], {inputs[0].name: images})[0]
            return logits

    shapes = InputOutputShapes.from_axes(inputs[0].shape, outputs[0].shape)
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return InferenceSession(run, shapes, metadata, f"onnxruntime {onnxruntime.__version__}")


TARGET = Target((".onnx",), ("onnx", "onnxscript", "onnxruntime"), ("onnxruntime",), write, open_bytes)
