"""What a report shows, and in which order."""

import functools
from collections.abc import Sequence

from ar_adals_tf.reporting import (
    attack_figures,
    attack_tables,
    comparisons,
    further,
    rejection,
    trade_off,
)
from ar_adals_tf.reporting import paper_figures as figures
from ar_adals_tf.reporting import paper_tables as tables
from ar_adals_tf.reporting.answer import answers
from ar_adals_tf.reporting.certificates import certificates
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.compression import compression
from ar_adals_tf.reporting.gallery import gallery
from ar_adals_tf.reporting.items import Item, Section
from ar_adals_tf.reporting.number_of_levels import figure_4_number_of_levels
from ar_adals_tf.reporting.own import (
    Make,
    further_measures,
    own_sections,
    section_of,
)
from ar_adals_tf.reporting.posthoc import rivals_after_training
from ar_adals_tf.reporting.verdict import all_verdicts


def report_sections(collections: Sequence[Collection]) -> list[Section]:
    """Return the sections of a report; those without an item are left out.

    The answer comes first. Collections that follow the paper have its tables and
    figures, with what of these is missing; the others have what there is.
    """
    paper = [collection for collection in collections if collection.follows_the_paper]
    own = [one for one in collections if not one.follows_the_paper]
    sections = [section for one in collections for section in _first(one)]
    sections.append(section_of("The least and the most robust", gallery, collections))
    sections += paper_sections(paper) if paper else []
    sections += own_sections(own) if own else []
    sections += attack_sections(collections)
    smoothing = "Certified by randomised smoothing"
    sections.append(section_of(smoothing, certificates, collections))
    return [section for section in sections if section.items]


def _first(collection: Collection) -> list[Section]:
    """Return what answers the reader: a comparison, and the verdicts on models.

    A single model has no comparison, so that its verdict comes before the table.
    """
    compared, verdicts = answers([collection]), all_verdicts([collection])
    one_model = not any(section.paragraphs for section in compared)
    return [*verdicts, *compared] if one_model else [*compared, *verdicts]


def paper_sections(collections: Sequence[Collection]) -> list[Section]:
    """Return the paper's tables and figures in its order, then further ones."""
    table_1 = tables.table_1_networks(collections)
    figure_1 = figures.figure_1_robustness_and_calibration(collections)
    made: dict[str, Item | Make] = {
        "Which differences are significant?": _told_apart,
        "Table 1: networks and accuracy": table_1,
        "Table 2: clean and under shift": tables.table_2_clean_and_under_shift,
        "Table 3: variance under shift": tables.table_3_variance_under_shift,
        "Table 4: calibration error under shift": tables.table_4_error_under_shift,
        "Figure 1: robustness and calibration": figure_1,
        "Figure 2: calibration by robustness level": (
            figures.figure_2_calibration_by_level
        ),
        "Figure 3: calibration error under shift": figures.figure_3_error_under_shift,
        "Figure 4: how many robustness levels": figure_4_number_of_levels,
        "Figure 5: out-of-distribution images": figures.figure_5_entropy,
        "Figure 6: ensembles under shift": figures.figure_6_ensembles_under_shift,
        "Figure 7: reliability of single models and ensembles": (
            figures.figure_7_reliability_of_ensembles
        ),
        "Figure 8: all methods under shift": figures.figure_8_all_methods_under_shift,
        "Figure 9: reliability of all methods": (
            figures.figure_9_reliability_of_all_methods
        ),
        "Reliability without bins": figures.smooth_diagrams,
        "Figure 10: what an ensemble changes": figures.figure_10_single_and_ensemble,
        "Figure 11: variance under shift": figures.figure_11_variance_under_shift,
        "More measures, before and after temperature scaling": further_measures,
        "Calibration after training": rivals_after_training,
        "Detecting out-of-distribution images": further.ood_scores,
        "Stability between runs": further.stability,
        "How the soft labels moved": further.soft_labels,
    }
    return [
        section_of(title, make, collections)
        if callable(make)
        else Section(title, [make])
        for title, make in made.items()
    ]


def attack_sections(collections: Sequence[Collection]) -> list[Section]:
    """Return what a report shows of models under attack and of their costs."""
    table, costs = attack_tables.under_attack, attack_tables.costs
    made: dict[str, Make] = {
        "Under attack: every strength": _every_strength,
        "Under attack: which differences are significant?": (
            comparisons.told_apart_under_attack
        ),
        "Under attack: reliability": attack_figures.reliability_under_attack,
        "Under attack: by robustness level": _under_attack_by_level,
        "Under attack: rejecting low confidence": rejection.rejecting,
        "Clean accuracy, robust accuracy and calibration": trade_off.trade_off,
        "How far an L2 budget goes": attack_figures.l2_success,
    }
    measured = [one for one in collections if one.runs_under_attack]
    # The study's table and the costs are asked for where the paper is followed.
    table_of = [
        one
        for one in collections
        if one.follows_the_paper or set(attack_tables.STUDY_ATTACKS) & {*one.attacks}
    ]
    costs_of = [
        one
        for one in collections
        if one.follows_the_paper or any("footprint" in run.metrics for run in one.runs)
    ]
    return [
        section_of("Under attack: the study's table", table, table_of),
        *(section_of(title, make, measured) for title, make in made.items()),
        section_of("What a model costs: time, size and memory", costs, costs_of),
        section_of("Compression", compression, collections),
    ]


def chosen_sections(
    collections: Sequence[Collection], trade_off_of: Sequence[str] | None
) -> list[Section]:
    """Return what a report shows because it was asked for.

    Args:
        collections: The collections.
        trade_off_of: Two of `trade_off.AIMS`, or None.
    """
    if trade_off_of is None:
        return []
    names = list(trade_off_of)
    title = f"The trade-off of {' and '.join(map(trade_off.in_text, names))}"
    make = functools.partial(trade_off.chosen_trade_off, names=names)
    return [section_of(title, make, collections)]


def _told_apart(collection: Collection) -> list[Item]:
    return [comparisons.told_apart(collection), comparisons.noise_floors(collection)]


def _under_attack_by_level(collection: Collection) -> list[Item]:
    tables = comparisons.attacked_confidence_by_level(collection)
    return [*attack_figures.levels_under_attack(collection), *tables]


def _every_strength(collection: Collection) -> list[Item]:
    tables = attack_tables.by_strength(collection)
    return [*tables, attack_figures.over_strength(collection)]
