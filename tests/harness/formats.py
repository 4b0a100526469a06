"""Kind 1, how a photo is written: every format, damaged in every way, and far too large."""

from __future__ import annotations

import io
import json
import random
import resource
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from harness.cases import Case, Place
from harness.photos import WAYS, by_photo, by_set, encoded, picture, seen

Image.init()
QOI = ("QOI",) if "QOI" in Image.SAVE else ()  # which Pillow reads, and writes since 12
LOSSLESS = ("BMP", "DIB", "PNG", "PPM", "TGA", "TIFF", "SGI", "PCX", *QOI, "IM", "DDS", "ICNS")
ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
# Places in a noisy file where one byte more makes a decoder fail in a way of its own.
KNOWN = {"AVIF": (7, 8, 39, 54, 100, 246), "QOI": (0, 24, 28, 46), "DDS": (265,), "WEBP": (113,),
         "SPIDER": (177,)}  # fmt: skip


def file_of(kind: str) -> str:
    return f"photo.{ENDINGS.get(kind, kind.lower())}"


def modes() -> Iterator[Case]:
    """Palettes, CMYK and the like, as Pillow itself makes RGB of them."""
    for mode, kind in (("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("P", "GIF"), ("L", "JPEG"),
                       ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF"),
                       ("1", "TIFF"), ("L", "BMP"), ("P", "BMP"), ("P", "TGA")):  # fmt: skip

        def made(mode=mode) -> Image.Image:
            if mode == "LAB":
                return Image.merge("LAB", picture().split())
            return picture().convert(mode)

        def data(made=made, kind=kind) -> bytes:
            return encoded(made(), kind)

        def twin(data=data) -> Image.Image:
            return Image.open(io.BytesIO(data())).convert("RGB")

        for way in ("photo", "set"):
            yield seen(f"mode {mode} as {kind}", way, data, twin, file="a.png")


def written() -> Iterator[Case]:
    """The same picture in every format that Pillow writes."""
    for kind in (*LOSSLESS, "JPEG", "WEBP", "AVIF", "JPEG2000", "MPO"):
        if kind == "ICNS":
            continue
        ways = ("photo", "predict") if kind in ("AVIF", "QOI", "TIFF") else ("photo",)
        for way in ways:
            yield seen(f"written as {kind}", way, partial(encoded, picture(), kind), picture,
                       file=file_of(kind))  # fmt: skip
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        more = {"save_all": True, "append_images": [picture().rotate(180)]}
        data = partial(encoded, picture(), kind, **more)
        yield seen(f"first picture of several in {kind}", "photo", data, picture, 8, file_of(kind))


def _noisy(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image, more, exif = Image.fromarray(noise), {}, Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x"
    if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
        more["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def _hurt(data: bytes, seed: int) -> bytes:
    """Some bytes changed, near the head more often than not, and perhaps the end cut off."""
    chance, hurt = random.Random(seed), bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(min(len(hurt), chance.choice((40, 200, 10**6))))
        hurt[place] = chance.choice((0, 255, 1, 127, 128, chance.randrange(256)))
    if chance.random() < 0.3:
        hurt = hurt[: chance.randrange(len(hurt))]
    return bytes(hurt)


def damaged() -> Iterator[Case]:
    """Any answer or any sentence will do; of the places that hurt, a sentence by every way."""
    for kind in ("AVIF", "BMP", "DDS", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", *QOI,
                 "SGI", "SPIDER", "TGA", "TIFF", "WEBP"):  # fmt: skip
        for seed in (1, 2, 3, *KNOWN.get(kind, ())):
            ways = ("photo", "predict") if seed in KNOWN.get(kind, ())[:2] else ("photo",)
            for way in ways:

                def act(here: Place, kind=kind, seed=seed, way=way) -> object:
                    return WAYS[way](here, _hurt(_noisy(kind), seed), file_of(kind))

                name = f"{kind} damaged as number {seed} by {way}"
                yield Case(1, name, act, lambda _: True, file_of(kind), refusable=True, child=True)


def damaged_in_a_set() -> Iterator[Case]:
    """A photo that its decoder chokes on is left out of a data set and named; training goes on."""
    for kind, seeds in KNOWN.items():

        def act(here: Place, kind=kind, seed=seeds[0]) -> object:
            here.toys()
            here.write("set/red disc/hurt.png", _hurt(_noisy(kind), seed))
            return json.loads(here.cli("data", "audit", here.folder / "set", "--json",
                                       allowed=(0, 1)))  # fmt: skip

        def right(found: dict) -> bool:
            return found["photos"] == 17 and found["findings"]["unreadable"] == 1

        yield Case(1, f"a damaged {kind} in an audit", act, right)


def _png(width: int, height: int, bits: int = 8, color: int = 2) -> bytes:
    """A PNG of black, whatever its size, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    row = b"\0" * (1 + (width * (3 if color == 2 else 1) * bits + 7) // 8)
    rows = zlib.compress(row * min(height, max(1, 20_000_000 // len(row))), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _claims(data: bytes, place: int, form: str, *sides: int) -> bytes:
    """A file whose header was made to say another width and height."""
    return data[:place] + struct.pack(form, *sides) + data[place + struct.calcsize(form) :]


def _jpeg_claims(width: int, height: int) -> bytes:
    data = encoded(picture(), "JPEG")
    return _claims(data, data.index(b"\xff\xc0") + 5, ">HH", height, width)


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG of 90,000,000 × 1": lambda: _png(90_000_000, 1),
    "PNG of 1 × 90,000,000": lambda: _png(1, 90_000_000, 1, 0),
    "PNG of 10,500 × 10,500": lambda: _png(10_500, 10_500, 1, 0),
    "PNG of 60,000 × 60,000": lambda: _png(60_000, 60_000, 1, 0),
    "PNG of 2,000,000,000 × 2": lambda: _claims(_png(9, 9), 16, ">II", 2_000_000_000, 2),
    "JPEG of 65,500 × 65,500": lambda: _jpeg_claims(65_500, 65_500),
    "JPEG of 65,500 × 4,000": lambda: _jpeg_claims(65_500, 4_000),
    "GIF of 65,535 × 65,535": lambda: _claims(encoded(picture(), "GIF"), 6, "<HH", 65535, 65535),
    "BMP of 80,000 × 80,000": lambda: _claims(encoded(picture(), "BMP"), 18, "<ii", 80000, 80000),
    "QOI of 40,000 × 40,000": lambda: _claims(encoded(picture(), "QOI"), 4, ">II", 40000, 40000),
    "PPM of 90,000 × 90,000": lambda: b"P6 90000 90000 255\n\0",
    "TGA of 65,000 × 65,000": lambda: _claims(encoded(picture(), "TGA"), 12, "<HH", 65000, 65000),
    "DDS of 50,000 × 50,000": lambda: _claims(encoded(picture(), "DDS"), 12, "<II", 50000, 50000),
}


def too_large() -> Iterator[Case]:
    for name, data in BOMBS.items():
        if name.startswith("QOI") and not QOI:
            continue
        for way in ("photo", "demo"):

            def act(here: Place, data=data, way=way) -> object:
                return WAYS[way](here, data(), "bomb.png")

            yield Case(1, f"{name} by {way}", act, words="bomb.png", child=True)


def _large(megapixels: int, kind: str, way: str) -> Case:
    """A photo of a large camera is read in bounded memory, or refused in words."""
    side = round((megapixels * 1e6) ** 0.5 / 16) * 16

    def act(here: Place) -> tuple[np.ndarray, int]:
        halves = Image.new("L", (side, side), 220)
        halves.paste(40, (0, 0, side // 2, side))
        data = encoded(halves, kind) if kind == "JPEG" else encoded(halves, kind, compress_level=1)
        del halves
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = (by_photo if way == "photo" else by_set)(here, data, "large.jpg")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        wide = found.shape[1]
        return np.array([found[:, : wide // 3].mean(), found[:, -wide // 3 :].mean()]), grown

    def right(found: tuple[np.ndarray, int]) -> bool:
        return bool(np.abs(found[0] - [40, 220]).max() < 3 and found[1] < 1_200_000)

    return Case(1, f"{kind} of {megapixels} megapixels by {way}", act, right, "large.jpg",
                refusable=megapixels > 100 and kind != "JPEG", child=True)  # fmt: skip


def unknown() -> Iterator[Case]:
    """Files that are no photos, or of a kind that cannot be read."""
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64
    files = {
        "HEIC": (heic, "photo.heic", "HEIC"),
        "HEIC called jpg": (heic, "photo.jpg", "HEIC"),
        "HEIF of another brand": (heic.replace(b"heic", b"mif1"), "p.heif", "HEI"),
        "saved web page": (b"<!DOCTYPE html><html>not found</html>", "page.jpg", "page.jpg"),
        "text": (b"no photo", "text.jpg", "not an image"),
        "nothing": (b"", "nothing.jpg", "nothing.jpg"),
        "drawing in SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", "a.svg"),
        "PDF": (b"%PDF-1.7\n%\xe2\xe3", "a.pdf", "a.pdf"),
        "zip": (b"PK\x03\x04" + b"\0" * 60, "a.jpg", "a.jpg"),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.eps", "a.eps"),
        "camera's raw file": (b"II*\0\x10\0\0\0CR\x02\0" + b"\0" * 99, "a.cr2", "a.cr2"),
    }
    for name, (data, file, words) in files.items():
        for way in ("photo", "predict"):

            def act(here: Place, data=data, file=file, way=way) -> object:
                return WAYS[way](here, data, file)

            yield Case(1, f"{name} by {way}", act, words=words)


def cases() -> Iterator[Case]:
    yield from modes()
    yield from written()
    yield from damaged()
    yield from damaged_in_a_set()
    yield from too_large()
    for megapixels, kind in ((48, "JPEG"), (108, "JPEG"), (196, "JPEG"), (150, "PNG")):
        yield _large(megapixels, kind, "photo")
    yield _large(150, "JPEG", "set")
    yield from unknown()
