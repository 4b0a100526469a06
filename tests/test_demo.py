"""The web demo: what its buttons do, and the page in a real browser where there is one."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import shape, toy_catalog, toy_recipe

from carlib.apps import server
from carlib.apps.demo import ANY, Demo, build, serve, served
from carlib.apps.predictor import Predictor, publish
from carlib.data.catalog import Extras
from carlib.errors import CarlibError, PhotoError, RunError
from carlib.training.loop import load_or_train

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def demo(toy_root, tmp_path_factory) -> Demo:
    catalog, folder = toy_catalog(toy_root), tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        for part in ("cache", "runs", "results"):
            patch.setenv(f"CARLIB_{part.upper()}", str(folder / part))
        checkpoint, _ = load_or_train(toy_recipe(epochs=6), catalog, progress=False)
        publish(checkpoint, catalog, path=folder / "small.safetensors")
        shown = replace(catalog, extras=Extras(publishable=True))  # drawn: its page shows some
        return Demo(Predictor.load(folder / "small.safetensors"), shown)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def upload(folder: Path, name: str = "disc.png", kind: int = 2, seed: int = 900) -> str:
    shape(kind, seed).save(folder / name)
    return str(folder / name)


# --- without a browser --------------------------------------------------------------------------


def test_the_three_buttons(demo, tmp_path) -> None:
    photo, other = upload(tmp_path), upload(tmp_path, "other.png", seed=901)
    guesses, words, heat = demo.identify(photo)
    assert max(guesses, key=guesses.get) == "red disc" and len(guesses) == 4
    assert heat.shape == (40, 48, 3) and heat.dtype == np.uint8 and words
    found = demo.search(photo)
    assert len(found) == 8 and re.match(r"[01]\.\d\d red disc", found[0][1])
    verdict, one, two = demo.compare(photo, other)
    assert "Probability of the same: " in verdict and one.shape == two.shape


def test_an_unknown_car_is_said_to_be_one(demo, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(demo.predictor, "known_from", 1.1)
    assert demo.identify(upload(tmp_path))[1].startswith("**Not a car I know.**")


def test_bad_uploads_are_told_by_their_own_name(demo, tmp_path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no photo", encoding="utf-8")
    with pytest.raises(PhotoError, match=r"^notes\.jpg: not an image file"):
        demo.identify(str(text))
    with pytest.raises(CarlibError, match="Give a photo first"):
        demo.compare(None, upload(tmp_path))


def test_a_photo_of_thirty_megapixels_is_answered_small(demo, tmp_path) -> None:
    Image.new("RGB", (6000, 5000), (200, 30, 30)).save(tmp_path / "large.jpg")
    assert demo.identify(str(tmp_path / "large.jpg"))[2].shape == (533, 640, 3)


def test_makes_narrow_the_search(demo) -> None:
    assert demo.makes == [ANY]  # shapes have no make
    assert build(demo) is not None


# --- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(demo, tmp_path_factory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARLIB_CACHE", str(tmp_path_factory.mktemp("served")))
        with served(demo, free_port()) as found:
            yield found.local_url


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no chromium here")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser, address):
    found = browser.new_page(viewport={"width": 1200, "height": 900})
    found.set_default_timeout(600_000)
    found.goto(address)
    yield found
    found.close()


def put(page, number: int, path: str) -> None:
    """Upload a file to a field, and wait until the page shows it: then it holds the file's path."""
    with (
        page.expect_response(lambda answer: "/upload" in answer.url),
        page.expect_response(lambda answer: "/file=" in answer.url),
    ):
        page.locator("input[type=file]").nth(number).set_input_files(path)


def ask(page, path: str) -> None:
    """Upload a file in the first tab and press its button."""
    put(page, 0, path)
    page.get_by_role("button", name="Which car is this?").click()


def test_upload_click_read_the_answer(page, tmp_path) -> None:
    ask(page, upload(tmp_path))
    page.get_by_test_id("label-output-value").filter(has_text="red disc").wait_for()
    shot = page.screenshot(path=tmp_path / "page.png")
    assert len(shot) > 10_000


def test_a_picture_that_comes_along_is_answered(page, demo) -> None:
    """Through the guard like any other request; a click is a question, no button needed."""
    page.get_by_text("drawn cars").wait_for()
    for number in (0, 2):
        page.locator(".gallery button, button.gallery-item").nth(number).click()
        wanted = Path(demo.examples()[number]).parent.name
        page.get_by_test_id("label-output-value").filter(has_text=wanted).wait_for()


