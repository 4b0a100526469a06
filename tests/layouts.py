"""The drawn cars written as other data sets lie on disk, so that their readers meet whole trees.

`write_devkit`: Stanford Cars. `write_compcars`: CompCars with labels, attributes and pair lists.
Both follow the official releases to the letter: indices and boxes count from 1, boxes include
their last pixel, lists use forward slashes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from carlib.data.drawn import photo_name, photo_plan
from carlib.errors import DataError
from carlib.showroom.camera import VIEWPOINTS
from carlib.showroom.mesh import PART_ID
from carlib.showroom.models import CARS
from carlib.showroom.painter import Drawing
from carlib.showroom.snapshots import draw_photo

CAR_TYPES: tuple[str, ...] = (
    "MPV", "SUV", "sedan", "hatchback", "minibus", "fastback", "estate", "pickup",
    "hardtop convertible", "sports", "crossover", "convertible",
)  # fmt: skip
"""CompCars' types; a type id is the position in this list, counted from 1."""

_TYPE_OF_BODY = {
    "Sedan": "sedan", "Coupe": "sports", "SUV": "SUV", "Hatchback": "hatchback", "Wagon": "estate",
    "Convertible": "convertible", "Pickup": "pickup", "Van": "MPV",
}  # fmt: skip

# CompCars' eight parts, in the order of its numbers, as the masks call them; the last four are
# inside, where no drawn photo looks.
_OWN_PARTS = (
    "headlight", "taillight", "foglight", "grille", "console", "steering wheel", "dashboard",
    "gear lever",
)  # fmt: skip

# Top speed in km/h, displacement in litres, doors, seats.
_ATTRIBUTES = {
    "Sedan": (215, 2.0, 4, 5), "Coupe": (250, 3.0, 2, 4), "SUV": (200, 2.4, 5, 5),
    "Hatchback": (185, 1.4, 5, 5), "Wagon": (205, 2.0, 5, 5), "Convertible": (230, 2.0, 2, 2),
    "Pickup": (175, 3.2, 4, 5), "Van": (170, 2.2, 4, 7),
}  # fmt: skip


def write_devkit(
    folder: Path | str, photos_per_class: int = 6, size: int = 128, seed: int = 0
) -> Path:
    """Write the showroom as Stanford Cars: cars_train/, cars_test/ and devkit/ with its .mat files.

    Photos are numbered from 00001.jpg in mixed order. Returns the folder; raises DataError if it
    holds anything already.
    """
    root = _fresh(folder)
    annotations: dict[str, list[tuple]] = {"train": [], "test": []}
    for label, index, split in _mixed(photos_per_class, seed):
        drawing = draw_photo(label, index, seed, size)
        rows = annotations[split]
        name = f"{len(rows) + 1:05d}.jpg"
        _write_jpeg(root / f"cars_{split}" / name, drawing.image)
        x1, y1, x2, y2 = drawing.box
        rows.append((x1 + 1, y1 + 1, x2, y2, label + 1, name))
    devkit = root / "devkit"
    devkit.mkdir()
    names = np.array([[car.name for car in CARS]], dtype=object)
    scipy.io.savemat(devkit / "cars_meta.mat", {"class_names": names})
    for stem, rows, fields in (
        ("cars_train_annos", annotations["train"], _FIELDS),
        ("cars_test_annos_withlabels", annotations["test"], _FIELDS),
        ("cars_test_annos", annotations["test"], (*_FIELDS[:4], "fname")),
    ):
        scipy.io.savemat(devkit / f"{stem}.mat", {"annotations": _struct_array(rows, fields)})
    return root


_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def _struct_array(rows: list[tuple], fields: tuple[str, ...]) -> np.ndarray:
    """A (1, n) MATLAB struct array holding `fields` of each row."""
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for i, row in enumerate(rows):
        values = dict(zip(_FIELDS, row, strict=True))
        array[0, i] = tuple(
            values[f] if f == "fname" else np.array([[values[f]]], dtype=np.uint16) for f in fields
        )
    return array


