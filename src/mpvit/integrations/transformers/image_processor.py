"""The preprocessing of ``mpvit predict`` as transformers' image processor, kept in a ``preprocessor_config.json``."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, SizeDict

from mpvit.images import PUBLISHED_PREPROCESSING, center_crop
from mpvit.model.metadata import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

_CHANNELS = 3


class MPViTImageProcessor(PilBackend):
    """Short side to ``size["shortest_edge"]`` (bicubic), centre of ``crop_size``, 1/255, normalised.

    Of an 8-bit RGB picture it gives the very numbers of ``mpvit.images.preprocess``: the centre alone is
    resized, by this project's code. With other steps, filters or kinds of pictures transformers' own code does each.
    """

    size = {"shortest_edge": PUBLISHED_PREPROCESSING.side}  # noqa: RUF012 - transformers copies it
    crop_size = {"height": PUBLISHED_PREPROCESSING.size, "width": PUBLISHED_PREPROCESSING.size}  # noqa: RUF012 - likewise
    resample = PILImageResampling.BICUBIC
    image_mean = IMAGENET_MEAN
    image_std = IMAGENET_STD
    default_to_square = False
    do_convert_rgb = do_resize = do_center_crop = do_rescale = do_normalize = True

    @classmethod
    def of(cls, how: Preprocessing) -> Self:
        """Return the one of a network's own preprocessing."""
        crop = {"height": how.size, "width": how.size}
        return cls(size={"shortest_edge": how.side}, crop_size=crop, image_mean=list(how.mean), image_std=list(how.std))

    def _preprocess(  # type: ignore[override]  # called by name
        self,
        images: list[NDArray[Any]],
        *,
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling | None,
        do_center_crop: bool,
        crop_size: SizeDict,
        **rest: Any,  # noqa: ANN401 - the steps that follow
    ) -> BatchFeature:
        """Map pictures (3, h, w) to ``pixel_values`` (b, 3, crop, crop)."""
        side, crop = size.shortest_edge, crop_size.height
        steps = do_resize and do_center_crop and resample == PILImageResampling.BICUBIC and crop == crop_size.width
        if steps and side and crop and not size.longest_edge and crop <= side and all(map(_is_rgb, images)):
            images = [_centre(image, side, crop) for image in images]
            do_resize = do_center_crop = False
        return super()._preprocess(
            images,
            do_resize=do_resize,
            size=size,
            resample=resample,
            do_center_crop=do_center_crop,
            crop_size=crop_size,
            **rest,
        )


def _is_rgb(image: NDArray[Any]) -> bool:
    return image.dtype == np.uint8 and len(image) == _CHANNELS


def _centre(image: NDArray[np.uint8], side: int, size: int) -> NDArray[np.uint8]:
    """Map (3, h, w) -> (3, size, size)."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return np.asarray(center_crop(picture, side, size)).transpose(2, 0, 1)
