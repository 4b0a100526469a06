"""The record of an audit."""

from __future__ import annotations

from carlib.data.audit import Audit
from carlib.data.catalog import Catalog
from carlib.experiment.host import command_line
from carlib.experiment.record import Record


def audit_record(result: Audit, catalog: Catalog) -> Record:
    """The record of an audit: its summary as metrics, photos per class and split as an extra."""
    copies = result.copies()
    return Record(
        kind="audit",
        data={
            "catalog": catalog.name,
            "dataset": catalog.extras.dataset,
            "fingerprint": result.fingerprint,
            "photos": len(catalog),
            "classes": catalog.num_classes,
            "split_hashes": {name: catalog.split_hash(name) for name in catalog.split_sizes},
        },
        metrics=result.summary(),
        extra={
            "class_counts": [
                {"class": name, **counts}
                for name, counts in result.class_counts.to_dict(orient="index").items()
            ],
            "copy_groups": {
                "exact": int((copies["kind"] == "exact").sum()),
                "near": int((copies["kind"] == "near").sum()),
                "across splits": int(copies["leaks"].sum()),
            },
            # Class names of each group whose copies bear different ones.
            "differing_labels": [names for names in copies["classes"] if len(names) > 1],
        },
        command=command_line(),
    )
