"""What README tells people to do is done, and every link of the web pages leads somewhere."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import colors
from typer.testing import CliRunner

from carlib.cli import app
from carlib.experiment.registry import RECIPES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(heading: str) -> str:
    """The first fenced block after a bold heading of README."""
    return re.search(rf"\*\*{heading}.*?^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_block_for_photos_of_ones_own_runs(tmp_path: Path, private_folders: Path) -> None:
    """Line by line as it is copied; what `make report` does with photos, other tests see."""
    photos = colors(tmp_path / "my photos", classes=3, per_class=12)
    lines = [line for line in block("On photos of your own").splitlines() if "make " not in line]
    assert lines[0] == "export PHOTOS=~/photos" and len(lines) == 4
    bin_folder = Path(sys.executable).parent
    there = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "CARLIB_RUNS": "runs",
             "PHOTOS": str(photos)}  # fmt: skip
    done = subprocess.run(["bash", "-ec", "\n".join(lines[1:])], env=os.environ | there,
                          cwd=tmp_path, capture_output=True, encoding="utf-8",
                          timeout=1800)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("runs/lite0_frozen-*/last.safetensors"))) == 1


def test_other_blocks_name_commands_and_recipes_that_are_there() -> None:
    """Those of README's commands that no test runs: they take a GPU, or the network."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    shell = "".join(text for language, text in blocks if not language)
    calls = re.findall(r"^carlib ([a-z]+)((?: [^#\n]*)?)", shell, re.MULTILINE)
    assert len(calls) > 20
    options: dict[str, str] = {}
    for name, rest in calls:
        if name not in options:
            parts = [name, rest.split()[0]] if name == "data" else [name]
            shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*parts, "--help"])
            assert shown.exit_code == 0, (name, shown.output)
            if name == "data":
                continue
            options[name] = shown.output
        for option in re.findall(r"(?<!\S)--[a-z]+", rest):
            assert option in options[name], (name, option)
        if name == "train" and rest.strip() and not rest.strip().startswith("-"):
            assert rest.split()[0] in RECIPES


def test_every_link_of_the_web_pages_leads_somewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    written = importlib.import_module("pages").build(tmp_path / "site")
    assert len(written) == 2 + len(list((ROOT / "notebooks").glob("[0-9]*.ipynb")))
    for page in written:
        html = page.read_text(encoding="utf-8")
        assert 'name="viewport"' in html or 'name="viewport' in html.replace("'", '"'), page
        for target in re.findall(r'<(?:a|img)\b[^>]*?\b(?:href|src)="([^"]+)"', html):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, part = target.partition("#")
            assert not file or (page.parent / file).exists(), (page.name, target)
            assert file or not part or f'id="{part}"' in html, (page.name, target)
        assert "No description has been provided" not in html, page.name
