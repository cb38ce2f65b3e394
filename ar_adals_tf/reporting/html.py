"""The tables, figures, images and commands of a report as HTML."""

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ar_adals_tf.reporting import missing
from ar_adals_tf.reporting.items import Card, Cards, Cell, Item, Picture, Table, below
from ar_adals_tf.reporting.missing import Lack

#: Dots per inch of a figure on the page.
DPI = 144

_LEGIBLE = 66  # pixels an inch that a figure keeps on a narrow screen

_LONG = 320  # characters of a caption that is folded behind its first sentence

_SENTENCE = re.compile(r"(?<=[.:?]) (?=[A-Z])")


def text(words: str) -> str:
    """Return words with the characters escaped that HTML has a meaning for.

    They serve as a text and as an attribute in quotation marks.
    """
    return html.escape(words)


def prose(words: str) -> str:
    """Return sentences as HTML, in which no line ends between a number and its %."""
    return text(words).replace(" %", "\u00a0%")


def policy(script: str) -> str:
    """Return a content security policy that lets a page run one script and no other.

    The page may show pictures that it holds itself. It loads nothing, from nowhere.

    Args:
        script: The content of the page's own `<script>`.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def code(commands: str) -> str:
    """Return commands, a line each, that break between their flags alone."""
    lines = [
        " ".join(f"<span>{text(word)}</span>" for word in line.split(" "))
        for line in commands.splitlines()
    ]
    return "<pre>" + "\n".join(lines) + "</pre>"


def anchor(item: Item) -> str:
    """Return the id of an item on the page; a table and a picture may share a name."""
    return item.name if not isinstance(item, Table) else f"table_{item.name}"


def article(item: Item, folder: Path) -> str:
    """Return a table, a picture or cards, with words and a line on what is missing.

    Args:
        item: What is shown.
        folder: The report's folder, which has the picture's file already.
    """
    parts = [f'<article id="{text(anchor(item))}"><h3>{text(item.title)}</h3>']
    if isinstance(item, Cards):
        parts += [_cards(item), _caption(item.caption), _csv(item.name)]
    elif isinstance(item, Table):
        if item.rows:
            parts += [_table(item), _caption(item.caption), _csv(item.name)]
    elif item.figure is not None:
        image = (folder / "figures" / f"{item.name}.png").read_bytes()
        parts.append(_figure(item, item.figure, image))
    if words := missing.line(item):
        link = f'<a href="#{missing.ANCHOR}">How to make it</a>'
        parts.append(f'<p class="missing"><b>Missing:</b> {text(words)}. {link}</p>')
    return "\n".join([*parts, "</article>"])


def lack(found: Lack) -> str:
    """Return an entry of the list of what is missing, with its commands."""
    commands = found.missing.commands
    shown = code("\n".join(commands)) if commands else ""
    if len(commands) > 2:
        words = f"{len(commands)} commands"
        shown = f"<details><summary>{words}</summary>{shown}</details>"
    where = ", ".join(
        f'<a href="#{text(anchor(item))}">{text(title)}</a>'
        for title, item in found.wanted_by.items()
    )
    where = f'<p class="files">For: {where}</p>' if where else ""
    return f"<li><b>{text(found.missing.what)}</b>{where}{shown}</li>"


def _caption(words: str) -> str:
    """Return a caption; of a long one the first sentence, and the rest on demand."""
    if not words:
        return ""
    first, *rest = _SENTENCE.split(words, 1)
    if len(words) < _LONG or not rest:
        return f'<p class="caption">{prose(words)}</p>'
    return (
        f'<details class="caption"><summary>{prose(first)} '
        f"<u>More</u></summary><p>{prose(rest[0])}</p></details>"
    )


def _csv(name: str) -> str:
    return f'<p class="files"><a href="{text(f"tables/{name}.csv")}">CSV</a></p>'


def _frame(title: str, kind: str, content: str) -> str:
    """Return what scrolls within itself where a screen is narrow."""
    return (
        f'<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(title)}, {kind}">{content}</div>'
    )


def _table(table: Table) -> str:
    best = [table.best(i) for i in range(len(table.columns))]
    titles = [table.head, *(column.title for column in table.columns)]
    parts = [
        '<table class="sortable"><thead><tr>',
        *(
            f'<th scope="col"><button type="button">{text(title)}</button></th>'
            for title in titles
        ),
        "</tr></thead><tbody>",
    ]
    for row in table.rows:
        label = text(row.label)
        parts.append(f'<tr><th scope="row" data-value="{label}">{label}</th>')
        for cell, column, own in zip(row.cells, table.columns, best, strict=True):
            strong = ' class="best"' if (row.label, row.kind) in own else ""
            parts.append(_cell(cell, column.digits, strong, table.source))
        parts.append("</tr>")
    return _frame(table.title, "table", "".join([*parts, "</tbody></table>"]))


def _cell(cell: Cell, digits: int, strong: str, source: str) -> str:
    shown = text(cell.text or "–")
    if cell.mean is not None:
        shown = f"<span{strong}>{cell.mean:.{digits}f}</span>"
        if cell.spread is not None:
            shown += f'<span class="spread"> ± {cell.spread:.{digits}f}</span>'
        for line in below(cell, digits):
            shown += f'<span class="below">{text(line)}</span>'
    if cell.paper is not None:
        shown += f'<span class="printed">{text(source)} {cell.paper:g}</span>'
    return f'<td data-value="{text(cell.plain)}">{shown}</td>'


def _figure(picture: Picture, figure: Figure, image: bytes) -> str:
    width, height = (int(DPI * inches) for inches in figure.get_size_inches())
    legible = int(_LEGIBLE * width / DPI)
    most = int(width / 1.5)
    file = text(f"figures/{picture.name}")
    shown = (
        f'<img src="{_data(image)}" alt="{text(picture.title)}" '
        f'width="{width}" height="{height}" '
        f'style="--legible:{legible}px;max-width:max({most}px,var(--legible))">'
    )
    return (
        f"<figure>{_frame(picture.title, 'figure', shown)}"
        f"<figcaption>{_caption(picture.caption)}</figcaption>"
        f'<p class="files"><a href="{file}.png">PNG</a>, '
        f'<a href="{file}.pdf">PDF</a></p></figure>'
    )


def _data(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _cards(cards: Cards) -> str:
    """Return the groups of cards side by side, where there is room."""
    parts = []
    for title, own in cards.groups.items():
        shown = "".join(map(_card, own))
        parts.append(
            f'<div><h4>{text(title)}</h4><div class="cards">{shown}</div></div>'
        )
    return f'<div class="groups">{"".join(parts)}</div>'


def _card(card: Card) -> str:
    shown = "".join(
        f'<figure><img src="{_data(image)}" alt="{text(words)}" width="112" '
        f'height="112"><figcaption>{text(words.rpartition(", ")[2])}</figcaption>'
        "</figure>"
        for words, image in card.pictures
    )
    lines = "".join(
        f"<dt>{text(who)}</dt><dd>{text(words)}</dd>" for who, words in card.lines
    )
    return (
        f'<div class="card"><h5>{text(card.title)}</h5>'
        f'<div class="pixels">{shown}</div><dl>{lines}</dl></div>'
    )


def links(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a list of links to anchors, each with its words."""
    shown = (f'<li><a href="#{text(to)}">{text(words)}</a></li>' for to, words in pairs)
    return f"<ol>{''.join(shown)}</ol>"
