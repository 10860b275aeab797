"""The preprocessing of ``mpvit predict`` as an image processor of transformers: a ``preprocessor_config.json``."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling

from mpvit.images import PUBLISHED_PREPROCESSING, center_crop
from mpvit.model.metadata import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

_CHANNELS = 3


class MPViTImageProcessor(PilBackend):
    """Resize the short side to ``size["shortest_edge"]`` (bicubic), crop the centre, scale by 1/255, normalise.

    For an 8-bit RGB image the result equals that of ``mpvit.images.preprocess`` bit for bit: this project's code resizes the
    crop. With other steps, filters or kinds of images transformers' own code runs.
    """

    size = {"shortest_edge": PUBLISHED_PREPROCESSING.side}  # noqa: RUF012 - transformers copies it
    crop_size = {"height": PUBLISHED_PREPROCESSING.size, "width": PUBLISHED_PREPROCESSING.size}  # noqa: RUF012 - it copies it
    resample = PILImageResampling.BICUBIC
    image_mean = IMAGENET_MEAN
    image_std = IMAGENET_STD
    default_to_square = False
    do_convert_rgb = do_resize = do_center_crop = do_rescale = do_normalize = True

    @classmethod
    def of(cls, how: Preprocessing) -> Self:
        """Return the image processor for a network's preprocessing."""
        crop = {"height": how.size, "width": how.size}
        return cls(size={"shortest_edge": how.side}, crop_size=crop, image_mean=list(how.mean), image_std=list(how.std))

    def _preprocess(self, images: list[NDArray[Any]], **options: Any) -> BatchFeature:  # type: ignore[override] # noqa: ANN401
        """Map images (3, h, w) to ``pixel_values`` (b, 3, crop, crop)."""
        size, crop_size = options["size"], options["crop_size"]
        side, crop = size.shortest_edge, crop_size.height
        both = options["do_resize"] and options["do_center_crop"] and options["resample"] == PILImageResampling.BICUBIC
        rgb = all(image.dtype == np.uint8 and len(image) == _CHANNELS for image in images)
        if both and rgb and side and crop and crop == crop_size.width and not size.longest_edge and crop <= side:
            images = [_crop(image, side, crop) for image in images]
            options |= {"do_resize": False, "do_center_crop": False}
        return super()._preprocess(images, **options)


def _crop(image: NDArray[np.uint8], side: int, size: int) -> NDArray[np.uint8]:
    """Map (3, h, w) -> (3, size, size)."""
    rgb = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return np.asarray(center_crop(rgb, side, size)).transpose(2, 0, 1)
