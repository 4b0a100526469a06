"""What the kept logits tell of a network's answers, beyond what its record holds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import torch

from carlib.evaluation.metrics import answers_of, label_scores
from carlib.experiment.outputs import read_outputs
from carlib.experiment.record import Record
from carlib.experiment.tables import keeping_outputs, label_of
from carlib.report.rows import Row


def label_rows(records: Sequence[Record]) -> list[Row]:
    """What study S2 reported of answers, from the kept outputs: a row per network, best first."""
    rows = []
    for seeds in keeping_outputs(records, "evaluation").values():
        found = []
        for record, outputs in ((record, read_outputs(record)) for record in seeds):
            logits = torch.from_numpy(outputs.tensors["logits"])
            told = {key: record.metrics[key] for key in ("accuracy", "macro_f1", "weighted_f1")}
            found.append(told | label_scores(outputs.labels, answers_of(logits, outputs.labels)))
        means = {key: mean(one[key] for one in found) for key in found[0]}
        rows.append({"record": seeds[0].name, "label": label_of(seeds[0])} | means)
    return sorted(rows, key=lambda row: -row["accuracy"])
