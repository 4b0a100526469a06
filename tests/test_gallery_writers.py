"""A gallery that several processes write and read at once, and whose writers are killed."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_gallery import points

from carlib.retrieval.gallery import Gallery

SIZES = (300, 500, 700)  # galleries that writers write in turn


def write(folder: str, ready) -> None:
    """Write one gallery after the other, until somebody ends this."""
    galleries = [Gallery.build(points(size)) for size in SIZES]
    ready.set()
    for gallery in itertools.cycle(galleries):
        gallery.save(folder)


@contextmanager
def writers(folder: Path, number: int) -> Iterator[list]:
    """Processes that write one gallery over and over, until they are killed here."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["carlib.retrieval.gallery", "faiss", "pandas"])
    flags = [context.Event() for _ in range(number)]
    started = [context.Process(target=write, args=(str(folder), flag)) for flag in flags]
    try:
        for writer in started:
            writer.start()
        for flag in flags:
            assert flag.wait(600)
        yield started
    finally:
        for writer in started:
            writer.kill()
            writer.join()


def check(folder: Path) -> int:
    """The gallery is a whole one of SIZES: its rows and its vectors belong together."""
    gallery = Gallery.load(folder, network="net")
    photos = points(len(gallery))
    assert len(gallery) in SIZES and gallery.table["path"].tolist() == list(photos.paths)
    found = gallery.search(photos.vectors[[0, -1]], k=1)
    assert found["path"].tolist() == list(photos.paths[[0, -1]])
    return len(gallery)


def test_readers_beside_two_writers_find_a_whole_gallery(tmp_path) -> None:
    Gallery.build(points(SIZES[0])).save(tmp_path)
    with writers(tmp_path, 2) as running:
        seen = [check(tmp_path) for _ in range(300)]
        assert all(writer.is_alive() for writer in running)  # neither failed
    assert len(set(seen)) > 1  # there was writing in between
    check(tmp_path)


def test_twenty_writers_killed_while_they_write(tmp_path) -> None:
    generator = random.Random(0)
    Gallery.build(points(SIZES[0])).save(tmp_path)
    for _ in range(20):
        with writers(tmp_path, 1) as (writer,):
            time.sleep(generator.uniform(0, 0.05))
            writer.kill()
        check(tmp_path)
    Gallery.build(points(SIZES[1])).save(tmp_path)  # what the killed ones left is gone
    names = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert names == ["gallery.json", "gallery.lock", "index", "photos"]


@pytest.mark.parametrize("part", ["index", "photos"])
def test_a_gallery_without_a_file_is_no_loop(tmp_path, part: str) -> None:
    Gallery.build(points(20)).save(tmp_path)
    next(tmp_path.glob(f"{part}-*")).unlink()
    with pytest.raises(Exception, match=r"no such file; build|damaged gallery"):
        Gallery.load(tmp_path)
