"""The tables, figures and commands of a report as HTML."""

import base64
import hashlib
import html
from pathlib import Path

from matplotlib.figure import Figure

from ar_adals_tf.reporting.items import Cell, Item, Missing, Picture, Table, below

#: Dots per inch of a figure on the page.
DPI = 144

_LEGIBLE = 66  # pixels an inch that a figure keeps on a narrow screen


def text(words: str) -> str:
    """Return words with the characters escaped that HTML has a meaning for.

    They serve as a text and as an attribute in quotation marks.
    """
    return html.escape(words)


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


def article(item: Item, folder: Path) -> str:
    """Return a table or a picture, its words, and what it misses.

    Args:
        item: A table or a picture.
        folder: The report's folder, which has the picture's file already.
    """
    parts = [f'<article id="{text(item.name)}"><h3>{text(item.title)}</h3>']
    if isinstance(item, Table):
        if item.rows:
            parts.append(_table(item))
        parts.append(f'<p class="caption">{text(item.caption)}</p>')
        if item.rows:
            path = text(f"tables/{item.name}.csv")
            parts.append(f'<p class="files"><a href="{path}">CSV</a></p>')
    elif item.figure is not None:
        image = (folder / "figures" / f"{item.name}.png").read_bytes()
        parts.append(_figure(item, item.figure, image))
    parts += [_missing(missing) for missing in item.all_missing()]
    return "\n".join([*parts, "</article>"])


def _missing(missing: Missing) -> str:
    commands = code("\n".join(missing.commands)) if missing.commands else ""
    if len(missing.commands) > 2:
        words = f"{len(missing.commands)} commands that fill it"
        commands = f"<details><summary>{words}</summary>{commands}</details>"
    what = f"<b>Missing.</b> {text(missing.what)}."
    return f'<div class="missing">{what}{commands}</div>'


def _table(table: Table) -> str:
    best = [table.best(i) for i in range(len(table.columns))]
    titles = [table.head, *(column.title for column in table.columns)]
    parts = [
        f'<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(table.title)}, table">'
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
    return "".join([*parts, "</tbody></table></div>"])


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
    data = base64.b64encode(image).decode()
    legible = int(_LEGIBLE * width / DPI)
    most = int(width / 1.5)
    file = text(f"figures/{picture.name}")
    return (
        '<figure><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(picture.title)}, figure">'
        f'<img src="data:image/png;base64,{data}" alt="{text(picture.title)}" '
        f'width="{width}" height="{height}" '
        f'style="--legible:{legible}px;max-width:max({most}px,var(--legible))"></div>'
        f"<figcaption>{text(picture.caption)}</figcaption>"
        f'<p class="files"><a href="{file}.png">PNG</a>, '
        f'<a href="{file}.pdf">PDF</a></p></figure>'
    )
