"""A report of finished runs as one page, with its figures and tables beside it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ar_adals_tf import figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.files import (
    atomic_write,
    refuse_overwriting,
    remove,
    sweep,
    writable_folder,
    write_json,
)
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.reporting import contents, html, layout, markdown
from ar_adals_tf.reporting.collection import Collection, load_collections
from ar_adals_tf.reporting.commands import evaluate_commands, made_by
from ar_adals_tf.reporting.items import (
    Cards,
    Item,
    Missing,
    Picture,
    Section,
    Table,
    slug,
)
from ar_adals_tf.reporting.missing import lacks
from ar_adals_tf.reporting.packed import unpacked
from ar_adals_tf.reporting.reproduction_json import FILE, printed_and_ours
from ar_adals_tf.reporting.trade_off import check_aims


def write_report(
    runs: Sequence[str | Path],
    output_dir: str | Path,
    title: str = "How sure are they really?",
    command: str | None = None,
    missing: Sequence[Missing] = (),
    trade_off: Sequence[str] | None = None,
    say: Callable[[str], Any] = print,
) -> Path:
    """Write a report of finished runs.

    Args:
        runs: Run directories, and zip files of runs that `reproduce --export` wrote.
        output_dir: Where `index.html`, `report.md`, `figures/` and `tables/` go, and
            `reproduction.json` where the paper has printed numbers beside ours.
        title: The page's heading. Defaults to "How sure are they really?".
        command: The one command that made the runs and the report. Defaults to the
            commands of each run and of the report.
        missing: What the report lacks as a whole, such as the runs of a study that are
            not there yet. It stands first in the list of what is missing.
        trade_off: Two measures of `trade_off.AIMS` that models are compared in, in a
            section of its own. Defaults to none.
        say: Takes each line for people: which robustness index was found.

    A report that is there already is replaced: its tables and figures go as well, and
    nothing else in the folder is touched.

    Returns:
        The path of `index.html`, which is written last.

    Raises:
        InputError: If a run is not finished, if two cannot be compared, if the folder
            is one of the runs, if it holds an `index.html` or `report.md` that is no
            report, if a zip file cannot be used, see `packed.unpacked`, or on measures
            that do not exist.
    """
    if trade_off is not None:
        check_aims(trade_off)
    with unpacked(runs) as found:

        def say_named(line: str) -> None:
            say(found.named(line))

        collections = load_collections(found.folders, say_named, found.places)
        about = title, command, missing, trade_off
        return write_collections(collections, runs, output_dir, *about)


def write_collections(
    collections: Sequence[Collection],
    runs: Sequence[str | Path],
    output_dir: str | Path,
    title: str,
    command: str | None = None,
    missing: Sequence[Missing] = (),
    trade_off: Sequence[str] | None = None,
) -> Path:
    """Write a report of runs that are read already; see `write_report`."""
    refuse_overwriting(output_dir, runs, "--output_dir")
    folder = writable_folder(output_dir, "--output_dir")
    commands = command or _commands(collections, runs, output_dir, trade_off)
    with only_writer(folder / LOCK):
        sweep(folder, "index.html", "report.md", FILE, "figures/*", "tables/*")
        _replace(collections, folder, title, commands, missing, trade_off)
    return folder / "index.html"


def _replace(
    collections: Sequence[Collection],
    folder: Path,
    title: str,
    commands: str,
    missing: Sequence[Missing],
    trade_off: Sequence[str] | None,
) -> None:
    """Write all files of a report, `index.html` last; remove those of the old one."""
    old = files_of(folder)
    sections = contents.report_sections(collections)
    sections = named_apart(
        [*sections, *contents.chosen_sections(collections, trade_off)]
    )
    new = {name for s in sections for item in s.items for name in _files(item)}
    numbers = printed_and_ours(sections)
    if numbers:
        new.add(FILE)
    for path in (folder / name for name in sorted(old - new)):
        if path.is_file():
            remove(path)
    found, made_by = lacks(sections, missing), (_MADE_BY, commands)
    # It names the files. If the report is killed here, the next one removes them.
    _write(folder / "report.md", markdown.whole(title, sections, found, made_by))
    for name in ("figures", "tables"):
        (folder / name).mkdir(exist_ok=True)
    for section in sections:
        for item in section.items:
            _write_files(item, folder)
    if numbers:
        write_json(folder / FILE, numbers)
    page = layout.whole(title, collections, sections, found, made_by, folder)
    _write(folder / "index.html", page)


_MADE_BY = "The commands that made this"

#: A file that a page or its Markdown links to.
_LINK = re.compile(r"(?:figures|tables)/[a-z0-9_]+\.(?:png|pdf|csv)(?=[\")])")


def files_of(folder: Path) -> set[str]:
    """Return the names of the files of the report that a folder holds already.

    Raises:
        InputError: If the folder holds a page or a Markdown file that is no report.
    """
    found = set()
    for name in ("index.html", "report.md"):
        path = folder / name
        if not path.exists():
            continue
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        if _MADE_BY not in text:
            raise InputError(
                f"{path} is there and no report of this package, so it is not "
                "overwritten; give another --output_dir"
            )
        found |= set(_LINK.findall(text)) | {FILE}
    # The Markdown of older versions does not link to the PDF beside a PNG.
    return found | {name[:-4] + ".pdf" for name in found if name.endswith(".png")}


def named_apart(sections: Sequence[Section]) -> list[Section]:
    """Return sections whose items have names that serve as file names, each once."""
    taken: set[tuple[bool, str]] = set()

    def named(item: Item) -> Item:
        name = plain = slug(item.name)
        number, drawn = 2, isinstance(item, Picture)
        while (drawn, name) in taken:
            name, number = f"{plain}_{number}", number + 1
        taken.add((drawn, name))
        return replace(item, name=name)

    return [replace(s, items=[named(item) for item in s.items]) for s in sections]


def _files(item: Item) -> list[str]:
    """Return the names of an item's files, in the report's folder."""
    if isinstance(item, Cards):
        return [f"tables/{item.name}.csv"]
    if isinstance(item, Table):
        return [f"tables/{item.name}.csv"] if item.rows else []
    if item.figure is None:
        return []
    return [f"figures/{item.name}.{suffix}" for suffix in ("pdf", "png")]


def _write_files(item: Item, folder: Path) -> None:
    """Write a table as CSV, or a picture as PDF and PNG."""
    for name in _files(item):
        if isinstance(item, Table):
            _write(folder / name, item.csv())
        elif isinstance(item, Cards):
            _write(folder / name, item.table.csv())
        elif item.figure is not None:
            figures.save(item.figure, folder / name, html.DPI)


def _write(path: Path, text: str) -> None:
    """Write a text; half a character, as a broken name may have, becomes its code."""
    with atomic_write(path) as aside:
        aside.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def _commands(
    collections: Sequence[Collection],
    runs: Sequence[str | Path],
    output_dir: str | Path,
    trade_off: Sequence[str] | None = None,
) -> str:
    """Return the commands that made the runs and the report, a line each."""
    lines = []
    for collection in collections:
        for run in collection.runs:
            lines += [made_by(run), *evaluate_commands(run)]
    folders = ",".join(str(run) for run in runs)
    report = {"runs": folders, "output_dir": output_dir}
    if trade_off is not None:
        report["trade_off"] = ",".join(trade_off)
    lines.append(shell_command("report", report))
    return "\n".join(lines)
