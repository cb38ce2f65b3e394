"""What a page misses, in one list with the commands that make it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ar_adals_tf.reporting.items import Item, Missing, Section

TITLE = "What is missing"
ANCHOR = "missing"


@dataclass
class Lack:
    """One entry of the list: what is missing, its commands, and which items want it."""

    missing: Missing
    items: list[Item] = field(default_factory=list)


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
                key = one.what, tuple(one.commands)
                found.setdefault(key, Lack(one)).items.append(item)
    return list(found.values())


def line(item: Item) -> str:
    """Return the line that stands in an item for what it misses; empty for nothing."""
    return "; ".join(one.what for one in item.all_missing())


def number_of_commands(found: Iterable[Lack]) -> int:
    """Return how many different commands a list has."""
    return len({command for lack in found for command in lack.missing.commands})
