"""The web demo: identify a car, search a data set, compare two photos; on this machine only.

`build` makes the page around functions that take paths and give answers, so that what is shown is
tested without a browser, and the page in one.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

from carlib.errors import CarlibError, RunError, optional, shown
from carlib.files import unforeseen

with optional():
    import gradio as gr

from carlib.apps import server
from carlib.apps.predictor import Predictor, open_photo
from carlib.data.catalog import Catalog
from carlib.data.class_names import parse_name
from carlib.data.images import decode_photo, resize
from carlib.data.opening import open_catalog
from carlib.plots import overlay
from carlib.retrieval.embeddings import embed
from carlib.retrieval.gallery import Gallery
from carlib.runtime import give_back_freed_memory

SHOWN_SIDE = 640  # pixels: longer sides are made smaller, for the answer and for the page
NEIGHBORS = 8  # that a search gives
ANY = "any make"
SHOWN = {"interactive": False, "height": 300, "buttons": ["download", "fullscreen"]}
# One photo at a time goes through the network, whoever asks and for what.
QUEUE = {
    "concurrency_id": "network", "concurrency_limit": 1, "show_progress": "minimal",
    "api_visibility": "private",
}  # fmt: skip
WAITING = 64  # people; the next one is asked to come back
INTRODUCTION = """# Which car is this?
A network that learned {classes} classes answers here, on this computer; no photo leaves it.
The car should fill the photo."""


class Demo:
    """What the page does, one method per button; each takes paths of uploaded files."""

    def __init__(self, predictor: Predictor, catalog: Catalog) -> None:
        self.predictor, self.catalog = predictor, catalog
        self.gallery = Gallery.build(embed(predictor.checkpoint, catalog, progress=False))

    def identify(self, path: str | None) -> tuple[dict[str, float], str, np.ndarray]:
        """Top-5 with probabilities, what the name says in words, and Grad-CAM over the photo."""
        photo = _upload(path)
        answer = self.predictor.identify(photo)
        name = parse_name(answer.names[0])
        facts = {"make": name.make, "model": name.model, "body": name.body, "year": name.year}
        words = " · ".join(f"{key} **{value}**" for key, value in facts.items() if value)
        words = words or f"**{answer.names[0]}**"
        if not answer.known:
            words = f"**Not a car I know.** The nearest would be: {words}"
        heat = overlay(photo, self.predictor.heat(photo))
        return dict(zip(answer.names, answer.probabilities, strict=True)), words, heat

    def search(self, path: str | None, make: str = ANY) -> list[tuple[np.ndarray, str]]:
        """The most similar photos of the data set with a caption each."""
        where = None if make == ANY else {"make": make}
        rows = self.gallery.search(self.predictor.embed(_upload(path)), NEIGHBORS, where)
        captions = [f"{row.similarity:.2f} {row.class_name}" for row in rows.itertuples()]
        photos = [decode_photo(self.catalog.source.read(path), path) for path in rows["path"]]
        return list(zip(map(_smaller, photos), captions, strict=True))

    def compare(self, path: str | None, other: str | None) -> tuple[str, np.ndarray, np.ndarray]:
        """Whether two photos show the same model, and what makes them alike in each."""
        one, two = _upload(path), _upload(other)
        verdict = self.predictor.compare(one, two)
        maps = self.predictor.shared(one, two)
        words = "The same model" if verdict.same else "Two models"
        words = (
            f"**{words}.** Probability of the same: {verdict.probability:.0%} "
            f"(similarity {verdict.similarity:.2f})"
        )
        return words, overlay(one, maps[0]), overlay(two, maps[1])

    @property
    def makes(self) -> list[str]:
        """What the search can be narrowed to."""
        return [ANY, *sorted(self.gallery.table["make"].dropna().unique())]

    def examples(self, count: int = 4) -> list[str]:
        """Files of drawn cars; none where the data set's photos are no files."""
        one_each = self.catalog.table.drop_duplicates("label")["path"]
        spread = one_each[:: max(1, len(one_each) // count)][:count]
        files = [self.catalog.root / path for path in spread]
        shown = self.catalog.publishable and all(file.is_file() for file in files)
        return [str(file) for file in files] if shown else []


def build(demo: Demo) -> gr.Blocks:
    """The page, not yet served; what it is sent is deleted after `server.KEPT` seconds."""
    cleaning = (60, server.KEPT)  # every so many seconds, files so many seconds old
    with gr.Blocks(title="carlib", analytics_enabled=False, delete_cache=cleaning) as page:
        gr.Markdown(INTRODUCTION.format(classes=len(demo.predictor.class_names)))
        with gr.Tab("Identify"):
            _identify_tab(demo)
        with gr.Tab("Search"):
            _search_tab(demo)
        with gr.Tab("Compare"):
            _compare_tab(demo)
    return page.queue(max_size=WAITING, api_open=False)


def _identify_tab(demo: Demo) -> None:
    with gr.Row():
        with gr.Column():
            photo = _photo_field("photo")
            button = gr.Button("Which car is this?", variant="primary")
        with gr.Column():
            words, bars = gr.Markdown(), gr.Label(label="guesses", num_top_classes=5)
        heat = gr.Image(label="where the network looked", **SHOWN)
    identified = {"fn": _answering(demo.identify), "inputs": photo, "outputs": [bars, words, heat]}
    button.click(**identified, **QUEUE)
    if files := demo.examples():
        # Not gr.Examples, which asks past the queue, where the server answers nobody.
        drawn = gr.Dataset(
            components=[photo], samples=[[file] for file in files], type="index", label="drawn cars"
        )
        chosen = _answering(partial(_chosen, files))
        drawn.click(chosen, drawn, photo, api_visibility="private").success(**identified, **QUEUE)


def _search_tab(demo: Demo) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            query = _photo_field("photo to search for")
            make = gr.Dropdown(demo.makes, value=ANY, label="make")
            button = gr.Button("Find cars like this", variant="primary")
        photos = gr.Gallery(label=f"of {len(demo.gallery):,} photos", columns=4, scale=2,
                            buttons=["download", "fullscreen"])  # fmt: skip
    button.click(_answering(demo.search), [query, make], photos, **QUEUE)


def _compare_tab(demo: Demo) -> None:
    with gr.Row():
        one, two = _photo_field("one photo"), _photo_field("another")
    button = gr.Button("The same model?", variant="primary")
    verdict = gr.Markdown()
    with gr.Row():
        shared = [gr.Image(label="what is alike", **SHOWN) for _ in range(2)]
    button.click(_answering(demo.compare), [one, two], [verdict, *shared], **QUEUE)


def _photo_field(label: str) -> gr.Image:
    """Where a photo is given: its file itself, as `open_photo` knows more ways to fail in words.

    (No subclass, of which gradio would write a stub file beside this one.)
    """
    image = gr.Image(label=label, sources=["upload", "clipboard"], type="filepath", height=300)
    image.preprocess = lambda payload: _sent(payload.path) if payload and payload.path else None
    return image


def _sent(path: str) -> str:
    """A path that a browser names; anything that was not sent to this server is refused."""
    folder = Path(gr.utils.get_upload_folder()).resolve()
    try:
        file = Path(path).resolve(strict=True)
    except (OSError, ValueError):
        raise gr.Error("This photo is no longer here; upload it again.", duration=None) from None
    if not file.is_relative_to(folder):
        raise gr.Error("Only photos that were uploaded here are looked at.", duration=None)
    return str(file)


def _chosen(files: Sequence[str], number: int) -> str:
    """The file of a picture that was clicked."""
    if not 0 <= number < len(files):
        raise CarlibError("There is no such picture.")
    return files[number]


def _answering(answer: Callable) -> Callable:
    """A method of `Demo` whose errors stay on the page, in words, until they are closed."""

    def answered(*inputs):
        try:
            return server.within(server.SECONDS, answer, *inputs)
        except CarlibError as error:
            raise _told(str(error)) from None
        except Exception as error:
            raise _told(unforeseen(error)) from None
        finally:
            give_back_freed_memory()

    return answered


def _told(words: str) -> gr.Error:
    """An error that the page shows; names of files stand in it as they are, not as HTML."""
    return gr.Error(html.escape(shown(words)), duration=None, print_exception=False)


@contextmanager
def served(demo: Demo, port: int) -> Iterator[gr.Blocks]:
    """The page, served on this machine until the end of the block; its address is `local_url`.

    Raises `RunError` when the port is taken, or when this process serves a page already.
    """
    with server.alone(), server.uploads() as folder:
        page = build(demo)
        try:
            page.launch(
                server_name=server.HOSTS[0], server_port=port, share=False, quiet=True,
                prevent_thread_lock=True, allowed_paths=demo.examples(), footer_links=[],
                max_file_size=server.UPLOAD, ssr_mode=False, enable_monitoring=False,
                mcp_server=False, pwa=False,
                app_kwargs=server.guarded([folder, *map(Path, demo.examples())]),
            )  # fmt: skip
        except OSError:
            raise RunError(f"port {port} is taken; choose another with --port") from None
        try:
            yield page
        finally:
            page.close(verbose=False)


def serve(predictor: Predictor, data: str = "showroom", port: int = 7860) -> None:
    """Serve the demo on this machine alone until Ctrl-C.

    Raises `RunError` when the port is taken.
    """
    demo = Demo(predictor, open_catalog(data).with_val())
    with server.ended_properly(), served(demo, port) as page:
        print(
            f"Open {page.local_url} in a browser of this machine; Ctrl-C ends the demo.", flush=True
        )
        page.block_thread()


def _upload(path: str | None) -> np.ndarray:
    if not path:
        raise CarlibError("Give a photo first.")
    return _smaller(open_photo(path, Path(path).name))


def _smaller(photo: np.ndarray) -> np.ndarray:
    """The photo with a longer side of SHOWN_SIDE at most: larger than any network's input."""
    scale = SHOWN_SIDE / max(photo.shape[:2])
    if scale >= 1:
        return photo
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    return resize(photo, width, height)
