"""The same gallery in a Milvus database, for galleries larger than one machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from carlib.data.catalog import Catalog
from carlib.errors import RunError, optional
from carlib.retrieval.embeddings import Embeddings, scaled
from carlib.retrieval.gallery import (
    KEPT,
    Where,
    changed_paths,
    check_network,
    checked_queries,
    conditions_of,
    kept_rows,
)

BATCH = 1000  # photos that go to the database at once


class MilvusGallery:
    """The same gallery in a Milvus database: a file (Milvus Lite) or the address of a cluster.

    `address` is a path ending in .db, or such as "http://host:19530". What is added is there at
    once and for good; there is nothing to save.
    """

    def __init__(self, address: str, name: str = "cars", network: str | None = None) -> None:
        self.client = _connect(address)
        self.network = self._network_of(self.client, name)
        if self.network is None:
            raise RunError(f"{address}: no gallery {name!r} there; build it first")
        if not self.network:
            raise RunError(f"{address}: gallery {name!r} is empty; drop it and build it again")
        if network is not None and self.network != network:
            raise RunError(
                f"{address}: gallery {name!r} was built with checkpoint {self.network}, "
                f"not {network}; build one with this checkpoint"
            )
        self.collection = name
        fields = self.client.describe_collection(self.collection)["fields"]
        self.dims = next(f["params"]["dim"] for f in fields if f["name"] == "vector")

    @staticmethod
    def _network_of(client: Any, name: str) -> str | None:
        """The checkpoint a gallery was built with, as its photos say; None where there is none.

        (Milvus Lite keeps no description of a collection.)
        """
        if not client.has_collection(name):
            return None
        fields = {field["name"] for field in client.describe_collection(name)["fields"]}
        if "network" not in fields:
            raise RunError(f"collection {name!r} is no gallery of this version; use another name")
        first = client.query(name, filter="", output_fields=["network"], limit=1)
        return first[0]["network"] if first else ""

    @classmethod
    def build(cls, embeddings: Embeddings, address: str, name: str = "cars") -> MilvusGallery:
        """A new gallery of these photos at an address; one of that name must not be there."""
        client = _connect(address)
        from pymilvus import DataType  # after `_connect`, which says what to install

        if cls._network_of(client, name) is not None:
            raise RunError(f"{address}: there is a gallery {name!r} already; drop it first")
        schema = client.create_schema(auto_id=False)
        schema.add_field("path", DataType.VARCHAR, is_primary=True, max_length=1024)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=embeddings.vectors.shape[1])
        for column in ("class_name", "make", "model", "photo", "network"):
            schema.add_field(column, DataType.VARCHAR, max_length=256)
        for column in ("label", "year"):
            schema.add_field(column, DataType.INT64)
        indexes = client.prepare_index_params()
        indexes.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        client.create_collection(
            name,
            schema=schema,
            index_params=indexes,
            consistency_level="Strong",
        )
        _insert(client, name, embeddings)
        return cls(address, name)

    def __len__(self) -> int:
        counted = self.client.query(self.collection, filter="", output_fields=["count(*)"])
        return int(counted[0]["count(*)"])

    def add(self, embeddings: Embeddings) -> None:
        """Add photos; `RunError` for those of another network or already there."""
        check_network(self.network, embeddings)
        _insert(self.client, self.collection, embeddings)

    def changed(self, catalog: Catalog) -> list[str]:
        """As `Gallery.changed`, of the photos that the catalog has."""
        now = dict(zip(catalog.table["path"], catalog.digests, strict=True))
        there = self.client.get(self.collection, ids=list(now), output_fields=["path", "photo"])
        return changed_paths([r["path"] for r in there], [r["photo"] for r in there], now)

    def remove(self, paths: Sequence[str]) -> int:
        """Take photos out by path and give how many were there."""
        there = self.client.get(self.collection, ids=list(paths), output_fields=["path"])
        if there:
            self.client.delete(self.collection, ids=[row["path"] for row in there])
        return len(there)

    def search(self, queries: np.ndarray, k: int = 10, where: Where | None = None) -> pd.DataFrame:
        """As `Gallery.search`."""
        queries = checked_queries(queries, self.dims, k)
        neighbors = self.client.search(
            self.collection,
            data=queries.tolist(),
            limit=k,
            filter=_expression(where),
            output_fields=list(KEPT),
            search_params={"metric_type": "IP"},
        )
        rows = [
            {"query": query, "rank": rank, "similarity": hit["distance"]} | hit["entity"]
            for query, hits in enumerate(neighbors)
            for rank, hit in enumerate(hits, start=1)
        ]
        return pd.DataFrame(rows, columns=["query", "rank", "similarity", *KEPT])

    def drop(self) -> None:
        """Delete the gallery from the database."""
        self.client.drop_collection(self.collection)


def _connect(address: str) -> Any:
    with optional():
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException
    try:
        return MilvusClient(address)
    except (MilvusException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{address}: no Milvus database answers there ({reason})") from None


def _insert(client: Any, collection: str, embeddings: Embeddings) -> None:
    for start in range(0, len(embeddings), BATCH):
        part = embeddings.select(np.arange(start, min(start + BATCH, len(embeddings))))
        there = client.get(collection, ids=list(part.paths), output_fields=["path"])
        if there:
            raise RunError(f"{there[0]['path']}: in the gallery already; remove it first")
        rows = kept_rows(part).drop(columns="there").assign(network=embeddings.network)
        rows = rows.fillna({"class_name": "", "make": "", "model": "", "label": -1, "year": -1})
        pairs = zip(rows.to_dict(orient="records"), scaled(part.vectors), strict=True)
        client.insert(
            collection, [{**_plain(row), "vector": vector.tolist()} for row, vector in pairs]
        )


def _expression(where: Where | None) -> str:
    """A filter in Milvus' language; values are quoted as JSON, which it reads."""
    terms = []
    for column, wanted in conditions_of(where):
        terms.append(f"{column} in {json.dumps([_native(value) for value in wanted])}")
    return " and ".join(terms)


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    return {key: _native(value) for key, value in row.items()}


def _native(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
