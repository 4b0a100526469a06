"""The demo as a server: what hostile clients ask for, and what stays behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from filelock import FileLock
from test_demo import demo, free_port, upload  # noqa: F401 (a fixture)

from carlib.apps import server
from carlib.apps.demo import Demo, served
from carlib.errors import CarlibError
from carlib.paths import cache_root

META = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARLIB_CACHE", str(tmp_path_factory.mktemp("served")))
        yield Path(os.environ["CARLIB_CACHE"])


@pytest.fixture(scope="module")
def client(demo: Demo, cache: Path) -> Iterator[httpx.Client]:  # noqa: F811
    before = os.environ.get(server.TOLD)
    with served(demo, free_port()) as page, httpx.Client(base_url=page.local_url) as made:
        made.timeout = 120
        yield made
        assert any((cache / "uploads").iterdir())
    assert list((cache / "uploads").iterdir()) == []  # what people sent ends with the server
    assert os.environ.get(server.TOLD) == before


def send(client: httpx.Client, path: Path | str) -> str:
    """Upload a file as the page does; where it lies now."""
    name = Path(path).name
    done = client.post("/gradio_api/upload", files={"files": (name, Path(path).read_bytes())})
    assert done.status_code == 200, done.text
    return done.json()[0]


def ask(client: httpx.Client, function: int, data: list[object], session: str = "one") -> dict:
    """Join the queue as the page does and read the answer."""
    body = {"data": data, "fn_index": function, "session_hash": session}
    done = client.post("/gradio_api/queue/join", json=body)
    assert done.status_code == 200, done.text
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            if line.startswith("data:"):
                told = json.loads(line[5:])
                if told["msg"] == "process_completed":
                    return told
    raise AssertionError("the queue ended without an answer")


def functions(client: httpx.Client) -> list[int]:
    """Numbers of the page's three buttons: identify, search, compare."""
    page = client.get("/config").json()
    buttons = {part["id"] for part in page["components"] if part["type"] == "button"}
    return [
        one["id"]
        for one in page["dependencies"]
        if buttons & {target[0] for target in one["targets"]}
    ]


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::2]", ""])
def test_another_name_for_this_machine_is_refused(client, host: str) -> None:
    """Else a page of another site, whose name leads here, could read the answers."""
    for path in ("/", "/config", "/gradio_api/queue/data"):
        assert client.get(path, headers={"host": host}).status_code == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example"])
def test_a_page_of_another_site_is_refused(client, origin: str) -> None:
    for path in ("/gradio_api/upload", "/gradio_api/queue/join"):
        done = client.post(path, headers={"origin": origin}, json={})
        assert done.status_code == 403
        assert "access-control-allow-origin" not in done.headers


def test_the_page_itself_is_served(client) -> None:
    for path in ("/", "/config", "/theme.css"):
        assert client.get(path).status_code == 200
    local = {"origin": str(client.base_url).rstrip("/")}
    assert client.post("/gradio_api/queue/join", headers=local, json={}).status_code == 422


