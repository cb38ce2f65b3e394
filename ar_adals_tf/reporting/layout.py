"""The whole page of a report: what stands where, contents list, style and script."""

import itertools
import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ar_adals_tf.reporting import html, missing
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.items import Item, Picture, Section, Table
from ar_adals_tf.reporting.missing import Lack
from ar_adals_tf.reporting.names import adversarial_study, paper
from ar_adals_tf.version import __version__

_SMALL = 6.2  # inches of a figure of which two stand side by side


def whole(
    title: str,
    collections: Sequence[Collection],
    sections: Sequence[Section],
    found: Sequence[Lack],
    made_by: tuple[str, str],
    folder: Path,
) -> str:
    """Return the page, which needs no other file.

    Args:
        title: Its heading.
        collections: What it is on.
        sections: What it shows. Items have the names of their files.
        found: What is missing.
        made_by: The title of the last section, and its commands.
        folder: The report's folder, which has the pictures already.
    """
    numbered = [(f"s{number}", section) for number, section in enumerate(sections)]
    shown = {a: _section(a, section, folder) for a, section in numbered}
    body = [shown[a] for a, section in numbered if not section.first]
    entries = [(a, section.title) for a, section in numbered]
    if found:
        entries.append((missing.ANCHOR, missing.TITLE))
        body.append(_missing(found))
    last, commands = made_by
    entries.append(("made", last))
    body.append(f'<section id="made"><h2>{last}</h2>{html.code(commands)}</section>')
    script = _read("report.js")
    return string.Template(_read("report.html")).substitute(
        policy=html.policy(script),
        style=_read("report.css"),
        script=script,
        title=html.text(title),
        lead=html.text(_lead(collections)),
        first="\n".join(shown[a] for a, section in numbered if section.first),
        contents=html.links(entries) + _by_method(collections, sections),
        body="\n".join(body),
        source=html.text(_source(collections)),
    )


def _read(name: str) -> str:
    return (resources.files("ar_adals_tf") / "data" / name).read_text(encoding="utf-8")


def _section(anchor: str, section: Section, folder: Path) -> str:
    look = ' class="first"' if section.first else ""
    words = "\n".join(
        f"<p><b>{html.text(name)}</b>: {html.prose(words)}</p>"
        for name, words in section.paragraphs
    )
    items = [(item, html.article(item, folder)) for item in section.items]
    pictures = [shown for item, shown in items if isinstance(item, Picture)]
    rest = [shown for item, shown in items if not isinstance(item, Picture)]
    if section.first and len(pictures) == 1:
        parts = [
            '<div class="beside"><div>',
            words,
            "</div>",
            *pictures,
            "</div>",
            *rest,
        ]
    elif section.first and pictures:
        parts = [words, '<div class="row">', *pictures, "</div>", *rest]
    else:
        parts = [words, *_side_by_side(items)]
    head = f'<section id="{anchor}"{look}><h2>{html.text(section.title)}</h2>'
    return "\n".join([head, *parts, "</section>"])


def _side_by_side(items: Sequence[tuple[Item, str]]) -> list[str]:
    """Return items, with small pictures that follow each other in one frame."""
    parts = []
    for small, some in itertools.groupby(items, lambda pair: _is_small(pair[0])):
        shown = [one for _, one in some]
        parts += ['<div class="pairs">', *shown, "</div>"] if small else shown
    return parts


def _is_small(item: Item) -> bool:
    if not isinstance(item, Picture) or item.figure is None:
        return False
    return item.figure.get_figwidth() <= _SMALL


def _missing(found: Sequence[Lack]) -> str:
    number = missing.number_of_commands(found)
    words = f"{number} command{'s' * (number != 1)} would make all of it."
    return (
        f'<section id="{missing.ANCHOR}"><h2>{missing.TITLE}</h2><p>{words}</p>'
        f'<ol class="lacks">{"".join(map(html.lack, found))}</ol></section>'
    )


def _by_method(collections: Sequence[Collection], sections: Sequence[Section]) -> str:
    """Return the links to each method's figures."""
    groups = (group.label for one in collections for group in one.groups)
    items = [item for section in sections for item in section.items]
    parts = []
    for label in dict.fromkeys(groups):
        own = [
            (html.anchor(item), item.title)
            for item in items
            if not isinstance(item, Table)
            and label in item.methods
            and not (isinstance(item, Picture) and item.figure is None)
        ]
        if own:
            head = f"<summary>{html.text(label)}</summary>"
            parts.append(f"<details>{head}{html.links(own)}</details>")
    return "\n".join(["<h2>Figures by method</h2>", *parts]) if parts else ""


def _lead(collections: Sequence[Collection]) -> str:
    parts = []
    for collection in collections:
        runs = collection.runs
        names = ", ".join(group.label for group in collection.groups)
        seeds = sorted({run.config["seed"] for run in collection.trained})
        kind = "run" if seeds else "model"
        number = f"{len(runs)} {kind}{'s' * (len(runs) > 1)}"
        words = f"; seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        parts.append(f"{collection.title}: {number} ({names}{words if seeds else ''})")
    return (
        f"{'; '.join(parts)}. Calibration asks whether a classifier that says 90 % is "
        "right nine times in ten; ECE is how far it is off, so lower is better."
    )


def _source(collections: Sequence[Collection]) -> str:
    """Return who wrote the page, and whose figures stand beside ours, if any do."""
    ours = f"ar_adals_tf {__version__}."
    if not any(collection.follows_the_paper for collection in collections):
        return ours
    return (
        f"{ours} The paper's figures: {paper()['source']} "
        f"The study's figures: {adversarial_study()['source']}"
    )
