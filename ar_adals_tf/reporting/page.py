"""A report of finished runs as one page, with its figures and tables beside it."""

import base64
import html
import io
import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ar_adals_tf import figures
from ar_adals_tf.files import atomic_write, writable_folder
from ar_adals_tf.reporting import attack_section, collection, paper_tables
from ar_adals_tf.reporting.commands import evaluate_command, made_by
from ar_adals_tf.reporting.contents import report_sections
from ar_adals_tf.reporting.items import Table
from ar_adals_tf.version import __version__

_DPI = 144

_LEGIBLE = 66  # pixels an inch that a figure keeps on a narrow screen


def write_report(
    runs: Sequence[str | Path],
    output_dir: str | Path,
    title: str = "How sure are they really?",
    command: str | None = None,
) -> Path:
    """Write a report of finished runs.

    Args:
        runs: Run directories.
        output_dir: Where `index.html`, `report.md`, `figures/` and `tables/` go.
        title: The page's heading.
        command: The command that made the runs and the report, if it was one.

    Returns:
        The path of `index.html`, written last.

    Raises:
        InputError: On runs that are not finished or cannot be compared.

    Example:
        >>> write_report(["runs/cifar10-ls-0", "runs/cifar10-ls-1"], "report")
    """
    studies = collection.load_collections(runs)
    folder = writable_folder(output_dir, "--output_dir")
    for name in ("figures", "tables"):
        (folder / name).mkdir(exist_ok=True)
    made = [*report_sections(studies), *attack_section.attack_sections(studies)]
    sections = [section for section in made if section.items]
    body, text, contents = [], [f"# {title}\n"], []
    for number, section in enumerate(sections):
        contents.append(f'<li><a href="#s{number}">{_text(section.title)}</a></li>')
        body.append(f'<section id="s{number}"><h2>{_text(section.title)}</h2>')
        text.append(f"## {section.title}\n")
        for item in section.items:
            image = None
            if isinstance(item, Table):
                with atomic_write(folder / "tables" / f"{item.name}.csv") as aside:
                    aside.write_text(item.csv())
            elif item.figure is not None:
                stem = folder / "figures" / item.name
                figures.save(item.figure, stem.with_suffix(".pdf"))
                figures.save(item.figure, stem.with_suffix(".png"), _DPI)
                image = stem.with_suffix(".png").read_bytes()
            body.append(_item(item, image))
            text.append(_markdown(item))
        body.append("</section>")
    commands = _commands(studies, runs, output_dir, command)
    contents.append('<li><a href="#made">The commands that made this</a></li>')
    body.append(
        '<section id="made"><h2>The commands that made this</h2>'
        f"{_code(commands)}</section>"
    )
    text.append(f"## The commands that made this\n\n```\n{commands}\n```\n")
    gaps = len(
        {
            command
            for section in sections
            for item in section.items
            for gap in item.all_gaps()
            for command in gap.commands
        }
    )
    source = resources.files("ar_adals_tf") / "data" / "report.html"
    page = string.Template(source.read_text()).substitute(
        title=_text(title),
        lead=_text(_lead(studies)),
        missing=f"<p>{_text(_gap_words(gaps))}</p>" if gaps else "",
        contents="\n".join(contents),
        body="\n".join(body),
        source=_text(
            f"ar_adals_tf {__version__}. The paper's figures: "
            f"{paper_tables.paper()['source']} The study's figures: "
            f"{attack_section.study_figures()['source']}"
        ),
    )
    with atomic_write(folder / "report.md") as aside:
        aside.write_text("\n".join(text))
    with atomic_write(folder / "index.html") as aside:
        aside.write_text(page, encoding="utf-8")
    return folder / "index.html"


def _item(item: Any, image: bytes | None) -> str:
    """Return a table or a figure as HTML."""
    parts = [f'<article id="{item.name}"><h3>{_text(item.title)}</h3>']
    if isinstance(item, Table):
        if item.rows:
            parts.append(_table(item))
        parts.append(f'<p class="caption">{_text(item.caption)}</p>')
        if item.rows:
            path = f"tables/{item.name}.csv"
            parts.append(f'<p class="files"><a href="{path}">CSV</a></p>')
    elif image is not None:
        parts.append(_figure(item, image))
    for gap in item.all_gaps():
        commands = _code("\n".join(gap.commands)) if gap.commands else ""
        if len(gap.commands) > 2:
            words = f"{len(gap.commands)} commands that fill it"
            commands = f"<details><summary>{words}</summary>{commands}</details>"
        what = f"<b>Missing.</b> {_text(gap.what)}."
        parts.append(f'<div class="gap">{what}{commands}</div>')
    return "\n".join([*parts, "</article>"])