@dataclass(frozen=True)
class _WebPhoto:
    """A photo in the CompCars tree."""

    path: str  # make_id/model_id/year/name.jpg
    model_id: int
    make_id: int
    viewpoint: str
    split: str


def write_compcars(
    folder: Path | str, photos_per_class: int = 6, size: int = 128, seed: int = 0
) -> Path:
    """Write the showroom as CompCars: data/image, label, misc, part, train_test_split, and sv_data.

    A part is cut out of every fourth photo that shows it; no photo shows the inside of a car, so
    the lists of inside parts are empty. The surveillance set has the front views.
    One photo in eight lies in a year folder named `unknown`, one in ten has viewpoint -1, and one
    model in six lacks its attributes, as in the release. Models of the last three makes are kept
    out of verification_train.txt and make up the pair lists. Returns the folder; raises DataError
    if it holds anything already.
    """
    root = _fresh(folder)
    makes, models = _ids()
    photos: list[_WebPhoto] = []
    for number, (label, index, split) in enumerate(_mixed(photos_per_class, seed)):
        car, drawing = CARS[label], draw_photo(label, index, seed, size)
        make_id, model_id = makes[car.make], models[car.make, car.model]
        year = "unknown" if number % 8 == 7 else str(car.year)
        stem = f"{make_id}/{model_id}/{year}/{photo_name(label, index, seed)}"
        _write_jpeg(root / "data" / "image" / f"{stem}.jpg", drawing.image)
        code = -1 if number % 10 == 9 else VIEWPOINTS.index(drawing.viewpoint) + 1
        x1, y1, x2, y2 = drawing.box
        text = f"{code}\n1\n{x1 + 1} {y1 + 1} {x2} {y2}\n"
        _write_text(root / "data" / "label" / f"{stem}.txt", text)
        photos.append(_WebPhoto(f"{stem}.jpg", model_id, make_id, drawing.viewpoint, split))
        if number % 4 == 0:
            _write_parts(root / "data", stem, drawing, split)
        if drawing.viewpoint in ("front", "front-side"):
            name = f"{model_id}/{photo_name(label, index, seed)}.jpg"
            _write_jpeg(root / "sv_data" / "image" / name, drawing.image)
            _append(root / "sv_data" / f"{split}_surveillance.txt", name)
    _write_surveillance_names(root / "sv_data", models)
    _write_misc(root / "data" / "misc", makes, models)
    _write_lists(root / "data" / "train_test_split", photos, len(makes) - 2, seed)
    return root


