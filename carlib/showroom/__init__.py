"""The showroom: an embedded data set of cars drawn in 3-D from parameters.

Eight makes, three models each, two years per model. Everything about a photo is known exactly:
class, box, viewpoint, and which pixel belongs to which part. And because two years of a model
differ in named parts alone, it is known where a classifier must look.
"""

from __future__ import annotations

from carlib.showroom.camera import VIEWPOINTS, View, viewpoint_of
from carlib.showroom.makes import CarSpec
from carlib.showroom.mesh import PARTS
from carlib.showroom.models import CARS, changed_parts
from carlib.showroom.occluders import OCCLUDERS
from carlib.showroom.painter import Drawing, render
from carlib.showroom.scenes import SCENES
from carlib.showroom.snapshots import PAINTS, draw_photo, photo_view

__all__ = [
    "CARS",
    "OCCLUDERS",
    "PAINTS",
    "PARTS",
    "SCENES",
    "VIEWPOINTS",
    "CarSpec",
    "Drawing",
    "View",
    "changed_parts",
    "draw_photo",
    "photo_view",
    "render",
    "viewpoint_of",
]
