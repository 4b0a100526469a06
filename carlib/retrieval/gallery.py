"""A gallery people can keep: photos one can add, remove, filter and search, in this process.

`Gallery` searches with faiss inside this process: "flat" is exact, "ivf_pq" a compressed index for
millions of photos whose nearest candidates are ranked again exactly. (A graph, faiss' HNSW, found
.99 of the true ten nearest among 100,000 photos 12 times as fast as exact search; "ivf_pq" finds
.996 of them 56 times as fast.)
`MilvusGallery` gives the same calls to a Milvus database, for galleries larger than one machine.
Either refuses embeddings of another network than the one it was built with, and knows a photo by
the digest of its bytes: one that was replaced since is told by `changed`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock

from carlib.data.catalog import Catalog
from carlib.data.digests import UNREADABLE
from carlib.errors import RunError
from carlib.files import check_regular, checked, made, read_json, write_atomically, writing
from carlib.retrieval.embeddings import Embeddings, scaled

if TYPE_CHECKING:
    import faiss

KINDS = ("flat", "ivf_pq")
KEPT = ("path", "label", "class_name", "make", "model", "year")  # beside every vector
FILTERS = ("class_name", "make", "model", "year")
EXACT = 20_000  # so few photos are compared one by one when a filter leaves no more
CANDIDATES = 16  # of "ivf_pq" per neighbor asked for, ranked again exactly
# What `Gallery.save` writes, also when killed half-way. Other files of the folder stay.
OURS = re.compile(
    r"(index|photos)-\d+-\d+-\d+-[0-9a-f]{6}\.(faiss|parquet)(\..*\.tmp)?|gallery\.json\..*\.tmp"
)
ABOUT = {"kind": str, "network": str, "index": str, "table": str}  # what its description says
Where = Mapping[str, object]  # a column of FILTERS: a value, or a list of values


# --- in this process: faiss ---------------------------------------------------------------------


class Gallery:
    """Embeddings in a faiss index, with the photos' rows beside it.

    A removed photo stays in the index and is passed over in every search; `compact` rebuilds the
    index without them.
    """

    def __init__(self, index: faiss.Index, table: pd.DataFrame, kind: str, network: str) -> None:
        self.index, self.kind, self.network = index, kind, network
        self.table = table  # a row per vector ever added, with `there` (bool): not removed

    @classmethod
    def build(cls, embeddings: Embeddings, kind: str = "flat") -> Gallery:
        """A gallery of these photos; "ivf_pq" learns its cells and codes from them first."""
        if kind not in KINDS:
            raise RunError(f"unknown kind of gallery {kind!r}; known: {', '.join(KINDS)}")
        if not len(embeddings):
            raise RunError("a gallery needs at least one photo to begin with")
        vectors = scaled(embeddings.vectors)
        gallery = cls(
            _new_index(kind, vectors), kept_rows(embeddings)[:0], kind, embeddings.network
        )
        gallery.add(embeddings)
        return gallery

    def __len__(self) -> int:
        return int(self.table["there"].sum())

    def add(self, embeddings: Embeddings) -> None:
        """Add photos; `RunError` for those of another network or already there."""
        check_network(self.network, embeddings)
        known = set(self.table["path"][self.table["there"]])
        twice = [path for path in embeddings.paths if path in known or known.add(path)]
        if twice:
            raise RunError(f"{twice[0]}: in the gallery already ({len(twice)} such); remove first")
        if embeddings.vectors.shape[1] != self.index.d:
            raise RunError(
                f"embeddings have {embeddings.vectors.shape[1]} dims, the gallery {self.index.d}"
            )
        self.index.add(scaled(embeddings.vectors))
        self.table = pd.concat([self.table, kept_rows(embeddings)], ignore_index=True)

    def changed(self, catalog: Catalog) -> list[str]:
        """Paths of photos whose bytes in the catalog are not those that the gallery knows."""
        there = self.table[self.table["there"]]
        now = dict(zip(catalog.table["path"], catalog.digests, strict=True))
        return changed_paths(there["path"], there["photo"], now)

    def remove(self, paths: Sequence[str]) -> int:
        """Take photos out by path and give how many were there."""
        gone = self.table["there"] & self.table["path"].isin(list(paths))
        self.table.loc[gone, "there"] = False
        return int(gone.sum())

    def compact(self) -> Gallery:
        """A new gallery of the photos that are there; memory of removed ones is free again."""
        there = np.flatnonzero(self.table["there"])
        table = self.table.loc[there, [*KEPT, "photo"]].reset_index(drop=True)
        return Gallery.build(Embeddings(self._vectors(there), table, self.network), self.kind)

    def search(self, queries: np.ndarray, k: int = 10, where: Where | None = None) -> pd.DataFrame:
        """The k photos most similar to each query (queries, dims), among those `where` allows.

        `where` maps columns of FILTERS to a value or a list, such as {"make": "Audi", "year":
        [2011, 2012]}. Columns of the result: `query` (0-based), `rank` (1-based), `similarity`
        (cosine), then the photo's. Where fewer than k are allowed, all of them are given; an index
        that looks in a part of the gallery gives what it finds there, which may be fewer.
        """
        queries = checked_queries(queries, self.index.d, k)
        allowed = self.table["there"].to_numpy(bool) & _matches(self.table, where)
        k = min(k, int(allowed.sum()))
        if not k:
            return _result(
                np.empty((len(queries), 0)), np.empty((len(queries), 0), int), self.table
            )
        if allowed.all():
            similarity, neighbors = self.index.search(queries, k)
        elif allowed.sum() <= EXACT:
            positions = np.flatnonzero(allowed)
            similarity, neighbors = _exact(self._vectors(positions), queries, k)
            neighbors = positions[neighbors]
        else:
            # faiss' bridge to torch, once anything imports it, replaces `search` by one of its own.
            search = getattr(self.index, "search_numpy", self.index.search)
            parameters = _parameters(self.index, self.kind, allowed)
            similarity, neighbors = search(queries, k, params=parameters)
        return _result(similarity, neighbors, self.table)

    def _vectors(self, positions: np.ndarray) -> np.ndarray:
        """Vectors (photos, dims) at some positions, as the index keeps them."""
        keeper = self.index
        if self.kind == "ivf_pq":  # the exact ones, kept for the second ranking
            import faiss

            keeper = faiss.downcast_index(self.index.refine_index)
        return keeper.reconstruct_batch(np.asarray(positions, np.int64))

    # --- on disk ---

    def save(self, folder: Path | str) -> Path:
        """Write the gallery; a kill in the middle leaves the one that was there before.

        The description is written last and names the files that belong to it. One process writes
        at a time, and the last one's gallery stays.
        """
        folder = made(Path(folder))
        with writing(folder), FileLock(folder / "gallery.lock"):
            self._write(folder)
        return folder

    def _write(self, folder: Path) -> None:
        import faiss

        version = f"{os.getpid()}-{len(self.table)}-{self.index.ntotal}-{os.urandom(3).hex()}"
        about = {
            "kind": self.kind,
            "network": self.network,
            "dims": self.index.d,
            "photos": len(self),
            "index": f"index-{version}.faiss",
            "table": f"photos-{version}.parquet",
        }
        write_atomically(folder / about["index"], faiss.serialize_index(self.index).tobytes())
        write_atomically(folder / about["table"], self.table.to_parquet())
        write_atomically(folder / "gallery.json", json.dumps(about, indent=1) + "\n")
        for old in folder.iterdir():
            if OURS.fullmatch(old.name) and old.name not in about.values():
                with suppress(PermissionError):  # Windows: somebody reads it; the next one deletes
                    old.unlink()

    @classmethod
    def load(
        cls, folder: Path | str, network: str | None = None, catalog: Catalog | None = None
    ) -> Gallery:
        """Read a gallery back.

        Raises `RunError` for one of another network when `network` is given, and for one of other
        photos when `catalog` is.
        """
        folder = Path(folder)
        try:
            about, index, table = _read(folder)
        except FileNotFoundError as error:
            raise RunError(f"{error.filename}: no such file; build the gallery first") from None
        except Exception as error:  # pandas, pyarrow and faiss fail in many ways
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(f"{folder}: a damaged gallery ({reason}); build it again") from None
        if network is not None and about["network"] != network:
            raise RunError(
                f"{folder}: built with checkpoint {about['network']}, not {network}; "
                f"build a gallery with this checkpoint"
            )
        if "photo" not in table:  # written before galleries knew their photos' bytes
            table["photo"] = UNREADABLE
        gallery = cls(index, table, about["kind"], about["network"])
        if catalog is not None and (others := gallery.changed(catalog)):
            raise RunError(
                f"{folder}: {len(others)} of its photos are others in {catalog.name} now, such as "
                f"{others[0]}; remove and add them, or build the gallery again"
            )
        return gallery


def _read(folder: Path) -> tuple[dict[str, object], faiss.Index, pd.DataFrame]:
    """The description of a gallery and the two files that it names.

    Where a writer has just replaced them by others, the description is read again.
    """
    about = checked(read_json(folder / "gallery.json"), **ABOUT)
    while True:
        try:
            return about, *_read_files(folder, about)
        except Exception:  # faiss tells a file that is gone from one that is damaged in words only
            now = checked(read_json(folder / "gallery.json"), **ABOUT)
            if now == about:
                raise
            about = now


def _read_files(folder: Path, about: Mapping[str, object]) -> tuple[faiss.Index, pd.DataFrame]:
    import faiss

    files = [folder / Path(about[part]).name for part in ("index", "table")]
    for file in files:
        check_regular(file)
    index, table = faiss.read_index(str(files[0])), pd.read_parquet(files[1])
    index = _tuned(index, about["kind"])
    _check_table(table, index)
    return index, table


def _check_table(table: pd.DataFrame, index: faiss.Index) -> None:
    absent = [column for column in (*KEPT, "there") if column not in table]
    if absent or len(table) != index.ntotal:
        raise ValueError(f"{len(table)} rows without {absent} for {index.ntotal} points")


def _new_index(kind: str, vectors: np.ndarray) -> faiss.Index:
    import faiss

    count, dims = vectors.shape
    if kind == "flat":
        return faiss.IndexFlatIP(dims)
    # Cells by the square root of the photos, 32 to 64 photos each at least to place their centers.
    cells = max(1, min(int(4 * np.sqrt(count)), count // 40))
    parts = next(m for m in (64, 48, 32, 16, 8, 4, 2, 1) if m <= dims and dims % m == 0)
    if count < 16:
        raise RunError(f'"ivf_pq" needs 16 photos or more to learn from, not {count}; use "flat"')
    index = faiss.index_factory(dims, f"IVF{cells},PQ{parts}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    return _tuned(index, kind)


def _tuned(index: faiss.Index, kind: str) -> faiss.Index:
    """How widely an approximate index looks; faiss does not keep all of it on disk."""
    import faiss

    if kind not in KINDS:
        raise ValueError(f"no kind of gallery {kind!r}")
    if kind == "ivf_pq":
        index.k_factor = CANDIDATES
        cells = faiss.extract_index_ivf(index.base_index)
        cells.nprobe = max(1, min(cells.nlist, 8 + cells.nlist // 64))
    return index


def _parameters(index: faiss.Index, kind: str, allowed: np.ndarray) -> faiss.SearchParameters:
    """Search among allowed positions only; what `_tuned` says must then be said again."""
    import faiss

    selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    if kind == "flat":
        return faiss.SearchParameters(sel=selector)
    probes = faiss.extract_index_ivf(index.base_index).nprobe
    base = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
    return faiss.IndexRefineSearchParameters(k_factor=CANDIDATES, base_index_params=base)


def _exact(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    return faiss.knn(queries, vectors, k, faiss.METRIC_INNER_PRODUCT)


# --- what both share ----------------------------------------------------------------------------


def kept_rows(embeddings: Embeddings) -> pd.DataFrame:
    """Rows of a gallery's table: KEPT, the photos' digests as `photo`, and that they are there."""
    table = embeddings.table.reindex(columns=[*KEPT, "photo"]).reset_index(drop=True)
    table["photo"] = table["photo"].astype("string").fillna(UNREADABLE)
    return table.assign(there=True)


def changed_paths(paths: Sequence[str], photos: Sequence[str], now: Mapping[str, str]) -> list[str]:
    """Paths whose photo, a digest, is not what it is now; `now` maps paths to digests."""
    pairs = zip(paths, photos, strict=True)
    return [path for path, photo in pairs if photo == UNREADABLE or now.get(path) != photo]


def check_network(network: str, embeddings: Embeddings) -> None:
    """Refuse embeddings of another checkpoint than the gallery's."""
    if embeddings.network != network:
        raise RunError(
            f"the gallery was built with checkpoint {network}, these embeddings with "
            f"{embeddings.network}; points of two networks cannot be compared"
        )


