"""From the bytes of an image file to RGB pixels, in one place."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from carlib.errors import PhotoError

LARGEST = 100_000_000  # pixels that are unpacked; a small file can claim any number
LARGEST_JPEG = 250_000_000  # pixels of a JPEG, whose decoder can halve its sides on the way
LONGEST = 65_535  # pixels of a side
_HEADERS = threading.Lock()  # warnings, and Pillow's limit, are of the whole process


def decode_photo(data: bytes, name: str, upright: bool = True, shrink: bool = True) -> np.ndarray:
    """Decode an image file to RGB, shape (height, width, 3), uint8.

    A photo is turned as the camera was held, unless a box in stored pixels goes with it
    (`upright=False`). Deeper greyscale is scaled to 8 bits, what is transparent lies on white, and
    of an animation the first picture is taken. A JPEG of more than LARGEST pixels has half its
    sides, unless `shrink` is false. Raises `PhotoError` naming the file, whatever its decoder does.
    """
    try:
        with _opened(data) as image:
            shrink = shrink and image.format in ("JPEG", "MPO")
            pixels = image.width * image.height
            if pixels > (LARGEST_JPEG if shrink else LARGEST) or max(image.size) > LONGEST:
                raise Image.DecompressionBombError
            if pixels > LARGEST:
                image.draft(None, (image.width // 2, image.height // 2))
            if upright:
                image = ImageOps.exif_transpose(image)
            return np.asarray(_on_white(_of_eight_bits(image)).convert("RGB"))
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp":  # a box of the family that Pillow reads AVIF of
            raise PhotoError(f"{name}: HEIC cannot be read; convert it to JPEG") from None
        raise PhotoError(f"{name}: not an image file; remove it or fetch it again") from None
    except Image.DecompressionBombError:
        most = f"{LARGEST // 1_000_000} megapixels, or a side of more than {LONGEST:,}"
        raise PhotoError(f"{name}: claims more than {most}; make it smaller") from None
    except Exception as error:  # every decoder fails in its own way, and Pillow has forty
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise PhotoError(f"{name}: damaged image ({why}); remove it or fetch it again") from error


def is_turned(data: bytes) -> bool:
    """Whether a photo says that the camera was not held level."""
    try:
        with _opened(data) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # as above; `decode_photo` says what is wrong
        return False


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A file's header, read without Pillow's limit and warnings: ours are stricter, and in words.

    EPS is left out, which Pillow has another program run.
    """
    with _HEADERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            Image.init()
            kinds = [kind for kind in Image.ID if kind != "EPS"]
            image = Image.open(io.BytesIO(data), formats=kinds)
            image.getexif()
        finally:
            Image.MAX_IMAGE_PIXELS = most
    with image:
        yield image


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale of more bits scaled to 8, by the range that its kind or its values tell."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("values that are no numbers")
    of_16 = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    tops = (65535,) if of_16 else (1, 255, 65535) if image.mode == "F" else (255, 65535)
    top = next((top for top in tops if values.max() <= top), float(values.max()))
    return Image.fromarray((values.clip(0) * (255 / top)).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """What is seen of a picture with transparent parts, whose hidden colors are nobody's affair."""
    if "transparency" not in image.info and not image.mode.endswith(("A", "a")):
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def resize(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize with area averaging when shrinking, so that no detail turns into aliasing."""
    shrinking = width * height < photo.shape[0] * photo.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(photo, (width, height), interpolation=method)
