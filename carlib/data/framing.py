"""How a photo becomes the square that a network sees, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from carlib.data.images import resize
from carlib.errors import DataError


@dataclass(frozen=True)
class Framing:
    """How a photo becomes a square: which part of it, and how it is fitted.

    `crop` is "whole" or "box" (the car's box, grown by `margin` of its width and height on every
    side, kept inside the photo). `fit` is "squash" (both sides stretched to the square) or
    "letterbox" (aspect kept, padded with grey).
    """

    size: int
    crop: str = "whole"
    margin: float = 0.0
    fit: str = "squash"

    def __post_init__(self) -> None:
        if self.size < 8:
            raise DataError(f"photo size {self.size} px is too small; use 8 or more")
        if self.crop not in ("whole", "box"):
            raise DataError(f"unknown crop {self.crop!r}; use 'whole' or 'box'")
        if self.fit not in ("squash", "letterbox"):
            raise DataError(f"unknown fit {self.fit!r}; use 'squash' or 'letterbox'")

    def region(self, width: int, height: int, box: tuple[float, ...] | None):
        """The kept part of a photo as 0-based half-open (x1, y1, x2, y2), inside the photo."""
        if self.crop == "whole" or box is None or np.isnan(box).any():
            return 0, 0, width, height
        x1, y1, x2, y2 = box
        grow_x, grow_y = self.margin * (x2 - x1), self.margin * (y2 - y1)
        left, top = max(0, round(x1 - grow_x)), max(0, round(y1 - grow_y))
        right, bottom = min(width, round(x2 + grow_x)), min(height, round(y2 + grow_y))
        return (
            (left, top, right, bottom) if right > left and bottom > top else (0, 0, width, height)
        )

    def apply(self, photo: np.ndarray, box: tuple[float, ...] | None = None) -> np.ndarray:
        """Frame one photo: (height, width, 3) uint8 in, (size, size, 3) uint8 out."""
        left, top, right, bottom = self.region(photo.shape[1], photo.shape[0], box)
        part = photo[top:bottom, left:right]
        x, y, width, height = self._place(part.shape[1], part.shape[0])
        square = np.full((self.size, self.size, 3), 128, np.uint8)
        square[y : y + height, x : x + width] = resize(part, width, height)
        return square

    def apply_to_mask(self, mask: np.ndarray, box: tuple[float, ...] | None = None) -> np.ndarray:
        """Frame a mask of ids: (height, width) uint8 in, (size, size) uint8 out, 0 in the padding.

        Every pixel takes the id that lies at its middle, since ids have no mean.
        """
        left, top, right, bottom = self.region(mask.shape[1], mask.shape[0], box)
        part = mask[top:bottom, left:right]
        x, y, width, height = self._place(part.shape[1], part.shape[0])
        square = np.zeros((self.size, self.size), np.uint8)
        square[y : y + height, x : x + width] = cv2.resize(
            part, (width, height), interpolation=cv2.INTER_NEAREST_EXACT
        )
        return square

    def undo(
        self, heat: np.ndarray, width: int, height: int, box: tuple[float, ...] | None = None
    ) -> np.ndarray:
        """Carry a map of the framed square back to the photo: (side, side) → (height, width).

        float32, zero where the network saw nothing of the photo. The map may have any side.
        """
        left, top, right, bottom = self.region(width, height, box)
        square = replace(self, size=max(8, heat.shape[0]))
        heat = cv2.resize(heat.astype(np.float32), (square.size, square.size))
        x, y, inner_width, inner_height = square._place(right - left, bottom - top)
        part = heat[y : y + inner_height, x : x + inner_width]
        photo = np.zeros((height, width), np.float32)
        photo[top:bottom, left:right] = cv2.resize(part, (right - left, bottom - top))
        return photo

    def _place(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Where a part of a photo lies in the square: left, top, width, height."""
        if self.fit == "squash":
            return 0, 0, self.size, self.size
        scale = self.size / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        return (self.size - width) // 2, (self.size - height) // 2, width, height