def checked_queries(queries: np.ndarray, dims: int, k: int) -> np.ndarray:
    """Queries (queries, dims), scaled to length one."""
    if queries.ndim != 2 or queries.shape[1] != dims:
        raise RunError(f"queries must be (queries, {dims}), not {queries.shape}")
    if not np.isfinite(queries).all():
        raise RunError("queries hold values that are no numbers")
    if k < 1:
        raise RunError(f"k is {k}; it must be 1 or more")
    return scaled(queries)


def conditions_of(where: Where | None) -> list[tuple[str, list[object]]]:
    """Columns and the values that a filter allows."""
    conditions = []
    for column, wanted in (where or {}).items():
        if column not in FILTERS:
            raise RunError(f"cannot filter by {column!r}; known: {', '.join(FILTERS)}")
        several = isinstance(wanted, (list, tuple, set, frozenset, range, np.ndarray))
        conditions.append((column, list(wanted) if several else [wanted]))
    return conditions


def _matches(table: pd.DataFrame, where: Where | None) -> np.ndarray:
    mask = np.ones(len(table), bool)
    for column, wanted in conditions_of(where):
        mask &= table[column].isin(wanted).fillna(False).to_numpy(bool)
    return mask


def _result(similarity: np.ndarray, neighbors: np.ndarray, table: pd.DataFrame) -> pd.DataFrame:
    """One row per query and neighbor; places that a search left empty (−1) are dropped."""
    queries, ranks = np.indices(neighbors.shape)
    real = neighbors.ravel() >= 0
    photos = table.iloc[neighbors.ravel()[real]][list(KEPT)].reset_index(drop=True)
    head = {"query": queries.ravel()[real], "rank": ranks.ravel()[real] + 1,
            "similarity": similarity.ravel()[real].astype(float)}  # fmt: skip
    return pd.concat([pd.DataFrame(head), photos], axis=1)
