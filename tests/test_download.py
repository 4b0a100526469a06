"""Fetching from a server in this process that speaks the Hub's protocol, and cuts connections."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from trees import devkit, parquet
from typer.testing import CliRunner

from carlib.cli import app
from carlib.data import download as fetching
from carlib.data.download import HUB, check, fetch, from_kaggle
from carlib.errors import DataError

COMMIT = "c" * 40


class Hub:
    """A repository of two parquet files, served as the Hub serves it."""

    def __init__(self, folder: Path) -> None:
        parquet(folder / "train-00000-of-00001.parquet", [0, 1, 2, 0, 1, 2])
        parquet(folder / "test-00000-of-00001.parquet", [0, 1, 2])
        self.files = {f"data/{p.name}": p.read_bytes() for p in sorted(folder.glob("*.parquet"))}
        self.told = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        self.ranges: list[str] = []  # asked for, of parts of files
        self.cuts = 0  # connections still to be cut half way
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = self.path.split("?")[0]
                if path.startswith(f"/api/datasets/{HUB}/tree"):
                    return self.send(json.dumps(hub.tree()).encode(), body)
                if path.startswith(f"/api/datasets/{HUB}"):
                    return self.send(json.dumps(hub.about()).encode(), body)
                start = f"/datasets/{HUB}/resolve/"
                name = path.removeprefix(start).split("/", 1)[-1]
                if not path.startswith(start) or name not in hub.files:
                    return self.send_error(404)
                return self.send(hub.files[name], body, etag=hub.told[name])

            def send(self, data: bytes, body: bool, etag: str = "") -> None:
                first, asked = 0, self.headers.get("Range")
                if asked and etag:
                    hub.ranges.append(asked)
                    first = int(asked.removeprefix("bytes=").split("-")[0])
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(data) - first))
                self.send_header("Accept-Ranges", "bytes")
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                if etag:
                    self.send_header("ETag", f'"{etag}"')
                    self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if not body:
                    return
                if etag and hub.cuts:
                    hub.cuts -= 1
                    self.wfile.write(data[first : first + len(data) // 2])
                    self.wfile.flush()
                    self.connection.close()
                    return
                self.wfile.write(data[first:])

        return Handler

    def tree(self) -> list[dict]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": "b" * 40,
             "lfs": {"oid": self.told[name], "size": len(data), "pointerSize": 100}}
            for name, data in self.files.items()
        ]  # fmt: skip

    def about(self) -> dict:
        files = [
            {"rfilename": name, "size": len(data), "blobId": "b" * 40,
             "lfs": {"sha256": self.told[name], "size": len(data), "pointerSize": 100}}
            for name, data in self.files.items()
        ]  # fmt: skip
        return {"id": HUB, "sha": COMMIT, "siblings": files, "private": False, "tags": [],
                "downloads": 0, "likes": 0}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    served = Hub(tmp_path / "served")
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr(fetching, "STANFORD", {"train": 6, "test": 3})
    monkeypatch.setattr(fetching, "CLASSES", 3)
    yield served
    served.server.shutdown()


def test_what_was_fetched_is_a_catalog(hub, tmp_path) -> None:
    catalog = fetch("stanford_cars", tmp_path / "cars")
    assert catalog.split_sizes == {"train": 6, "test": 3} and catalog.num_classes == 3
    assert fetch("stanford_cars", tmp_path / "cars").fingerprint == catalog.fingerprint


def test_a_cut_download_goes_on_where_it_stopped(hub, tmp_path, monkeypatch) -> None:
    hub.cuts = 1
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 256)  # else 10 MiB
    fetch("stanford_cars", tmp_path / "cars")
    largest = max(len(data) for data in hub.files.values())
    assert [asked for asked in hub.ranges if 0 < int(asked[6:].split("-")[0]) < largest]


def test_a_file_that_arrived_damaged_is_deleted_and_named(hub, tmp_path) -> None:
    told = dict(hub.told)
    hub.told["data/test-00000-of-00001.parquet"] = (
        "0" * 64
    )  # what the Hub says is not what it sends
    with pytest.raises(
        DataError, match=r"test-00000-of-00001\.parquet: arrived damaged and was deleted"
    ):
        fetch("stanford_cars", tmp_path / "cars")
    assert not (tmp_path / "cars" / "data" / "test-00000-of-00001.parquet").exists()
    assert (tmp_path / "cars" / "data" / "train-00000-of-00001.parquet").exists()
    hub.told = told
    assert len(fetch("stanford_cars", tmp_path / "cars")) == 9


def test_too_few_photos_are_told(hub, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fetching, "STANFORD", {"train": 7, "test": 3})
    with pytest.raises(DataError, match=r"has \{'train': 6, 'test': 3\} photos, not"):
        fetch("stanford_cars", tmp_path / "cars")


def test_without_a_network_one_is_told_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = CliRunner().invoke(app, ["data", "fetch", "stanford_cars", "--to", str(tmp_path / "c")])
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert "cannot be reached" in done.output and "kaggle.com/datasets" in done.output


def test_kaggle_is_asked_by_its_own_library(tmp_path, monkeypatch) -> None:
    import kagglehub
    from trees import class_folders

    arrived = tmp_path / "kaggle"
    for split in ("train", "test"):
        class_folders(arrived / split)
    monkeypatch.setattr(kagglehub, "dataset_download", lambda name: str(arrived))
    from_kaggle(tmp_path / "cars")
    assert (tmp_path / "cars" / "train").is_dir()

    def refuse(name: str) -> str:
        raise RuntimeError("no route to host")

    monkeypatch.setattr(kagglehub, "dataset_download", refuse)
    with pytest.raises(DataError, match=r"Kaggle cannot be reached \(no route to host\)"):
        from_kaggle(tmp_path / "cars")


def test_compcars_is_asked_for_and_checked(tmp_path) -> None:
    with pytest.raises(DataError, match="researchers who sign its agreement"):
        fetch("compcars", tmp_path)


def test_missing_photos_are_counted(tmp_path) -> None:
    from carlib.data.opening import open_catalog

    root = devkit(tmp_path / "kit")
    (root / "cars_train" / "00002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 12 listed photos are missing, first cars_train"):
        check(open_catalog(root))


@pytest.mark.parametrize("options", [("imagenet", "hub"), ("stanford_cars", "usenet")])
def test_unknown_names_are_told(tmp_path, options) -> None:
    with pytest.raises(DataError, match="unknown"):
        fetch(options[0], tmp_path, options[1])