def _table(table: Any) -> str:
    best = [table.best(i) for i in range(len(table.columns))]
    out = io.StringIO()
    label = f"{table.title}, table"
    out.write(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(label)}">'
    )
    out.write('<table class="sortable"><thead><tr>')
    for title in (table.head, *(column.title for column in table.columns)):
        out.write(f'<th scope="col"><button type="button">{_text(title)}</button></th>')
    out.write("</tr></thead><tbody>")
    for row in table.rows:
        out.write(
            f'<tr><th scope="row" data-value="{_text(row.label)}">'
            f"{_text(row.label)}</th>"
        )
        for i, cell in enumerate(row.cells):
            digits = table.columns[i].digits
            value = cell.text if cell.mean is None else repr(cell.mean)
            out.write(f'<td data-value="{_text(value)}">')
            if cell.mean is None:
                out.write(_text(cell.text or "–"))
            else:
                strong = ' class="best"' if (row.label, row.kind) in best[i] else ""
                out.write(f"<span{strong}>{cell.mean:.{digits}f}</span>")
                if cell.spread is not None:
                    spread = f" ± {cell.spread:.{digits}f}"
                    out.write(f'<span class="spread">{spread}</span>')
            if cell.paper is not None:
                out.write(f'<span class="printed">{table.source} {cell.paper:g}</span>')
            out.write("</td>")
        out.write("</tr>")
    out.write("</tbody></table></div>")
    return out.getvalue()


def _figure(item: Any, image: bytes) -> str:
    width, height = (int(_DPI * inches) for inches in item.figure.get_size_inches())
    data = base64.b64encode(image).decode()
    legible = int(_LEGIBLE * width / _DPI)
    most = int(width / 1.5)
    return (
        '<figure><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{_text(item.title)}, figure">'
        f'<img src="data:image/png;base64,{data}" alt="{_text(item.title)}" '
        f'width="{width}" height="{height}" '
        f'style="--legible:{legible}px;max-width:max({most}px,var(--legible))"></div>'
        f"<figcaption>{_text(item.caption)}</figcaption>"
        f'<p class="files"><a href="figures/{item.name}.png">PNG</a>, '
        f'<a href="figures/{item.name}.pdf">PDF</a></p></figure>'
    )


def _markdown(item: Any) -> str:
    """Return a table or a figure as Markdown."""
    parts = [f"### {item.title}\n"]
    if isinstance(item, Table):
        if item.rows:
            parts.append(item.markdown())
        parts.append(f"{item.caption}\n")
    elif item.figure is not None:
        parts += [f"![{item.title}](figures/{item.name}.png)\n", f"{item.caption}\n"]
    for gap in item.all_gaps():
        parts.append(f"Missing: {gap.what}.\n")
        if gap.commands:
            parts.append("```\n" + "\n".join(gap.commands) + "\n```\n")
    return "\n".join(parts)


def _commands(
    studies: Sequence[Any],
    runs: Sequence[str | Path],
    output_dir: str | Path,
    command: str | None,
) -> str:
    """Return the commands behind the runs and the report, a line each."""
    if command:
        return command
    lines = []
    for run in (run for of in studies for run in of.runs):
        lines.append(made_by(run))
        flags_ = []
        if "shift" in run.metrics:
            flags_.append("--shift")
        if run.metrics.get("ood"):
            flags_.append(f"--ood={','.join(run.metrics['ood'])}")
        if run.metrics.get("attacks"):
            flags_.append(f"--attacks={','.join(run.metrics['attacks']['by_attack'])}")
        if "footprint" in run.metrics:
            flags_.append("--footprint")
        if flags_:
            lines.append(evaluate_command(run, *flags_))
    folders = ",".join(str(run) for run in runs)
    lines.append(
        f"python -m ar_adals_tf.report --runs={folders} --output_dir={output_dir}"
    )
    return "\n".join(lines)


def _lead(studies: Sequence[Any]) -> str:
    parts = []
    for of in studies:
        names = [group.label for group in of.groups]
        seeds = sorted({run.config["seed"] for run in of.runs})
        number = f"{len(of.runs)} run{'s' if len(of.runs) > 1 else ''}"
        words = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        parts.append(f"{of.title}: {number} ({', '.join(names)}; {words})")
    return (
        f"{'; '.join(parts)}. Calibration asks whether a classifier that says 90 % is "
        "right nine times in ten; ECE is how far it is off, so lower is better."
    )


def _gap_words(number: int) -> str:
    return (
        f"Not everything is here: {number} command{'s' if number > 1 else ''} would "
        "fill the gaps, and each stands where it is missing."
    )


def _code(commands: str) -> str:
    """Return commands, broken between flags alone."""
    lines = [
        " ".join(f"<span>{_text(word)}</span>" for word in line.split(" "))
        for line in commands.splitlines()
    ]
    return "<pre>" + "\n".join(lines) + "</pre>"


def _text(text: str) -> str:
    return html.escape(text)
