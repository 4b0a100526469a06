"""From the bytes of an image file to RGB pixels, in one place."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from carlib.errors import PhotoError

LARGEST = 100_000_000  # pixels: more than cameras take; a small file can claim any number


def decode_photo(data: bytes, name: str, upright: bool = False) -> np.ndarray:
    """Decode an image file to RGB, shape (height, width, 3), uint8.

    Greyscale, palette, CMYK and alpha are converted; of an animation the first picture is taken.
    The camera's orientation tag is not applied, since the data sets' boxes are in stored pixels,
    unless asked for `upright`. Raises `PhotoError` naming the file.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > LARGEST:
                raise Image.DecompressionBombError
            if upright:
                image = ImageOps.exif_transpose(image)
            if "transparency" in image.info:  # Pillow warns about a palette with alpha otherwise
                return np.asarray(image.convert("RGBA").convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise PhotoError(f"{name}: not an image file; remove it or fetch it again") from None
    except Image.DecompressionBombError:  # Pillow's own, or ours, which is stricter
        most = f"{LARGEST // 1_000_000} megapixels"
        raise PhotoError(f"{name}: claims more than {most}; make it smaller") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise PhotoError(f"{name}: damaged image ({error}); remove it or fetch it again") from error


def resize(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize with area averaging when shrinking, so that no detail turns into aliasing."""
    shrinking = width * height < photo.shape[0] * photo.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(photo, (width, height), interpolation=method)