def test_search_and_compare(page, tmp_path) -> None:
    page.get_by_role("tab", name="Search").click()
    put(page, 1, upload(tmp_path))
    page.get_by_role("button", name="Find cars like this").click()
    page.get_by_text(re.compile(r"[01]\.\d\d red disc")).first.wait_for()
    page.get_by_role("tab", name="Compare").click()
    for number, seed in ((2, 900), (3, 901)):
        put(page, number, upload(tmp_path, f"{seed}.png", seed=seed))
    page.get_by_role("button", name="The same model?").click()
    page.get_by_text("Probability of the same").wait_for()


def make(folder: Path, name: str) -> str:
    """A file as people have them, most of them showing a red disc."""
    disc, path = shape(2, 900), folder / name
    if name == "sideways.jpg":  # as a phone keeps it: turned, with a note to turn it back
        exif = Image.Exif()
        exif[0x0112] = 6
        disc.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)
    elif name == "moving.gif":
        disc.save(path, save_all=True, append_images=[shape(1, 900)])
    elif name == "alpha.png":
        disc.putalpha(255)
        disc.save(path)
    elif name == "31-megapixels.jpg":
        disc.resize((6400, 4900)).save(path, quality=80)
    elif name == "bomb.png":
        Image.new("1", (12_000, 12_000)).save(path)
    else:
        path.write_bytes({"notes.jpg": b"no photo at all", "zero.png": b""}[name])
    return str(path)


@pytest.mark.parametrize("name", ["sideways.jpg", "moving.gif", "alpha.png", "31-megapixels.jpg"])
def test_photos_as_people_have_them(page, tmp_path, name: str) -> None:
    ask(page, make(tmp_path, name))
    page.get_by_test_id("label-output-value").filter(has_text="red disc").wait_for()


@pytest.mark.parametrize(
    ("name", "message"),
    [("notes.jpg", "not an image file"), ("bomb.png", "claims more than 100 megapixels"),
     ("zero.png", "not an image file")],
)  # fmt: skip
def test_bad_files_are_told_in_words(page, tmp_path, name: str, message: str) -> None:
    ask(page, make(tmp_path, name))
    page.get_by_text(f"{name}: {message}").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off_and_all_is_readable(
    browser, address, tmp_path, scheme: str
) -> None:
    found = browser.new_page(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    found.set_default_timeout(600_000)
    found.goto(address)
    ask(found, upload(tmp_path))
    found.get_by_test_id("label-output-value").filter(has_text="red disc").wait_for()
    assert found.evaluate("document.documentElement.scrollWidth") <= 390
    light = "s => s.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 765"
    text, ground = (
        found.evaluate(f"({light})(getComputedStyle(document.querySelector('{where}')).{what})")
        for where, what in ((".prose p", "color"), ("body", "backgroundColor"))
    )
    assert abs(text - ground) > 0.5 and (ground < 0.5) == (scheme == "dark")
    found.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    found.close()


def test_what_the_page_asks_for_is_let_through(browser, address, tmp_path) -> None:
    """The guard knows the page's own requests; nothing it needs is refused, nothing else sent."""
    refused = []
    found = browser.new_page()
    found.set_default_timeout(600_000)
    found.on("response", lambda r: refused.append(r.url) if r.status >= 400 else None)
    found.goto(address)
    ask(found, upload(tmp_path))
    found.get_by_test_id("label-output-value").filter(has_text="red disc").wait_for()
    found.close()
    assert refused == []


def test_two_users_at_once(browser, address, tmp_path) -> None:
    pages = [browser.new_page() for _ in range(2)]
    files = [upload(tmp_path, "a.png", 2), upload(tmp_path, "b.png", 3)]
    for found in pages:
        found.set_default_timeout(600_000)
        found.goto(address)
    for found, file in zip(pages, files, strict=True):
        ask(found, file)
    for found, answer in zip(pages, ("red disc", "white square"), strict=True):
        found.get_by_test_id("label-output-value").filter(has_text=answer).wait_for()
        found.close()


def test_a_taken_port_is_told(demo, address, monkeypatch) -> None:
    monkeypatch.setattr("carlib.apps.demo.Demo", lambda *_: demo)
    monkeypatch.setattr("carlib.apps.demo.open_catalog", lambda _: demo.catalog)
    monkeypatch.setattr(server, "SERVING", threading.Lock())  # as in another process
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(RunError, match=f"port {port} is taken"):
        serve(demo.predictor, port=port)


def test_a_second_page_in_one_process_is_refused_and_disturbs_nobody(demo, page, tmp_path) -> None:
    with pytest.raises(RunError, match="serves a demo already"), served(demo, free_port()):
        pass
    ask(page, upload(tmp_path))
    page.get_by_test_id("label-output-value").filter(has_text="red disc").wait_for()
