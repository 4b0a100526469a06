"""A collection as people make them: photos of a clean catalog, a long tail, and faults, each known.

What an audit is for is nowhere in drawn cars. Here it is put there, so that one can see it found.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import ExifTags, Image, ImageOps

from carlib.data.catalog import Catalog
from carlib.data.images import decode_photo
from carlib.data.samplers import long_tail
from carlib.data.sources import FolderSource
from carlib.errors import DataError
from carlib.files import made, write_atomically
from carlib.paths import cache_root

EACH = 3  # photos with each fault


def saved(photo: Image.Image, quality: int = 95, **options: object) -> bytes:
    """A photo as the bytes of a JPEG."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def lying(photo: Image.Image) -> bytes:
    """A photo whose pixels lie on their side, and a tag that says so: as phones save them."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6  # to be turned right by a quarter
    return saved(photo.transpose(Image.Transpose.ROTATE_90), exif=tags)


# What happens to a photo, and which finding of an audit it is; the bytes that are left of it.
SPOILED: dict[tuple[str, str], Callable[[Image.Image], bytes]] = {
    ("grey", "greyscale"): lambda photo: saved(photo.convert("L")),
    ("tiny", "tiny"): lambda photo: saved(photo.resize((photo.width // 3, photo.height // 3))),
    ("cut off", "unreadable"): lambda photo: saved(photo)[:400],
    ("turned by a tag", "lies on its side"): lying,
}
# What a second copy of a photo is like, which finding it is, and where it goes: into the photo's
# class and split, into "another class", or into "another split".
COPIED: dict[tuple[str, str, str], Callable[[Image.Image], bytes] | None] = {
    ("copied", "exact copy", ""): None,  # byte for byte
    ("mirrored copy", "near copy", ""): lambda photo: saved(ImageOps.mirror(photo)),
    ("saved again", "near copy", ""): lambda photo: saved(photo, quality=30),
    ("copy under another label", "copies differ in label", "another class"): saved,
    ("copy in val", "copies across splits", "another split"): saved,
}  # fmt: skip


def collect(catalog: Catalog, seed: int = 0, tail: float = 10.0) -> tuple[Catalog, pd.DataFrame]:
    """A flawed collection made of the train and val photos of a catalog, and what is wrong with it.

    Its largest class has `tail` times as many training photos as its smallest. EACH photos have
    each fault; the table has a row per fault and photo: path, fault, and the finding of an audit
    that it is. Files are written into the cache. `DataError` where there are fewer photos than
    faults.
    """
    generator = np.random.default_rng(seed)
    table, rows = catalog.table.reset_index(drop=True), np.arange(len(catalog))
    train, val = ((table["split"] == split).to_numpy() for split in ("train", "val"))
    kept = np.r_[rows[train][long_tail(catalog.labels[train], tail, seed)], rows[val]]
    faults = [*SPOILED, *COPIED]
    shown = np.intersect1d(kept, rows[train])
    if len(shown) < EACH * len(faults):
        raise DataError(f"{catalog.name}: {len(shown)} photos of train are left; "
                        f"{EACH * len(faults)} photos are needed, one for each fault")  # fmt: skip
    chosen = iter(generator.choice(shown, EACH * len(faults), replace=False))
    folder = cache_root() / f"collected-{catalog.fingerprint[:10]}-{seed}-{tail:g}"
    made(folder.parent)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        made(folder / "photos")
        files = {row: catalog.source.read(table["path"][row]) for row in kept}
        lines = {row: table.loc[row].to_dict() for row in kept}
        planted = []
        for fault in faults:
            name, finding, *where = fault
            for row in (int(next(chosen)) for _ in range(EACH)):
                change = SPOILED.get(fault) or COPIED[fault]
                photo = Image.fromarray(decode_photo(files[row], table["path"][row]))
                data = change(photo) if change else files[row]
                target = len(table) + len(planted) if where else row
                files[target] = data
                lines[target] = _placed(lines[row], *where, catalog) if where else lines[row]
                planted.append((target, name, finding))
        paths = {row: f"photos/{row:05d}{_ending(data)}" for row, data in files.items()}
        for row, data in files.items():
            write_atomically(folder / paths[row], data)
    collected = pd.DataFrame([line | {"path": paths[row]} for row, line in lines.items()])
    told = pd.DataFrame([(paths[row], *rest) for row, *rest in planted],
                        columns=["path", "fault", "finding"])  # fmt: skip
    source, extras = FolderSource(folder), replace(catalog.extras, part_masks="")
    return Catalog.from_rows(collected, catalog.class_names, "collected", source, extras), told


def _placed(line: dict, where: str, catalog: Catalog) -> dict:
    """The row of a copy: as its photo's, but for its class or its split."""
    if where == "another class":
        label = (line["label"] + 1) % catalog.num_classes
        return line | {"label": label, "class_name": catalog.class_names[label]}
    return line | {"split": "val"} if where == "another split" else line


def _ending(data: bytes) -> str:
    return ".jpg" if data.startswith(b"\xff\xd8") else ".png"
