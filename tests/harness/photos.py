"""Kind 1, what is in a photo: orientation, depth, transparency, size. Each beside its twin."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from harness.cases import Case, Place

WIDTH, HEIGHT, SIDE = 96, 48, 24  # of the picture, and of the square that a data set makes of it
TURNS = {  # orientation tag: how the upright picture lies in the file
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def picture() -> Image.Image:
    """No side and no corner of it is like another, and it is smooth, so JPEG keeps it."""
    x, y = np.meshgrid(np.linspace(20, 230, WIDTH), np.linspace(30, 220, HEIGHT))
    blue = np.full_like(x, 60)
    blue[4:20, 6:30] = 200
    return Image.fromarray(np.stack([x, y, blue], 2).round().astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    if kind in ("JPEG", "WEBP", "AVIF", "MPO"):
        options.setdefault("quality", 95)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- ways that a photo takes through carlib -----------------------------------------------------


def by_photo(here: Place, data: bytes, name: str) -> np.ndarray:
    from carlib.apps.predictor import open_photo

    return open_photo(here.write(name, data))


def by_set(here: Place, data: bytes, name: str) -> np.ndarray:
    """The photo as a data set of class folders keeps it."""
    from carlib.data.framing import Framing
    from carlib.data.opening import open_catalog
    from carlib.data.store import PhotoStore

    here.write(f"set/a/{name}", data)
    here.write("set/b/other.png", encoded(picture().rotate(180), "PNG"))
    store = PhotoStore.open(open_catalog(here.folder / "set"), Framing(SIDE), progress=False)
    rows = [row for row, path in enumerate(store.catalog.table["path"]) if path.endswith(name)]
    return np.asarray(store.pixels[list(store.rows).index(rows[0])])


def by_predict(here: Place, data: bytes, name: str) -> dict[str, float]:
    file = here.write(name, data)
    told = json.loads(here.use("predict", file, "--json", "--top", 9))[str(file)]
    return {guess["name"]: guess["probability"] for guess in told["guesses"]}


def by_demo(here: Place, data: bytes, name: str) -> dict[str, float]:
    return here.world.demo.identify(str(here.write(name, data)))[0]


def by_search(here: Place, data: bytes, name: str) -> list[float]:
    file = here.write(name, data)
    found = here.use("search", file, "--data", here.world.photos, "--json", "--top", 3)
    return [row["similarity"] for row in json.loads(found[found.index("[") :])]


WAYS = {"photo": by_photo, "set": by_set, "predict": by_predict, "demo": by_demo,
        "search": by_search}  # fmt: skip


def small(twin: np.ndarray) -> np.ndarray:
    """A twin as the data set keeps it: the mean of every block."""
    high, wide = twin.shape[0] // SIDE, twin.shape[1] // SIDE
    return twin.reshape(SIDE, high, SIDE, wide, 3).mean((1, 3))


def near(found: np.ndarray, twin: np.ndarray, tolerance: float) -> bool:
    return (
        found.shape == twin.shape and float(np.abs(found - twin.astype(float)).mean()) < tolerance
    )


def like(way: str, twin: Image.Image, tolerance: float = 2.5) -> Callable[[object], bool]:
    """Whether what a way gives is what the twin, an RGB picture, is."""
    pixels = np.asarray(twin.convert("RGB"))
    if way == "photo":
        return lambda found: near(found, pixels, tolerance)
    if way == "set":
        return lambda found: near(found, small(pixels), tolerance)
    return lambda found: bool(found) and _answers_like(found, pixels, tolerance)


_world = {}  # the toy network, which says of the twin's pixels what it must say of the photo


def _answers_like(found: object, pixels: np.ndarray, tolerance: float) -> bool:
    world = _world["it"]
    if isinstance(found, list):
        point = world.predictor.embed(pixels)
        twin = world.demo.gallery.search(point, 3)["similarity"]
        return bool(np.allclose(found, twin, atol=0.01 * tolerance))
    twin = world.chances(pixels)
    return all(abs(chance - twin[name]) < 0.02 * tolerance for name, chance in found.items())


def seen(
    name: str, way: str, data: Callable[[], bytes], twin: Callable[[], Image.Image],
    tolerance: float = 2.5, file: str = "photo.png",
) -> Case:  # fmt: skip
    """A photo that must be seen as its twin is."""

    def act(here: Place) -> object:
        _world["it"] = here.world
        return WAYS[way](here, data(), file)

    return Case(1, f"{name} by {way}", act, lambda found: like(way, twin(), tolerance)(found))


# --- the cases ----------------------------------------------------------------------------------


def sideways() -> Iterator[Case]:
    def data(tag: int, kind: str) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = tag
        turn = TURNS[tag]
        lying = picture() if turn is None else picture().transpose(turn)
        return encoded(lying, kind, exif=exif)

    for kind, ways in (("JPEG", WAYS), ("PNG", ("photo", "set")), ("TIFF", ("set",)),
                       ("WEBP", ("photo", "set"))):  # fmt: skip
        for tag in TURNS:
            for way in ways:
                if way in ("photo", "set") or tag in (3, 6, 8):
                    yield seen(f"{kind} with orientation {tag}", way,
                               lambda t=tag, k=kind: data(t, k), picture)  # fmt: skip


def grey() -> Image.Image:
    return picture().convert("L")


def _raw(kind: str, mode: str, values: np.ndarray) -> bytes:
    image = Image.frombytes(mode, (WIDTH, HEIGHT), np.ascontiguousarray(values).tobytes())
    return encoded(image, kind)


def _deep() -> dict[str, Callable[[], bytes]]:
    def eight() -> np.ndarray:
        return np.asarray(grey())

    def pgm() -> bytes:
        body = (eight().astype(">u2") * 257).tobytes()
        return f"P5 {WIDTH} {HEIGHT} 65535\n".encode() + body

    return {
        "16-bit PNG": lambda: _raw("PNG", "I;16", eight().astype("<u2") * 257),
        "16-bit TIFF": lambda: _raw("TIFF", "I;16", eight().astype("<u2") * 257),
        "big-endian 16-bit TIFF": lambda: _raw("TIFF", "I;16B", eight().astype(">u2") * 257),
        "16-bit JPEG 2000": lambda: _raw("JPEG2000", "I;16", eight().astype("<u2") * 257),
        "16-bit PGM": pgm,
        "32-bit TIFF of 8 bits": lambda: _raw("TIFF", "I", eight().astype("<i4")),
        "32-bit TIFF of 16 bits": lambda: _raw("TIFF", "I", eight().astype("<i4") * 257),
        "float TIFF of 0 to 1": lambda: _raw("TIFF", "F", (eight() / 255).astype("<f4")),
        "float TIFF of 0 to 255": lambda: _raw("TIFF", "F", eight().astype("<f4")),
        "float TIFF of 0 to 65535": lambda: _raw("TIFF", "F", eight().astype("<f4") * 257),
    }


def deep() -> Iterator[Case]:
    """More than 8 bits: the same picture as in 8."""
    for name, data in _deep().items():
        for way in ("photo", "set", "predict"):
            yield seen(name, way, data, grey)


def _hidden(color: tuple[int, int, int], mode: str) -> Image.Image:
    """The picture, its left half transparent over a color that nobody is to see."""
    image = picture().convert("RGBA")
    image.paste((*color, 0), (0, 0, WIDTH // 2, HEIGHT))
    return image.convert(mode)


def _keyed(color: tuple[int, int, int]) -> bytes:
    image = picture()
    image.paste(color, (0, 0, WIDTH // 2, HEIGHT))
    return encoded(image, "PNG", transparency=color)


def _palette(color: tuple[int, int, int], kind: str) -> bytes:
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([*color, 40, 90, 200])
    image.paste(0, (0, 0, WIDTH // 2, HEIGHT))
    return encoded(image, kind, transparency=0)


HIDDEN = {
    "RGBA PNG": lambda color: encoded(_hidden(color, "RGBA"), "PNG"),
    "RGBA TIFF": lambda color: encoded(_hidden(color, "RGBA"), "TIFF"),
    "RGBA WEBP": lambda color: encoded(_hidden(color, "RGBA"), "WEBP", lossless=True, exact=True),
    "LA PNG": lambda color: encoded(_hidden(color, "LA"), "PNG"),
    "RGB PNG with a transparent color": _keyed,
    "palette PNG with a transparent entry": lambda color: _palette(color, "PNG"),
    "GIF with a transparent entry": lambda color: _palette(color, "GIF"),
}


def transparent() -> Iterator[Case]:
    """Two files that look the same are the same, whatever color lies hidden in them."""
    for name, make in HIDDEN.items():
        for way in ("photo", "set"):

            def both(here: Place, make=make, way=way) -> list[np.ndarray]:
                colors = ((255, 0, 0), (0, 0, 0))
                return [WAYS[way](here, make(color), f"{color[0]}.png") for color in colors]

            def right(found: list[np.ndarray], name=name, way=way) -> bool:
                if not np.array_equal(found[0], found[1]):
                    return False
                side = found[0].shape[1] // 2
                shown = picture() if "palette" not in name and "GIF" not in name else None
                shown = shown or Image.new("RGB", (WIDTH, HEIGHT), (40, 90, 200))
                pixels = np.asarray(shown.convert("L" if "LA" in name else "RGB").convert("RGB"))
                twin = small(pixels) if way == "set" else pixels
                return near(found[0][:, side:], twin[:, side:], 3)

            yield Case(1, f"hidden color in {name} by {way}", both, right)
    for alpha in (64, 128, 192):

        def act(here: Place, alpha=alpha) -> np.ndarray:
            image = Image.new("RGBA", (WIDTH, HEIGHT), (200, 40, 40, alpha))
            return by_photo(here, encoded(image, "PNG"), "veil.png")

        def right(found: np.ndarray, alpha=alpha) -> bool:
            on_white = np.array([200, 40, 40]) * alpha / 255 + 255 - alpha
            return float(np.abs(found - on_white).max()) < 3

        yield Case(1, f"a veil of opacity {alpha} lies on white", act, right)


def boxed() -> Iterator[Case]:
    """A sideways photo with a box in stored pixels: the car is cut out, or the audit warns."""

    def act(here: Place) -> str:
        from pandas import DataFrame

        from carlib.data.catalog import Catalog
        from carlib.data.sources import FolderSource

        exif = Image.Exif()
        exif[0x0112] = 6
        here.write("a.jpg", encoded(picture().rotate(90, expand=True), "JPEG", exif=exif))
        rows = DataFrame({"path": ["a.jpg"], "label": [0], "x1": [0], "y1": [0], "x2": [24],
                          "y2": [48]})  # fmt: skip
        Catalog.from_rows(rows, ["car"], "boxed", FolderSource(here.folder)).to_csv(
            here.folder / "catalog.csv"
        )
        return here.cli("data", "audit", here.folder / "catalog.csv", "--json", allowed=(0, 1))

    def right(found: str) -> bool:
        return json.loads(found)["findings"].get("lies on its side", 0) == 1

    yield Case(1, "a sideways photo with a box is told by the audit", act, right)


def cases() -> Iterator[Case]:
    yield from sideways()
    yield from deep()
    yield from transparent()
    yield from boxed()
