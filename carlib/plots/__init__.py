# ruff: noqa: F401 (a package of figures, offered under one name)
"""Pictures of data, training and results, in one style.

Every function takes data and gives a matplotlib `Figure`; none saves, shows or writes a file.
"""

from carlib.plots.charts import (
    bar_counts,
    bars_with_intervals,
    class_histogram,
    class_map,
    compare_curves,
    confusion_chart,
    counts_chart,
    coverage,
    curves,
    lines,
    points_with_intervals,
    reliability_diagram,
    roc_curves,
    similarity_histograms,
    size_and_aspect,
)
from carlib.plots.diagrams import flow
from carlib.plots.pictures import (
    augmentations,
    catalog_montage,
    heat_grid,
    heat_rows,
    montage,
    neighbors,
    overlay,
    pair_rows,
)
