"""A report of finished runs as one page, with its figures and tables beside it."""

import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ar_adals_tf import figures
from ar_adals_tf.files import (
    atomic_write,
    refuse_overwriting,
    sweep,
    writable_folder,
)
from ar_adals_tf.locks import LOCK, only_writer
from ar_adals_tf.reporting import contents, html
from ar_adals_tf.reporting.collection import Collection, load_collections
from ar_adals_tf.reporting.commands import evaluate_command, made_by
from ar_adals_tf.reporting.items import Item, Section, Table
from ar_adals_tf.reporting.names import adversarial_study, paper
from ar_adals_tf.reporting.run import Run
from ar_adals_tf.version import __version__


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
        title: The page's heading. Defaults to "How sure are they really?".
        command: The one command that made the runs and the report. Defaults to the
            commands of each run and of the report.

    Returns:
        The path of `index.html`, which is written last.

    Raises:
        InputError: If a run is not finished or two cannot be compared, or if the
            folder is one of the runs.
    """
    collections = load_collections(runs, say=print)
    refuse_overwriting(output_dir, runs, "--output_dir")
    folder = writable_folder(output_dir, "--output_dir")
    commands = command or _commands(collections, runs, output_dir)
    with only_writer(folder / LOCK):
        sweep(folder, "index.html", "report.md", "figures/*", "tables/*")
        _replace(collections, folder, title, commands)
    return folder / "index.html"


def _replace(
    collections: Sequence[Collection], folder: Path, title: str, commands: str
) -> None:
    """Write all files of a report, `index.html` last."""
    sections = contents.report_sections(collections)
    for name in ("figures", "tables"):
        (folder / name).mkdir(exist_ok=True)
    for section in sections:
        for item in section.items:
            _write_files(item, folder)
    page = _page(title, collections, sections, folder, commands)
    made_by = f"## {_MADE_BY}\n\n```\n{commands}\n```\n"
    parts = [f"# {title}\n", *map(_section_markdown, sections), made_by]
    markdown = "\n".join(parts)
    with atomic_write(folder / "report.md") as aside:
        aside.write_text(markdown, encoding="utf-8")
    with atomic_write(folder / "index.html") as aside:
        aside.write_text(page, encoding="utf-8")


_MADE_BY = "The commands that made this"


def _write_files(item: Item, folder: Path) -> None:
    """Write a table as CSV, or a picture as PDF and PNG."""
    if isinstance(item, Table):
        with atomic_write(folder / "tables" / f"{item.name}.csv") as aside:
            aside.write_text(item.csv(), encoding="utf-8")
    elif item.figure is not None:
        figures.save(item.figure, folder / "figures" / f"{item.name}.pdf")
        figures.save(item.figure, folder / "figures" / f"{item.name}.png", html.DPI)


def _section_html(anchor: str, section: Section, folder: Path) -> str:
    head = f'<section id="{anchor}"><h2>{html.text(section.title)}</h2>'
    items = [html.article(item, folder) for item in section.items]
    return "\n".join([head, *items, "</section>"])


def _section_markdown(section: Section) -> str:
    return "\n".join([f"## {section.title}\n", *map(_item_markdown, section.items)])


def _item_markdown(item: Item) -> str:
    """Return a table or a picture as Markdown."""
    parts = [f"### {item.title}\n"]
    if isinstance(item, Table):
        if item.rows:
            parts.append(item.markdown())
        parts.append(f"{item.caption}\n")
    elif item.figure is not None:
        parts += [f"![{item.title}](figures/{item.name}.png)\n", f"{item.caption}\n"]
    for missing in item.all_missing():
        parts.append(f"Missing: {missing.what}.\n")
        if missing.commands:
            parts.append("```\n" + "\n".join(missing.commands) + "\n```\n")
    return "\n".join(parts)


def _page(
    title: str,
    collections: Sequence[Collection],
    sections: Sequence[Section],
    folder: Path,
    commands: str,
) -> str:
    """Fill the page's template."""
    links = [
        *((f"s{number}", section.title) for number, section in enumerate(sections)),
        ("made", _MADE_BY),
    ]
    missing = [m for s in sections for item in s.items for m in item.all_missing()]
    number = len({command for one in missing for command in one.commands})
    body = [_section_html(f"s{i}", one, folder) for i, one in enumerate(sections)]
    made = f'<section id="made"><h2>{_MADE_BY}</h2>{html.code(commands)}</section>'
    template = resources.files("ar_adals_tf") / "data" / "report.html"
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        title=html.text(title),
        lead=html.text(_lead(collections)),
        missing=f"<p>{html.text(_missing_words(number))}</p>" if number else "",
        contents="\n".join(
            f'<li><a href="#{anchor}">{html.text(words)}</a></li>'
            for anchor, words in links
        ),
        body="\n".join([*body, made]),
        source=html.text(
            f"ar_adals_tf {__version__}. The paper's figures: {paper()['source']} "
            f"The study's figures: {adversarial_study()['source']}"
        ),
    )


def _commands(
    collections: Sequence[Collection],
    runs: Sequence[str | Path],
    output_dir: str | Path,
) -> str:
    """Return the commands that made the runs and the report, a line each."""
    lines = []
    for collection in collections:
        for run in collection.runs:
            lines.append(made_by(run))
            if flags := _evaluation_flags(run):
                lines.append(evaluate_command(run, *flags))
    folders = ",".join(str(run) for run in runs)
    lines.append(
        f"python -m ar_adals_tf.report --runs={folders} --output_dir={output_dir}"
    )
    return "\n".join(lines)


def _evaluation_flags(run: Run) -> list[str]:
    """Return the flags of the evaluation that a run has had."""
    ood = ",".join(run.metrics.get("ood") or [])
    attacks = ",".join(run.attack_measures())
    flags = {
        "--shift": "shift" in run.metrics,
        f"--ood={ood}": ood,
        f"--attacks={attacks}": attacks,
        "--footprint": "footprint" in run.metrics,
    }
    return [flag for flag, given in flags.items() if given]


def _lead(collections: Sequence[Collection]) -> str:
    parts = []
    for collection in collections:
        runs = collection.runs
        names = ", ".join(group.label for group in collection.groups)
        seeds = sorted({run.config["seed"] for run in runs})
        number = f"{len(runs)} run{'s' * (len(runs) > 1)}"
        words = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        parts.append(f"{collection.title}: {number} ({names}; {words})")
    return (
        f"{'; '.join(parts)}. Calibration asks whether a classifier that says 90 % is "
        "right nine times in ten; ECE is how far it is off, so lower is better."
    )


def _missing_words(number: int) -> str:
    return (
        f"Not everything is here: {number} command{'s' * (number > 1)} would "
        "complete it. Each stands where its result is missing."
    )
