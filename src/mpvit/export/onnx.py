"""ONNX, run by onnxruntime; int8 by its static quantiser (QDQ format, activations and weights of 8 bits, by channel)."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpvit.errors import MpvitError, UsageError, first_line
from mpvit.export import Export, Opened, Target
from mpvit.export.program import exported_program, quiet
from mpvit.export.signature import INPUT, OUTPUT, signature_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from mpvit.model.network import MPViT

_LARGEST = 2**31 - 1
"""Bytes of a message of protobuf, which an ONNX file is."""

_FLOAT = "tensor(float)"


def model_bytes(network: MPViT, asked: Export, metadata: Mapping[str, str], dtype: str) -> bytes:
    """Return the network as an ONNX model of ``dtype``, the metadata in it.

    It is simplified where that pays: onnxruntime runs the plain network a tenth faster for it, OpenVINO no faster, and on the
    fused one, of six times as many nodes, it takes minutes.
    """
    import torch

    simplified = asked.target == "onnx" and not asked.fused
    program = exported_program(network, asked, getattr(torch, dtype))
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                optimize=simplified,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
    except Exception as error:  # the exporter raises anything
        kind = "the fused network" if asked.fused else "the network"
        opened = f" with {' and '.join(asked.dynamic)} open" if asked.dynamic else ""
        raise MpvitError(
            f"torch cannot write {kind}{opened} as ONNX: {first_line(error.__cause__ or error)}",
            hint="leave --dynamic away: the file is then for one batch and size" if asked.dynamic else "",
        ) from error
    assert made is not None  # noqa: S101 - without a file's name it returns the program
    model = made.model_proto
    _name_axes(model)
    return _serialised(model, metadata)


def _name_axes(model: Any) -> None:  # noqa: ANN401 - onnx.ModelProto
    """Call what is open of the images by its name wherever its symbol of torch stands alone."""
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
    if (size := model.ByteSize()) > _LARGEST:
        raise MpvitError(
            f"the ONNX file would have {size} bytes: must be at most {_LARGEST}", hint="--to openvino has no limit"
        )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def write(network: MPViT, asked: Export, metadata: Mapping[str, str], pictures: Tensor | None) -> dict[str, bytes]:
    """Return the file's bytes; see ``mpvit.export.Target``."""
    if asked.dtype != "int8":
        return {".onnx": model_bytes(network, asked, metadata, asked.dtype)}
    assert pictures is not None  # noqa: S101 - as ``export`` has checked
    return {".onnx": _quantised(model_bytes(network, asked, metadata, "float32"), asked, metadata, pictures)}


def _quantised(data: bytes, asked: Export, metadata: Mapping[str, str], pictures: Tensor) -> bytes:
    """Return a model with weights and activations of 8 bits, whose ranges are those met on ``pictures``, (n, c, h, w)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self.left: Iterator[Tensor] = iter(pictures.split(asked.batch))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.left, None)
            return None if batch is None or len(batch) < asked.batch else {INPUT: batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, quiet():
        plain, simplified, whole = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "simplified", "whole"))
        Path(plain).write_bytes(data)
        quant_pre_process(plain, simplified, skip_symbolic_shape=bool(asked.dynamic))
        quantize_static(
            simplified,
            whole,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return _serialised(onnx.load(whole), metadata)


def open_bytes(files: Mapping[str, bytes], threads: int) -> Opened:
    """Return a model in onnxruntime on the CPU; raise ``MpvitError`` where it is damaged or takes no images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # or its threads take those of what runs next
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(files[".onnx"], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors have no common class
        raise MpvitError(f"onnxruntime cannot open it: {_said(error)}", hint="is it damaged, or no ONNX file?") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type != _FLOAT or outputs[0].type != _FLOAT:
        given = ", ".join(f"{each.name} {each.type}" for each in inputs)
        raise UsageError(f"it takes {given}: must take one {_FLOAT} of images and give one of logits")

    def run(images: NDArray[Any]) -> NDArray[Any]:
        try:
            logits: NDArray[Any] = session.run([outputs[0].name], {inputs[0].name: images})[0]
        except Exception as error:  # noqa: BLE001 - likewise
            raise MpvitError(f"onnxruntime failed: {_said(error)}") from None
        return logits

    return Opened(
        run=run,
        signature=signature_of(_lengths(inputs[0].shape), _lengths(outputs[0].shape), "it"),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
        engine=f"onnxruntime {onnxruntime.__version__}",
    )


def _said(error: Exception) -> str:
    """Return the reason without the number of its kind: "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : reason"."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error))


def _lengths(shape: list[int | str | None]) -> list[int | None]:
    return [length if isinstance(length, int) else None for length in shape]


TARGET = Target((".onnx",), ("onnx", "onnxscript", "onnxruntime"), ("onnxruntime",), write, open_bytes)
