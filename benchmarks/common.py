"""What the benchmarks end with."""

from __future__ import annotations

from carlib.experiment.record import Record


def tell(record: Record) -> Record:
    """Print the metrics, write the record, say where, and give it back."""
    for name, value in record.metrics.items():
        print(f"{name:36s} {value:.4g}")
    print(record.write())
    return record
