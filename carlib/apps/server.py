"""Serving the demo's page on this machine alone: who may ask, for what, how much, for how long.

Gradio serves far more than a page needs: schemas, other programs' calls, files by their path. Here
only what the page itself asks for is let through, and what people send lies in a folder of this
server's own, which ends with it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from carlib.errors import CarlibError, RunError
from carlib.files import made
from carlib.paths import cache_root

HOSTS = ("127.0.0.1", "localhost")
UPLOAD = 64 * 2**20  # bytes of a photo: more than any camera's JPEG
MESSAGE = 2**18  # bytes of any other request
SECONDS = 120.0  # that one answer may take
KEPT = 600  # seconds that photos and answers are kept while the server runs
TOLD = "GRADIO_TEMP_DIR"  # where gradio looks for the folder of uploads
SERVING = threading.Lock()  # held while this process serves a page
FILE = "/gradio_api/file="
UPLOADS = "/gradio_api/upload"
# What the page asks for, as its browser's log shows; no schema, no version, no call by name.
PAGE = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/assets/.+|/static/.+"
    r"|/gradio_api/(upload|upload_progress|queue/join|queue/data|heartbeat/\w+|startup-events"
    r"|reset|cancel|theme\.css|app_id)/?"
)


class Guard:
    """Lets through what the page asks for, of bounded size; an ASGI middleware.

    Files are given out only from `folders`, and requests that come from another site's page are
    refused even where a browser would send them.
    """

    def __init__(self, app: Callable, folders: Sequence[Path]) -> None:
        self.app, self.folders = app, [folder.resolve() for folder in folders]

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        """Answer a refused request here, pass every other on."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        status, words = self._refusal(scope) if scope["type"] == "http" else (404, "no such page")
        if status:
            return await PlainTextResponse(f"{words}\n", status)(scope, receive, send)
        return await self.app(scope, receive, send)

    def _refusal(self, scope: dict[str, Any]) -> tuple[int, str]:
        """The status and words with which a request is refused, or 0."""
        path, headers = scope["path"], dict(scope["headers"])
        if not (PAGE.fullmatch(path) or (path.startswith(FILE) and self._is_given_out(path))):
            return 404, "no such page"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "no such method"
        origin = urlsplit(headers.get(b"origin", b"").decode("latin-1"))
        if origin.netloc and origin.hostname not in HOSTS:
            return 403, "asked from another site's page"
        if scope["method"] != "POST":
            return 0, ""
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return 411, "say how long it is"
        most = UPLOAD if path.rstrip("/") == UPLOADS else MESSAGE
        return (413, f"more than {most:,} bytes") if int(length) > most else (0, "")

    def _is_given_out(self, path: str) -> bool:
        file = Path(unquote(path[len(FILE) :]))
        with suppress(OSError, ValueError):
            return any(file.resolve().is_relative_to(folder) for folder in self.folders)
        return False


def guarded(folders: Sequence[Path]) -> dict[str, Any]:
    """What gradio's application is made with: the guards, and no pages about itself."""
    guards = [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
        Middleware(Guard, folders=folders),
    ]
    return {"middleware": guards, "docs_url": None, "redoc_url": None, "openapi_url": None}


@contextmanager
def alone() -> Iterator[None]:
    """The block in which this process serves a page; `RunError` where another one is served.

    Gradio asks the environment, at each request, where uploads lie: a second page would turn
    away what people send to the first.
    """
    if not SERVING.acquire(blocking=False):
        raise RunError("this process serves a demo already; end it before another begins")
    try:
        yield
    finally:
        SERVING.release()


@contextmanager
def uploads() -> Iterator[Path]:
    """A folder for what people send, which only this user can read, and which is deleted after.

    Gradio is told of it. Folders of servers that were killed are deleted when the next one begins.
    """
    root = made(cache_root() / "uploads")
    root.chmod(0o700)
    for lock in root.glob("*.lock"):
        with suppress(Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            with suppress(PermissionError):  # Windows keeps a file that is held open
                lock.unlink(missing_ok=True)
    folder = root / uuid.uuid4().hex
    lock, before = folder.with_suffix(".lock"), os.environ.get(TOLD)
    try:
        with FileLock(lock):
            folder.mkdir(mode=0o700)
            os.environ[TOLD] = str(folder)
            yield folder
    finally:
        os.environ.pop(TOLD, None)  # not set yet where the folder could not be made
        if before is not None:
            os.environ[TOLD] = before
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)


def within(seconds: float, answer: Callable, *inputs: Any) -> Any:
    """What `answer(*inputs)` gives; `CarlibError` where it takes longer.

    A thread cannot be stopped: one that takes longer is left to itself, and nobody waits for it.
    """
    given: list[Any] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            given.append(answer(*inputs))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not given:
        raise CarlibError(f"no answer within {seconds:.0f} seconds; try a smaller photo")
    return given[0]


@contextmanager
def ended_properly() -> Iterator[None]:
    """Have a server that is told to end (SIGTERM) clean up as after Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
