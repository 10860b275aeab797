"""Segmenting image files, and writing the class indices of their pixels as masks."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mpvit.dense.layers import to_size
from mpvit.dense.torch_network import DenseNetwork
from mpvit.errors import ImageError, UsageError
from mpvit.files import write_atomically
from mpvit.images import preprocess_whole, read_image
from mpvit.model.metadata import Preprocessing
from mpvit.prediction.inference import network_failure, printable
from mpvit.prediction.loading import Predictor
from mpvit.prediction.results import ClassShare, Segmentation

_CHUNK = 1 << 26
"""Logits at the size of the image that are computed together, which bounds the memory for large images with many classes."""


def segment(
    segmenter: Predictor[DenseNetwork], images: Sequence[Path], preprocessing: Preprocessing | None = None
) -> Iterator[Segmentation]:
    """Yield the class of each pixel of each of ``images``, in their order, at the size of the image.

    The network takes the whole image, its short side ``preprocessing.size`` pixels long (default: the segmenter's own). An
    image that cannot be read yields a ``Segmentation`` with its ``error``, and the next ones follow. Raises ``MpvitError`` if
    the network fails.
    """
    for path in images:
        try:
            image = read_image(path)
            values = preprocess_whole(image, preprocessing or segmenter.preprocessing)
        except ImageError as error:
            yield Segmentation(printable(path), error=error.reason)
            continue
        except MemoryError:
            yield Segmentation(printable(path), error="it does not fit into memory")
            continue
        indices = _indices(segmenter.model, torch.from_numpy(values), (image.height, image.width))
        if indices is None:
            yield Segmentation(printable(path), error="the prediction is not a finite number; the weights may be damaged")
        else:
            yield Segmentation(printable(path), _shares(indices, segmenter.classes), indices)


@torch.inference_mode()
def _indices(model: DenseNetwork, image: Tensor, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Map an image (3, h, w) to the class of each pixel, (height, width); None if a prediction is not finite."""
    try:
        logits = model(image[None].to(next(model.parameters()))).float()
        if not logits.isfinite().all():
            return None
        return upsampled_argmax(logits, size).to(torch.uint8).cpu().numpy()
    except (RuntimeError, MemoryError) as error:  # torch's own out-of-memory errors are RuntimeErrors
        raise network_failure(error, 1, image.shape[-1]) from error


def upsampled_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Map logits (1, K, h, w), resized bilinearly to ``size`` = (height, width), to the index of the largest, (height, width).

    Some classes at a time are resized, so that they fit into memory; of equal logits the first counts, as in ``argmax``.
    """
    step = max(_CHUNK // (size[0] * size[1]), 1)
    best, which = to_size(logits[:, :step], size)[0].max(0)
    for first in range(step, logits.shape[1], step):
        value, index = to_size(logits[:, first : first + step], size)[0].max(0)
        which = torch.where(value > best, index + first, which)
        best = torch.maximum(value, best)
    return which


def _shares(indices: NDArray[np.uint8], classes: Sequence[str]) -> tuple[ClassShare, ...]:
    pixels = np.bincount(indices.ravel(), minlength=len(classes))
    order = [int(index) for index in np.argsort(-pixels, kind="stable") if pixels[index]]
    return tuple(ClassShare(index, classes[index], int(pixels[index]), float(pixels[index] / indices.size)) for index in order)


def mask_paths(folder: Path, images: Sequence[Path]) -> list[Path]:
    """Return the paths of the masks of images in ``folder``, named like the images; make the folder.

    Raises ``UsageError`` if two images would have the same mask, if a mask would replace its image, or if the folder cannot
    be made.
    """
    paths = [folder / f"{image.stem}.png" for image in images]
    owners: dict[Path, Path] = {}
    for path, image in zip(paths, images, strict=True):
        if path in owners:
            message = f"masks of {str(owners[path])!r} and {str(image)!r} would both be {str(path)!r}"
            raise UsageError(message, hint="write them in two calls")
        if path.exists() and path.resolve() == image.resolve():
            raise UsageError(f"the mask of {str(image)!r} would replace the image", hint="use another folder")
        owners[path] = image
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from None
    return paths


def save_mask(indices: NDArray[np.uint8], path: Path) -> None:
    """Write the class index of each pixel as a grey PNG file, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(indices).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
