"""What segmenters see in image files: one ready to answer, and the class of each pixel."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mpvit.dense import build, get_segmenter
from mpvit.dense.layers import to_size
from mpvit.dense.torch_network import DenseNetwork
from mpvit.errors import ImageError, UsageError, WeightsError
from mpvit.files import write_atomically
from mpvit.images import preprocess_whole, read_image
from mpvit.model.metadata import Preprocessing
from mpvit.model.weights import WeightsFile, load_into, read_weights
from mpvit.prediction.classes import read_classes
from mpvit.prediction.inference import about, failed, printable
from mpvit.prediction.results import Classifier, ClassShare, Segmentation

_AT_ONCE = 1 << 26
"""Logits of an image at its own size that are computed together, so that a large photograph of many classes fits."""


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A segmenter in evaluation mode on its device; as ``inference.Network``."""

    model: DenseNetwork
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    about: Classifier


def load_segmenter(weights: Path, classes: Path | None = None, device: torch.device | None = None) -> Segmenter:
    """Return the segmenter whose weights are in a file of ``mpvit train --task``.

    ``classes`` is a text file of names that goes before those in it. Raises ``WeightsError`` for a file that is damaged, does
    not fit or holds no segmenter.
    """
    content = read_weights(weights)
    model = filled_segmenter(content)
    names = content.metadata.classes or ()
    if classes:
        names = read_classes(classes, len(names))
    place = device or torch.device("cpu")
    metadata = content.metadata
    return Segmenter(model.to(place), names, metadata.preprocessing or Preprocessing(), about(model, weights, place, metadata))


def filled_segmenter(content: WeightsFile) -> DenseNetwork:
    """Return the segmenter in a file, in evaluation mode; errors are those of ``load_segmenter``."""
    metadata = content.metadata
    if metadata.task is None:
        raise WeightsError(
            f"{content.path} holds no segmenter", hint="mpvit train --task semantic-fpn makes one; its file says its task"
        )
    if content.config is None or metadata.classes is None:
        raise WeightsError(f"{content.path} is damaged: a segmenter's file says its configuration and its classes")
    try:
        task = get_segmenter(metadata.task, len(metadata.classes))
        with torch.random.fork_rng(devices=[]):
            model = build(content.config, task).eval()
    except UsageError as error:
        raise WeightsError(f"{content.path} is damaged: {error}") from None
    load_into(model, content)
    return model


def segment(segmenter: Segmenter, images: Sequence[Path], how: Preprocessing | None = None) -> Iterator[Segmentation]:
    """Yield the class of each pixel of each of ``images``, in their order, at the image's own size.

    The network sees the whole image, its short side ``how.size`` pixels long (default: what its file says). An image that
    cannot be read yields a ``Segmentation`` with its ``error``; the others go on. Raises ``MpvitError`` where the network
    fails on one.
    """
    how = how or segmenter.preprocessing
    for path in images:
        try:
            image = read_image(path)
            values = preprocess_whole(image, how)
        except ImageError as error:
            yield Segmentation(printable(path), error=error.reason)
            continue
        except MemoryError:
            yield Segmentation(printable(path), error="it does not fit into memory")
            continue
        indices = _indices(segmenter.model, torch.from_numpy(values), (image.height, image.width))
        if indices is None:
            yield Segmentation(printable(path), error="the network's answer is not a number; its weights may be damaged")
        else:
            yield Segmentation(printable(path), _shares(indices, segmenter.classes), indices)


@torch.inference_mode()
def _indices(model: DenseNetwork, image: Tensor, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Map an image (3, h, w) to the class of each pixel, (height, width); None where an answer is no number."""
    parameter = next(model.parameters())
    try:
        logits = model(image[None].to(parameter)).float()
        if not logits.isfinite().all():
            return None
        return likeliest(logits, size).to(torch.uint8).cpu().numpy()
    except (RuntimeError, MemoryError) as error:  # torch's own out-of-memory errors are RuntimeErrors
        raise failed(error, 1, image.shape[-1]) from error


def likeliest(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Map logits (1, K, h, w), made ``size`` = (height, width) bilinearly, to the index of the largest, (height, width).

    So many classes at a time as fit into memory; of equals the first, as ``argmax`` has it.
    """
    step = max(_AT_ONCE // (size[0] * size[1]), 1)
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


def mask_names(folder: Path, images: Sequence[Path]) -> list[Path]:
    """Return where the masks of images go: into ``folder``, by the images' names.

    Makes the folder. Raises ``UsageError`` where two images would share a mask, or the folder cannot be made.
    """
    names = [folder / f"{path.stem}.png" for path in images]
    seen: dict[Path, Path] = {}
    for name, image in zip(names, images, strict=True):
        if name in seen:
            raise UsageError(
                f"masks of {str(seen[name])!r} and {str(image)!r} would both be {str(name)!r}", hint="write them in two calls"
            )
        if name.exists() and name.resolve() == image.resolve():
            raise UsageError(f"the mask of {str(image)!r} would take its place", hint="name another folder")
        seen[name] = image
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from None
    return names


def save_mask(indices: NDArray[np.uint8], path: Path) -> None:
    """Write the index of each pixel's class as a grey PNG file, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(indices).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
