"""The showroom: an embedded data set of cars drawn in 3-D from parameters.

Eight makes, three models each, two years per model. Everything about a photo is known exactly:
class, box, viewpoint, and which pixel belongs to which part. And because two years of a model
differ in named parts alone, it is known where a classifier must look.
"""

from __future__ import annotations

from carlib.showroom.camera import VIEWPOINTS, View, viewpoint_of
from carlib.showroom.dataset import (
    SHOWROOM_VERSION,
    YEARS,
    changed_mask,
    class_table,
    open_showroom,
    part_mask,
    redraw,
)
from carlib.showroom.layouts import write_compcars, write_devkit
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
    "SHOWROOM_VERSION",
    "VIEWPOINTS",
    "YEARS",
    "CarSpec",
    "Drawing",
    "View",
    "changed_mask",
    "changed_parts",
    "class_table",
    "draw_photo",
    "open_showroom",
    "part_mask",
    "photo_view",
    "redraw",
    "render",
    "viewpoint_of",
    "write_compcars",
    "write_devkit",
]
