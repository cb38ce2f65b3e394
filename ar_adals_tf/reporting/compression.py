"""What a report shows of compressed models: do they stay calibrated?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_TITLES
from ar_adals_tf.evaluation.compressed import FORMATS, Compressed, find_compressed
from ar_adals_tf.figures.compression import BySize, draw_by_size
from ar_adals_tf.figures.uncertain import Uncertain
from ar_adals_tf.reporting.certainty import INTERVALS_WORDS, Sample, uncertain
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import (
    MEASURES,
    Cell,
    Column,
    Item,
    Picture,
    Row,
    Table,
    cell_of,
)
from ar_adals_tf.reporting.names import strength_words
from ar_adals_tf.reporting.words import machine_words

_CAPTION = (
    "Pruned: the smallest weights of each dense layer and convolution are set to 0. "
    "The other weights are trained further by the run's own method, with its last soft "
    "labels. float16 and int8: LiteRT's formats, without further training. The run's "
    "temperature was fitted before the compression, the model's own one after it. "
    "Zeros make a file smaller only after gzip. Memory: the peak growth of a fresh "
    "process. Compare times on one machine only: "
)

Pair = tuple[Group, Compressed]


def compressed_groups(collection: Collection) -> list[Pair]:
    """Return the groups whose model was compressed, by run, format and sparsity."""
    found = [
        (group, find_compressed(group.runs[0].folder)) for group in collection.groups
    ]
    pairs = [(group, about) for group, about in found if about is not None]
    runs = list(dict.fromkeys(about.run_digest for _, about in pairs))
    formats = list(FORMATS)

    def place(pair: Pair) -> tuple[int, int, float]:
        about = pair[1]
        order = runs.index(about.run_digest), formats.index(about.format)
        return *order, about.sparsity

    return sorted(pairs, key=place)


def compression(collection: Collection) -> list[Item]:
    """Return the table of compressed models and the picture of ECE against size."""
    pairs = compressed_groups(collection)
    return [_table(collection, pairs), _picture(collection, pairs)] if pairs else []


def _table(collection: Collection, pairs: Sequence[Pair]) -> Table:
    ece, nll = MEASURES["ece"], MEASURES["nll"]
    columns = [
        MEASURES["accuracy"].column(),
        ece.column(),
        ece.column("ECE, the run's temperature (%)"),
        ece.column("ECE, its own temperature (%)"),
        nll.column(),
        nll.column("NLL, its own temperature (nats)"),
        MEASURES["accuracy"].column("Accuracy under shift (%)"),
        ece.column("ECE under shift (%)"),
        ece.column("ECE under shift, its own temperature (%)"),
    ]
    cases = [(name, collection.reference_of(name)) for name in collection.attacks]
    for attack, epsilon in cases:
        words = f"{BOUNDED_TITLES[attack]} {strength_words(epsilon)}"
        columns += [
            MEASURES["accuracy"].column(f"Accuracy, {words} (%)"),
            ece.column(f"ECE, {words} (%)"),
            ece.column(f"ECE, {words}, its own temperature (%)"),
        ]
    columns += [
        Column("File (MB)", 2),
        Column("File, gzip (MB)", 2),
        Column("Time an image (ms)", 3),
        Column("Memory (MB)", 1),
    ]
    rows, machines = [], []
    for group, about in pairs:
        cells = [*_clean(group, about), *_shifted(group)]
        for case in cases:
            cells += _attacked(group, *case)
        costs = about.costs
        cells += [
            _cost(costs, "file_bytes", 1e-6),
            _cost(costs, "gzip_bytes", 1e-6),
            _cost(costs, "seconds_per_image", 1e3),
            _cost(costs, "peak_bytes", 1e-6),
        ]
        rows.append(Row(group.label, cells, kind=about.run_digest))
        machines += [costs] if "hardware" in costs else []
    without = " LiteRT models have no gradient, so only the square attack is for them."
    return Table(
        f"compression_{collection.dataset}",
        f"Compressed models, {collection.title}",
        f"{_CAPTION}{machine_words(machines)}."
        f"{without if cases else ''} {collection.shift_words}".strip(),
        columns,
        rows,
        head="Model, pruned, number format",
    )


def _clean(group: Group, about: Compressed) -> list[Cell]:
    """Return accuracy, the three ECEs and the two NLLs on the clean test set."""
    ece, nll = MEASURES["ece"], MEASURES["nll"]
    scaled = group.with_temperature()
    before = about.runs_temperature.get("clean")
    own = (scaled.clean, None, scaled.clean_sample) if scaled else ([],)
    return [
        MEASURES["accuracy"].cell(group.clean, None, group.clean_sample),
        ece.cell(group.clean, None, group.clean_sample),
        _with_ends(ece.cell([before] if before else []), before),
        ece.cell(*own),
        nll.cell(group.clean, None, group.clean_sample),
        nll.cell(*own),
    ]


def _with_ends(cell: Cell, found: Mapping[str, Any] | None) -> Cell:
    """Return the cell of an ECE with the interval that is stored with it."""
    ends = (found or {}).get("interval", {}).get("ece")
    return replace(cell, low=100 * ends[0], high=100 * ends[1]) if ends else cell


def _shifted(group: Group) -> list[Cell]:
    return _before_and_after(
        group, lambda one: (one.shift_means(), None, one.shift_sample)
    )


def _attacked(group: Group, *case: Any) -> list[Cell]:
    return _before_and_after(
        group,
        lambda one: (one.attack_measures(*case), None, one.attack_sample(*case)),
    )


def _before_and_after(
    group: Group, measured: Callable[[Group], tuple[Any, ...]]
) -> list[Cell]:
    """Return accuracy, the ECE, and the ECE with the model's own temperature."""
    scaled = group.with_temperature()
    accuracy, ece = MEASURES["accuracy"], MEASURES["ece"]
    plain = measured(group)
    own = measured(scaled) if scaled else ([],)
    return [accuracy.cell(*plain), ece.cell(*plain), ece.cell(*own)]


