"""A notebook in JupyterLab, in a real browser: opened, run by the menu, read (test-paths)."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 900_000  # milliseconds

pytestmark = [
    pytest.mark.skipif(os.environ.get("CARLIB_PATHS") != "all", reason="make test-paths"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
]


@pytest.fixture
def lab(tmp_path: Path, private_folders: Path) -> Iterator[str]:
    """JupyterLab on a copy of the first notebook, with settings of its own; its address."""
    pytest.importorskip("jupyterlab")
    shutil.copy(ROOT / "notebooks" / "01_data_exploration.ipynb", tmp_path / "one.ipynb")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    own = {f"JUPYTER_{part}_DIR": str(tmp_path / part) for part in ("CONFIG", "RUNTIME", "DATA")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
               f"--port={port}", "--IdentityProvider.token=", "--LabApp.news_url=None",
               f"--ServerApp.root_dir={tmp_path}"]  # fmt: skip
    with (tmp_path / "lab.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/lab"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=10).read(1)
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "lab.log").read_text(encoding="utf-8")
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def test_a_notebook_is_opened_and_run(lab: str, tmp_path: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{lab}/tree/one.ipynb")
        page.locator(".jp-Notebook").wait_for()
        page.get_by_role("menuitem", name="Edit").click()
        page.get_by_text("Clear Outputs of All Cells", exact=True).click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        page.locator(".jp-WindowedPanel-outer").last.evaluate("e => e.scrollTo(0, e.scrollHeight)")
        page.keyboard.press("Control+s")
        page.wait_for_timeout(3000)
        page.screenshot(path=tmp_path / "lab.png")
        browser.close()
    import nbformat

    cells = [c for c in nbformat.read(tmp_path / "one.ipynb", 4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) > 5
    assert re.search(r"fingerprint", str(cells[-1].outputs))
