"""The paper's Figure 4: how many robustness levels are needed."""

from collections.abc import Mapping, Sequence

import numpy as np

from ar_adals_tf import figures
from ar_adals_tf.figures.uncertain import Uncertain
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.certainty import BARS_WORDS, uncertain
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import MEASURES, Missing, Picture, in_words
from ar_adals_tf.reporting.run import Run, in_words_by_setting

#: The numbers of robustness levels of the paper's Figure 4; 1 is AdaLS.
_NUMBERS_OF_LEVELS = (1, 2, 4, 8, 10, 16)


def figure_4_number_of_levels(collection: Collection) -> Picture:
    """Draw the ECE against the number of robustness levels."""
    ece = MEASURES["ece"]
    sets = _by_number_of_levels(collection)
    lines: dict[str, dict[int, float]] = {}
    errors: dict[str, Uncertain] = {}
    for groups, words in zip(sets, _names(sets), strict=True):
        name = f", {words}" if words else ""
        shifted = {r: group for r, group in groups.items() if group.has_shift}
        lines[f"clean test set{name}"] = {
            r: float(np.mean(ece.values(group.clean))) for r, group in groups.items()
        }
        lines[f"under shift{name}"] = {
            r: float(np.mean(ece.values(g.shift_means()))) for r, g in shifted.items()
        }
        ordered = [groups[r] for r in sorted(groups)]
        clean = [group.clean_sample for group in ordered]
        moved = [group.shift_sample for group in ordered if group.has_shift]
        errors[f"clean test set{name}"] = uncertain(clean, ece.name, ece.scale)
        errors[f"under shift{name}"] = uncertain(moved, ece.name, ece.scale)
    drawn = any(len(line) > 1 for line in lines.values())
    title = collection.title
    return Picture(
        f"figure_4_{collection.dataset}",
        f"ECE and the number of robustness levels, {title}",
        "R: the number of robustness levels of the training images. A line joins runs "
        "that differ only in R; R = 1 is AdaLS with the alpha of AR-AdaLS. Lower is "
        "better: look at how little is gained beyond a few levels. "
        f"{BARS_WORDS}",
        figures.draw_by_number_of_levels(lines, ece.heading(), title, errors)
        if drawn
        else None,
        _missing_numbers(collection, sets[0] if sets else {}),
    )


def _by_number_of_levels(collection: Collection) -> list[dict[int, Group]]:
    """Return AR-AdaLS's groups by R, one mapping for each set of other settings.

    AdaLS with the same settings is R = 1 of each set. A mapping of one R is left out
    if there are others.
    """
    sets: dict[str, dict[int, Group]] = {}
    for group in collection.groups:
        if group.method == "ar_adals":
            run = group.runs[0]
            own = sets.setdefault(run.settings_without("num_levels"), {})
            own[run.config["num_levels"]] = group
    no_levels = ("method", "num_levels", "attack", "attack_settings", "levels_from")
    for group in collection.groups:
        for own in sets.values() if group.method == "adals" else ():
            like = _first(own).settings_without(*no_levels)
            if group.runs[0].settings_without(*no_levels) == like:
                own.setdefault(1, group)
    found = list(sets.values())
    return [own for own in found if len(own) > 1] or found[:1]


def _names(sets: Sequence[Mapping[int, Group]]) -> list[str]:
    """Return what tells sets of settings apart, in words; nothing for a single set."""
    words = [in_words_by_setting(_first(groups).settings) for groups in sets]
    names = dict.fromkeys(name for own in words for name in own if name != "R")
    told = [name for name in names if len({own.get(name) for own in words}) > 1]
    return [
        ", ".join(f"{name} {own.get(name, 'default')}" for name in told)
        for own in words
    ]


def _first(groups: Mapping[int, Group]) -> Run:
    """Return a run of AR-AdaLS."""
    return next(g.runs[0] for g in groups.values() if g.method == "ar_adals")


def _missing_numbers(
    collection: Collection, groups: Mapping[int, Group]
) -> list[Missing]:
    """Return what is missing where the paper's numbers of levels have no run."""
    if not collection.follows_the_paper:
        return []
    absent = [r for r in _NUMBERS_OF_LEVELS if r not in groups]
    like = _first(groups) if groups else None
    makers = [
        commands.train_command(
            collection.dataset, "ar_adals", collection.runs[0], num_levels=r
        )
        if like is None
        else commands.like_command(like, num_levels=r)
        for r in absent
    ]
    what = f"no runs with R = {in_words(absent)}" if absent else ""
    return commands.missing(what, makers)