def _cost(costs: Mapping[str, Any], name: str, scale: float) -> Cell:
    value = costs.get(name)
    return cell_of([] if value is None else [scale * value])


def _picture(collection: Collection, pairs: Sequence[Pair]) -> Picture:
    """Draw the ECE against the size after gzip, a line for each number format."""
    several = len({about.run_digest for _, about in pairs}) > 1
    panels: dict[str, dict[str, list[tuple[Compressed, Sample]]]] = {}
    for group, about in pairs:
        if "gzip_bytes" not in about.costs:
            continue
        name = f"{about.title}, {about.format}" if several else about.format
        scaled = group.with_temperature()
        for where, sample in {
            "Clean": group.clean_sample,
            "Clean, own temperature": scaled.clean_sample if scaled else None,
            "Under shift": group.shift_sample,
        }.items():
            if sample is not None:
                panels.setdefault(where, {}).setdefault(name, []).append(
                    (about, sample)
                )
    drawn = {
        where: {name: _line(points) for name, points in lines.items()}
        for where, lines in panels.items()
    }
    return Picture(
        f"compression_{collection.dataset}",
        f"ECE against size, {collection.title}",
        "Each point is a model. Above it, in its colour, stands the share of its "
        "weights that are pruned. At equal accuracy, which the table above has, lower "
        f"and further left is better. Size: the file after gzip. {INTERVALS_WORDS}",
        draw_by_size(drawn, MEASURES["ece"].heading(), "Size after gzip (MB)")
        if drawn
        else None,
        methods=tuple(group.label for group, _ in pairs),
    )


def _line(points: Sequence[tuple[Compressed, Sample]]) -> BySize:
    samples = [sample for _, sample in points]
    numbers: Uncertain = uncertain(samples, "ece", 100)
    sizes = np.array([about.costs["gzip_bytes"] / 1e6 for about, _ in points])
    words = [f"{100 * about.sparsity:g} %" for about, _ in points]
    return BySize(sizes, words, numbers)
