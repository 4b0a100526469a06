"""Take README's picture of the demo: the page as a browser shows it, answering about a drawn car.

python tools/screenshot.py     into figures/demo.png; needs chromium and playwright
"""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from carlib.apps.demo import Demo, served
from carlib.apps.predictor import Predictor
from carlib.data.drawn import open_showroom

TARGET = Path(__file__).resolve().parents[1] / "figures" / "demo.png"
SIZE = {"width": 900, "height": 900}  # pixels of the page


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def take(browser: str, target: Path) -> None:
    """Open the page, click the first drawn car, ask which it is, and save what is shown."""
    demo = Demo(Predictor.load(), open_showroom(photos_per_class=4, size=256))
    with served(demo, free_port()) as address, sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = window.new_page(viewport=SIZE, color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(address.local_url)
        page.locator("button.gallery-item").first.click()
        page.locator("[data-testid=image] img").first.wait_for()
        page.get_by_role("button", name="Which car is this?").click()
        page.get_by_text("the network looked").locator("..").locator("img").wait_for()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=target, full_page=True)
        window.close()
    Image.open(target).convert("RGB").quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if len(sys.argv) > 1 or found is None:
        sys.exit(__doc__)
    take(found, TARGET)
    print(TARGET)
