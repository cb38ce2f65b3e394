"""What a page misses, in one list with the commands that make it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ar_adals_tf.reporting.items import Item, Missing, Section, in_words

TITLE = "What is missing"
ANCHOR = "missing"


@dataclass
class Lack:
    """One entry of the list: what is missing, and the sections that want it."""

    missing: Missing
    wanted_by: dict[str, Item] = field(default_factory=dict)  # an item, by its section


def lacks(sections: Iterable[Section], beyond: Sequence[Missing] = ()) -> list[Lack]:
    """Return everything that is missing, each thing once, in the order of the page.

    Args:
        sections: The sections of a page.
        beyond: What the page misses as a whole, such as the cells of a study; it
            stands first.
    """
    found = {(one.what, tuple(one.commands)): Lack(one) for one in beyond}
    for section in sections:
        for item in section.items:
            for one in item.all_missing():
                lack = found.setdefault((one.what, tuple(one.commands)), Lack(one))
                lack.wanted_by.setdefault(section.title, item)
    return list(found.values())


def line(item: Item) -> str:
    """Return the line that stands in an item for what it misses; empty for nothing.

    Example:
        >>> from ar_adals_tf.reporting.items import Picture
        >>> runs = [Missing("CIFAR-10: no run of A", (), "A"), Missing("", (), "B")]
        >>> line(Picture("f", "", "", None, [*runs, Missing("no levels")]))
        'no levels; no run of A and B'
    """
    words = [one.what for one in item.all_missing() if not one.run]
    runs = [one.run for one in item.all_missing() if one.run]
    return "; ".join([*words, *([f"no run of {in_words(runs)}"] if runs else [])])


def number_of_commands(found: Iterable[Lack]) -> int:
    """Return how many different commands a list has."""
    return len({command for lack in found for command in lack.missing.commands})
