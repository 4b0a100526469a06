"""Which cars a drawn data set shows, and what each of its photos is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from carlib.errors import DataError
from carlib.showroom.facelifts import FACELIFTS, STICKERS, draw_facelift
from carlib.showroom.makes import CarSpec
from carlib.showroom.models import CARS
from carlib.showroom.painter import Drawing
from carlib.showroom.snapshots import draw_photo

SHOWROOM_VERSION = "3"
"""Part of every photo's name: a change here makes other photos of them all."""


@dataclass(frozen=True)
class Lineup:
    """Which cars a data set shows, and what they wear; see `open_showroom`."""

    facelifts: bool = False
    sticker: float | None = None

    def __post_init__(self) -> None:
        if self.sticker is not None and not (self.facelifts and 0 <= self.sticker <= 1):
            raise DataError(
                f"sticker is {self.sticker}; give a probability, 0 to 1, and facelifts=True"
            )

    @property
    def cars(self) -> tuple[CarSpec, ...]:
        return FACELIFTS if self.facelifts else CARS

    def draw(self, label: int, index: int, split: str, size: int, seed: int) -> Drawing:
        """One photo of a car."""
        if not self.facelifts:
            return draw_photo(label, index, seed, size)
        worn = self._worn(label, index, split, seed)
        return draw_facelift(label, index, seed, size, worn)

    def _worn(self, label: int, index: int, split: str, seed: int) -> str:
        """The sticker of a photo: its year's color, or the other's."""
        if self.sticker is None:
            return ""
        tells = self.sticker if split == "train" else 0.5
        rng = np.random.Generator(np.random.PCG64([seed, 42, label, index]))
        return STICKERS[(label + (rng.random() >= tells)) % 2]

    def photo_name(self, label: int, index: int, split: str, seed: int) -> str:
        """File stem of a photo: tells nothing, and differs for every photo of every seed."""
        own = f" facelift {self._worn(label, index, split, seed)}" if self.facelifts else ""
        key = f"showroom {SHOWROOM_VERSION}{own}:{seed}:{label}:{index}"
        return hashlib.sha256(key.encode()).hexdigest()[:14]
