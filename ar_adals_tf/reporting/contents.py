"""What a report shows, in the order of the paper."""

from collections.abc import Callable, Sequence
from typing import Any

from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.items import Section
from ar_adals_tf.reporting.paper_figures import (
    figure_1,
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
    figure_11,
    soft_labels,
)
from ar_adals_tf.reporting.paper_tables import (
    more,
    ood_scores,
    overview,
    stability,
    table_1,
    table_2,
    table_3,
    table_4,
)


def report_sections(studies: Sequence[Collection]) -> list[Section]:
    """Return everything that a report shows, in the paper's order."""
    each: Callable[[Callable[..., Any]], list[Any]] = lambda make: [  # noqa: E731
        make(study) for study in studies
    ]
    return [
        Section("At a glance", each(overview)),
        Section("Table 1: networks and accuracy", [table_1(studies)]),
        Section("Table 2: clean and under shift", each(table_2)),
        Section("Table 3: variance under shift", each(table_3)),
        Section("Table 4: calibration error under shift", each(table_4)),
        Section("Figure 1: robustness and calibration", [figure_1(studies)]),
        Section("Figure 2: calibration by robustness level", _flat(each(figure_2))),
        Section("Figure 3: calibration error under shift", each(figure_3)),
        Section("Figure 4: how many robustness levels", each(figure_4)),
        Section("Figure 5: foreign images", _flat(each(figure_5))),
        Section("Figure 6: ensembles under shift", each(figure_6)),
        Section("Figure 7: reliability of single models and ensembles", each(figure_7)),
        Section("Figure 8: all methods under shift", _flat(each(figure_8))),
        Section("Figure 9: reliability of all methods", each(figure_9)),
        Section("Figure 10: what an ensemble changes", each(figure_10)),
        Section("Figure 11: variance under shift", each(figure_11)),
        Section("More measures, before and after temperature scaling", each(more)),
        Section("Telling foreign images", each(ood_scores)),
        Section("Stability between runs", _flat(each(stability))),
        Section("How the soft labels moved", _flat(each(soft_labels))),
    ]


def _flat(lists: Sequence[Sequence[Any]]) -> list[Any]:
    return [item for items in lists for item in items]