# --- for what -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/docs", "/redoc", "/openapi.json", "/gradio_api/openapi.json", "/gradio_api/info",
     "/gradio_api/info/", "/gradio_api/api_info", "/monitoring", "/monitoring/summary",
     "/gradio_api/runs", "/runs", "/login", "/gradio_api/token", "/gradio_api/dev/reload",
     "/gradio_api/proxy=http://127.0.0.1:1/", "/gradio_api/file=http://127.0.0.1:1/x",
     "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../../../etc/passwd",
     "/gradio_api/file=%2Fetc%2Fpasswd", "/gradio_api/file=", "/gradio_api/file=.",
     "/gradio_api/file=/proc/self/environ", "/gradio_api/file/etc/passwd", "/file=/etc/passwd",
     "/gradio_api/custom_component/x/y/z/w", "/gradio_api/vibe-code/", "/gradio_api/deep_link",
     "/gradio_api/mcp/", "/no/such/page"],
)  # fmt: skip
def test_what_no_page_needs_is_not_there(client, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get(path.replace("_", "%5F")).status_code == 404


@pytest.mark.parametrize("call", ["run/identify", "api/predict", "call/identify", "run/predict"])
def test_other_programs_cannot_call(client, call: str) -> None:
    assert client.post(f"/gradio_api/{call}", json={"data": []}).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused(client, method: str) -> None:
    assert client.request(method, "/").status_code == 405


def test_files_outside_are_never_read(client, demo, tmp_path) -> None:  # noqa: F811
    """A photo that was not uploaded is refused however it is named; a good one is answered."""
    number, inside = functions(client)[0], send(client, upload(tmp_path))
    outside = upload(tmp_path, "outside.png")
    os.mkfifo(tmp_path / "pipe.png")
    folder = Path(inside).parent
    ways = [outside, str(tmp_path / "pipe.png"), "/dev/zero", "/etc/passwd", "../../etc/passwd",
            f"{folder}/{os.path.relpath(outside, folder)}", "", "\0", "x" * 5000, "~/photo.jpg",
            str(demo.catalog.root / demo.catalog.table["path"][0]), "http://127.0.0.1:1/x.png",
            "file:///etc/passwd", str(folder)]  # fmt: skip
    started = time.perf_counter()
    for way in ways:
        for photo in ({"path": way, "meta": META}, {"path": way}, {"path": way, "url": way},
                      way, [way], {"path": {"path": way}}):  # fmt: skip
            told = ask(client, number, [photo])
            assert not told["success"], way
            assert "passwd:" not in json.dumps(told)
    assert time.perf_counter() - started < 600  # none of them waits for anything
    told = ask(client, number, [{"path": inside, "meta": META}])
    assert told["success"] and told["output"]["data"][0]["label"] == "red disc"
    answered = told["output"]["data"][2]["path"]
    assert client.get(f"/gradio_api/file={answered}").status_code == 200
    assert client.get(f"/gradio_api/file={outside}").status_code == 404


def test_what_is_no_photo_is_told_in_words(client, tmp_path) -> None:
    number = functions(client)[0]
    for name, content in (("empty.jpg", b""), ("<b>x</b>.jpg", b"text"), ("zeros.png", bytes(99))):
        (tmp_path / "file").write_bytes(content)
        done = client.post("/gradio_api/upload", files={"files": (name, content or b"")})
        told = ask(client, number, [{"path": done.json()[0], "meta": META}])
        assert not told["success"] and "<b>" not in told["output"]["error"]
        assert "not an image file" in told["output"]["error"]


def test_a_make_that_is_not_offered_is_refused(client, tmp_path) -> None:
    photo = {"path": send(client, upload(tmp_path)), "meta": META}
    for make in ("no such make", {"a": 1}, ["x"], 7):
        assert not ask(client, functions(client)[1], [photo, make])["success"]


# --- how much, and for how long -------------------------------------------------------------------


def test_uploads_and_messages_have_a_largest_size(client) -> None:
    large = client.post("/gradio_api/upload", files={"files": ("a.jpg", bytes(server.UPLOAD + 1))})
    assert large.status_code == 413 and "more than" in large.text
    message = client.post("/gradio_api/queue/join", content=b" " * (server.MESSAGE + 1))
    assert message.status_code == 413
    endless = client.post("/gradio_api/upload", content=iter([b"x"]))  # chunked: without a length
    assert endless.status_code == 411


def test_an_answer_that_never_comes_holds_nobody_up(client, demo, tmp_path, monkeypatch) -> None:  # noqa: F811
    photo = {"path": send(client, upload(tmp_path)), "meta": META}
    monkeypatch.setattr(server, "SECONDS", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(demo.predictor, "identify", lambda _: time.sleep(3600))
        told = ask(client, functions(client)[0], [photo])
        assert "no answer within" in told["output"]["error"]
    monkeypatch.setattr(server, "SECONDS", 600.0)
    assert ask(client, functions(client)[0], [photo])["success"]


def test_what_nobody_foresaw_is_told_and_kept(client, demo, tmp_path, monkeypatch) -> None:  # noqa: F811
    photo = {"path": send(client, upload(tmp_path)), "meta": META}
    monkeypatch.setattr(demo.predictor, "identify", lambda _: 1 / 0)
    told = ask(client, functions(client)[0], [photo])["output"]["error"]
    (log,) = (cache_root() / "errors").iterdir()
    assert "unexpected error ZeroDivisionError" in told and str(log) in told
    assert "ZeroDivisionError" in log.read_text(encoding="utf-8")
    log.unlink()  # no other test may leave one


def test_errors_and_answers_come_from_the_thread_that_worked() -> None:
    assert server.within(60, lambda x: x + 1, 1) == 2
    assert server.within(60, lambda: None) is None
    with pytest.raises(CarlibError, match="words"):
        server.within(60, lambda: (_ for _ in ()).throw(CarlibError("words")))


def test_twenty_at_once_are_all_answered(client, tmp_path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    number, photo = functions(client)[0], {"path": send(client, upload(tmp_path)), "meta": META}
    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(lambda n: ask(client, number, [photo], f"s{n}"), range(20)))
    assert all(one["success"] for one in told)


# --- what stays -----------------------------------------------------------------------------------


def test_uploads_lie_in_a_folder_of_this_user_alone(client, cache, tmp_path) -> None:
    path = Path(send(client, upload(tmp_path)))
    assert path.is_relative_to(cache / "uploads") and path.exists()
    for folder in (cache / "uploads", *(cache / "uploads").glob("*/")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


SERVER = """\
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from carlib.apps import server
with server.ended_properly(), server.uploads() as folder:
    (folder / "photo.jpg").write_bytes(b"of a user")
    print(folder, flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_uploads_are_gone_however_the_server_ends(tmp_path, monkeypatch, how) -> None:
    """After a kill they go when the next server begins; those of one that runs are left alone."""
    monkeypatch.setenv("CARLIB_CACHE", str(tmp_path))
    ended, runs = (
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
        for _ in range(2)
    )  # fmt: skip
    try:
        folders = [Path(process.stdout.readline().strip()) for process in (ended, runs)]
        ended.send_signal(how)
        ended.wait(600)
        assert folders[0].exists() == (how == signal.SIGKILL)
        assert folders[0].with_suffix(".lock").exists() == (how == signal.SIGKILL)
        with server.uploads() as third:
            assert third.exists() and not folders[0].exists()
            assert (folders[1] / "photo.jpg").exists()
        assert not third.exists()
    finally:
        for process in (ended, runs):
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_folder_that_cannot_be_made_is_told_as_what_it_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CARLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(Path, "mkdir", failing_mkdir)
    with pytest.raises(PermissionError, match="no folder here"), server.uploads():
        pass


def failing_mkdir(self: Path, *args: object, **options: object) -> None:
    """Refuses the folder of one server; the one above it is there."""
    if self.parent.name == "uploads":
        raise PermissionError("no folder here")
    os.makedirs(self, exist_ok=True)


def test_a_lock_without_a_folder_is_no_trouble(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CARLIB_CACHE", str(tmp_path))
    (tmp_path / "uploads").mkdir()
    with FileLock(tmp_path / "uploads" / "old.lock"):
        pass
    with server.uploads() as folder:
        assert folder.exists()