def _ids() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Ids from 1 of the makes and, running through all makes, of the models."""
    makes = {make: i for i, make in enumerate(dict.fromkeys(car.make for car in CARS), 1)}
    models = {key: i for i, key in enumerate(dict.fromkeys((c.make, c.model) for c in CARS), 1)}
    return makes, models


def _write_misc(folder: Path, makes: dict[str, int], models: dict[tuple[str, str], int]) -> None:
    folder.mkdir(parents=True)
    names = {
        "make_names": np.array([[make] for make in makes], dtype=object),
        "model_names": np.array([[f"{make} {model}"] for make, model in models], dtype=object),
    }
    scipy.io.savemat(folder / "make_model_name.mat", names)
    scipy.io.savemat(folder / "car_type.mat", {"types": np.array([CAR_TYPES], dtype=object)})
    bodies = {(car.make, car.model): car.body for car in CARS}
    lines = ["model_id maximum_speed displacement door_number seat_number type"]
    for key, model_id in models.items():
        body = bodies[key]
        speed, litres, doors, seats = (0, 0.0, 0, 0) if model_id % 6 == 0 else _ATTRIBUTES[body]
        kind = CAR_TYPES.index(_TYPE_OF_BODY[body]) + 1
        lines.append(f"{model_id} {speed} {litres} {doors} {seats} {kind}")
    _write_text(folder / "attributes.txt", "\n".join(lines) + "\n")


def _write_parts(data: Path, stem: str, drawing: Drawing, split: str) -> None:
    """Cut the parts out of a photo and add them to their lists."""
    lists = data / "train_test_split" / "part"
    folder, _, photo = stem.rpartition("/")
    for number, part in enumerate(_OWN_PARTS, start=1):
        for name in ("train", "test"):
            _append(lists / f"{name}_part_{number}.txt")
        mask = drawing.parts == PART_ID.get(part, -1)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows) > 1 and len(columns) > 1:
            path = f"{folder}/{number}/{photo}.jpg"
            cut = drawing.image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            _write_jpeg(data / "part" / path, cut)
            _append(lists / f"{split}_part_{number}.txt", path)


def _write_surveillance_names(folder: Path, models: dict[tuple[str, str], int]) -> None:
    """A row per model, as the release has them: make, model, id of the model among web photos."""
    names = np.empty((len(models), 3), dtype=object)
    for (make, model), number in models.items():
        names[number - 1] = [make, model, number]
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "sv_make_model_name.mat", {"sv_make_model_name": names})


def _write_lists(folder: Path, photos: list[_WebPhoto], first_unseen_make: int, seed: int) -> None:
    for split in ("train", "test"):
        lines = [photo.path for photo in photos if photo.split == split]
        _write_text(folder / "classification" / f"{split}.txt", "\n".join(lines) + "\n")
    seen = [photo.path for photo in photos if photo.make_id < first_unseen_make]
    _write_text(folder / "verification" / "verification_train.txt", "\n".join(seen) + "\n")
    unseen = [photo for photo in photos if photo.make_id >= first_unseen_make]
    rng = np.random.Generator(np.random.PCG64([seed, 13]))
    for level in ("easy", "medium", "hard"):
        lines = [f"{a.path} {b.path} {int(same)}" for a, b, same in _pairs(unseen, level, rng)]
        name = f"verification_pairs_{level}.txt"
        _write_text(folder / "verification" / name, "\n".join(lines) + "\n")


def _pairs(
    photos: list[_WebPhoto], level: str, rng: np.random.Generator
) -> list[tuple[_WebPhoto, _WebPhoto, bool]]:
    """Pairs by the paper's rules: easy ones share the viewpoint, hard negatives share the make.

    As many positive as negative pairs; no photo is paired with itself and no pair occurs twice.
    """
    positive, negative = [], []
    for i, a in enumerate(photos):
        for b in photos[i + 1 :]:
            if level == "easy" and a.viewpoint != b.viewpoint:
                continue
            if a.model_id == b.model_id:
                positive.append((a, b, True))
            elif level != "hard" or a.make_id == b.make_id:
                negative.append((a, b, False))
    count = min(len(positive), len(negative), 200)
    pairs = []
    for candidates in (positive, negative):
        order = rng.random(len(candidates)).argsort(kind="stable")
        pairs += [candidates[i] for i in order[:count]]
    order = rng.random(len(pairs)).argsort(kind="stable")
    return [pairs[i] for i in order]


def _mixed(photos_per_class: int, seed: int) -> list[tuple[int, int, str]]:
    """The photo plan with train and test alone, in an order that tells nothing."""
    if photos_per_class < 3:
        raise DataError(f"photos_per_class is {photos_per_class}; train and test need 3 at least.")
    plan = [
        (label, index, "train" if split == "train" else "test")
        for label, index, split in photo_plan(photos_per_class, seed, 1.0)
    ]
    return sorted(plan, key=lambda p: hashlib.sha256(f"{seed}:{p[0]}:{p[1]}".encode()).digest())


def _fresh(folder: Path | str) -> Path:
    root = Path(folder)
    if root.exists() and any(root.iterdir()):
        raise DataError(f"{root} is not empty; name a new folder, or empty this one.")
    root.mkdir(parents=True, exist_ok=True)
    return root


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path, quality=92)


def _append(file: Path, line: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8", newline="\n") as lines:
        lines.write(f"{line}\n" if line else "")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
