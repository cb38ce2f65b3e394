"""Figures beyond the paper."""

import csv

import numpy as np

from ar_adals_tf import captions, figures
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.items import Picture, slug


def soft_labels(collection: Collection) -> list[Picture]:
    """Draw how p[r] moved in the first run of each group with several levels."""
    pictures = []
    for group in collection.groups:
        path = group.runs[0].folder / "history.csv"
        if not path.exists() or not group.runs[0].config.get("num_levels"):
            continue
        with path.open() as file:
            history = list(csv.DictReader(file))
        names = [name for name in history[0] if name.startswith("p/")]
        if len(names) < 2 or len(history) < 2:
            continue
        p = np.array([[float(row[name]) for name in names] for row in history])
        pictures.append(
            Picture(
                f"soft_labels_{collection.dataset}_{slug(group.key)}",
                f"{group.label}, {collection.title}",
                captions.SOFT_LABELS,
                figures.draw_soft_labels(p),
            )
        )
    return pictures
