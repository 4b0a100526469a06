"""A network in use: any photo in, an answer out; and what a published file holds."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import shape, toy_recipe

from carlib.apps.predictor import Predictor, open_photo, publish
from carlib.data.catalog import Catalog
from carlib.errors import PhotoError, RunError
from carlib.evaluation.evaluate import evaluate, logits_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.retrieval.embeddings import embed
from carlib.training.loop import load_or_train


@pytest.fixture(scope="module")
def trained(toy_root, tmp_path_factory) -> tuple[Checkpoint, Catalog]:
    from toys import toy_catalog

    catalog = toy_catalog(toy_root)
    with pytest.MonkeyPatch.context() as patch:
        for part in ("cache", "runs", "results"):
            patch.setenv(f"CARLIB_{part.upper()}", str(tmp_path_factory.mktemp(part)))
        recipe = toy_recipe(epochs=6)
        return load_or_train(recipe, catalog, progress=False)[0], catalog


@pytest.fixture
def published(trained, tmp_path) -> Predictor:
    checkpoint, catalog = trained
    publish(checkpoint, catalog, path=tmp_path / "small.safetensors")
    return Predictor.load(tmp_path / "small.safetensors")


def pixels(kind: int, seed: int = 900) -> np.ndarray:
    return np.asarray(shape(kind, seed))


# --- photos from outside ------------------------------------------------------------------------


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def test_a_photo_is_upright_as_the_camera_was_held(tmp_path) -> None:
    lying = Image.new("RGB", (40, 20), (200, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    path = saved(tmp_path / "phone.jpg", lying, exif=exif)
    assert open_photo(path).shape == (40, 20, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_any_kind_of_pixels_becomes_rgb(tmp_path, mode: str) -> None:
    image = Image.new(mode, (30, 20))
    path = saved(tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png"), image)
    assert open_photo(path).shape == (20, 30, 3)


def test_of_an_animation_the_first_picture_is_taken(tmp_path) -> None:
    frames = [Image.new("RGB", (24, 24), color) for color in ((255, 0, 0), (0, 255, 0))]
    path = tmp_path / "two.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert tuple(open_photo(path)[5, 5]) == (255, 0, 0)


def test_what_is_no_photo_is_named(tmp_path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("I am no photo", encoding="utf-8")
    with pytest.raises(PhotoError, match=r"notes\.jpg: not an image file"):
        open_photo(text)
    with pytest.raises(PhotoError, match=r"gone\.jpg: cannot be read \(No such file"):
        open_photo(tmp_path / "gone.jpg")
    cut = tmp_path / "cut.jpg"
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(
        whole, "jpeg"
    )
    cut.write_bytes(whole.getvalue()[:900])
    with pytest.raises(PhotoError, match=r"cut\.jpg: damaged image"):
        open_photo(cut)


@pytest.mark.parametrize("side", [11_000, 20_000])  # above our limit, and above Pillow's
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_of_many_pixels_is_not_unpacked(tmp_path, side: int) -> None:
    path = saved(tmp_path / "bomb.png", Image.new("1", (side, side)))
    assert path.stat().st_size < 100_000
    with pytest.raises(PhotoError, match=r"bomb\.png: claims more than 100 megapixels"):
        open_photo(path)


# --- answers ------------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_evaluation(trained) -> None:
    checkpoint, catalog = trained
    expected, _, rows = logits_of(checkpoint, catalog, "val", progress=False)
    predictor = Predictor(checkpoint)
    for number in (0, 5, 11):
        photo = open_photo(Path(catalog.root) / catalog.table["path"].iloc[rows[number]])
        torch.testing.assert_close(
            predictor.logits(predictor.framed(photo))[0], expected[number], atol=1e-4, rtol=1e-4
        )
        answer = predictor.identify(photo, top=2)
        assert answer.names[0] == catalog.class_names[expected[number].argmax()]
        assert len(answer.names) == 2 and answer.probabilities[0] >= answer.probabilities[1]
        assert json.loads(json.dumps(answer.to_dict()))["guesses"][0]["name"] == answer.names[0]


def test_a_photo_becomes_the_point_that_the_data_set_has(trained) -> None:
    """Thresholds and galleries are made of those."""
    checkpoint, catalog = trained
    points, predictor = embed(checkpoint, catalog, "val", progress=False), Predictor(checkpoint)
    for number in (0, 7):
        photo = open_photo(Path(catalog.root) / points.paths[number])
        np.testing.assert_allclose(predictor.embed(photo)[0], points.vectors[number], atol=2e-3)


def test_a_box_shows_the_network_the_car_alone(trained) -> None:
    predictor = Predictor(trained[0])
    street = np.full((200, 300, 3), 100, np.uint8)
    street[50:90, 200:248] = pixels(2)
    with_box = predictor.framed(street, (200, 50, 248, 90))
    torch.testing.assert_close(with_box, predictor.framed(pixels(2)))
    for box in ((10, 10, 5, 20), (0, 0, 301, 10), (-1, 0, 5, 5)):
        with pytest.raises(PhotoError, match="does not lie in a photo of 300 × 200 pixels"):
            predictor.framed(street, box)


def test_a_tiny_a_thin_and_a_large_photo_are_answered(trained) -> None:
    predictor = Predictor(trained[0])
    for height, width in ((1, 1), (400, 1), (1, 400), (3000, 4000)):
        answer = predictor.identify(np.zeros((height, width, 3), np.uint8))
        assert len(answer.names) == 4 and abs(sum(answer.probabilities) - 1) < 1e-5


def test_heat_lies_on_the_photo_and_a_class_is_named(trained) -> None:
    predictor = Predictor(trained[0])
    assert predictor.heat(pixels(2), "red disc").shape == pixels(2).shape[:2]
    inside = predictor.heat(np.tile(pixels(2), (2, 2, 1)), box=(0, 0, 48, 40))
    assert inside.max() > 0 and inside[40:].max() == 0 and inside[:, 48:].max() == 0
    with pytest.raises(RunError, match="no class 'red disk'; did you mean: red disc"):
        predictor.heat(pixels(2), "red disk")
    one, two = predictor.shared(pixels(1), pixels(1, 901))
    assert one.shape == two.shape == pixels(1).shape[:2]


# --- the published file -------------------------------------------------------------------------


def test_a_published_network_is_half_as_large_and_says_the_same(trained, tmp_path) -> None:
    checkpoint, catalog = trained
    record = publish(checkpoint, catalog, path=tmp_path / "small.safetensors")
    large = sum(value.numel() * 4 for value in checkpoint.model.state_dict().values())
    assert record.kind == "published" and record.extra["bytes"] < 0.51 * large
    whole = evaluate(checkpoint, catalog, "val").metrics["accuracy"]
    assert abs(record.metrics["accuracy"] - whole) < 0.07  # one photo of sixteen
    loaded = Checkpoint.load(tmp_path / "small.safetensors")
    assert loaded.about["use"]["trained_as"] == checkpoint.hash != loaded.hash
    assert next(loaded.model.parameters()).dtype == torch.float32
    use = record.extra["use"]
    assert use["temperature"] > 0 and 0 <= use["known_from"] <= 1


def test_it_says_when_it_does_not_know(published) -> None:
    known = [published.identify(pixels(kind, seed)).known for kind in range(4) for seed in (1, 2)]
    assert np.mean(known) > 0.5
    published.known_from = 1.1
    assert not published.identify(pixels(0)).known


def test_two_photos_are_compared_by_the_fitted_threshold(published) -> None:
    same = published.compare(pixels(2), pixels(2, 901))
    other = published.compare(pixels(2), pixels(3))
    assert same.similarity > other.similarity and same.probability > other.probability
    assert same.same == (same.similarity >= published.decision.threshold)


def test_networks_that_cannot_answer_say_so(trained, tmp_path) -> None:
    checkpoint, catalog = trained
    with pytest.raises(RunError, match="no threshold for pairs"):
        Predictor(checkpoint).compare(pixels(0), pixels(1))
    begun = Checkpoint.begin(
        toy_recipe(embedding=8, loss="contrastive", sampler="per_class"), catalog
    )
    with pytest.raises(RunError, match="compares photos and names no class"):
        Predictor(begun).identify(pixels(0))


def test_what_is_published_stays_until_the_next_one_works(trained, tmp_path) -> None:
    catalog = trained[1]
    path = tmp_path / "folder" / "published.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"the old one")
    embedder = Checkpoint.begin(
        toy_recipe(embedding=8, loss="contrastive", sampler="per_class"), catalog
    )
    with pytest.raises(RunError, match="compares photos and names no class"):
        publish(embedder, catalog, path=path)
    wide = Checkpoint.begin(toy_recipe(), catalog)
    for name, values in wide.model.state_dict().items():
        if name.endswith("running_var"):
            values.fill_(1e5)  # more than half precision holds
    with pytest.raises(RunError):
        publish(wide, catalog, path=path)
    assert path.read_bytes() == b"the old one" and [*path.parent.iterdir()] == [path]


def test_a_network_too_large_to_publish_is_refused(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("carlib.apps.predictor.LARGEST_FILE", 1000)
    with pytest.raises(RunError, match="bytes in half precision; a published checkpoint"):
        publish(*trained, path=tmp_path / "large.safetensors")
    assert not (tmp_path / "large.safetensors").exists()
