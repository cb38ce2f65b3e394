"""Collect the results of a study that are kept: small files, and a document of them.

    python -m baselines.collect --study=cifar10
    make tables

What is finished is collected, at any time; the next call replaces it. Runs of other
machines are collected as well, if they lie in `baselines/<study>/exports`, as files of
`reproduce --export`. A run that is finished here is taken from here. Into
`baselines/<study>/results` go

- the tables of the study's report as CSV, with `tables.json`, which has what CSV
  has not: captions, decimals, words beside numbers, and what is bold;
- `methods.csv`, `hours.csv` and `machines.csv`, tables of the same form: seeds and what
  was chosen, how long it took, and on what;
- `runs.csv`: the measures of each run, and the versions that made it;
- `cells.csv`: the seconds and the machine of each finished cell;
- `reproduction.json`: the paper's numbers beside ours, where it has printed some.

The first call also writes a `README.md` that shows some of the tables. Words are added
by hand. Predictions are not kept in there, because they are large: 0.4 MB a run of
10,000 images. `reproduce --export` writes them.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write, remove, sweep, writable_folder
from ar_adals_tf.reporting.collection import Collection, load_collections
from ar_adals_tf.reporting.contents import report_sections
from ar_adals_tf.reporting.items import Cell, Column, Row, Table
from ar_adals_tf.reporting.packed import unpacked
from ar_adals_tf.reporting.page import named_apart
from ar_adals_tf.reporting.reproduction_json import FILE, printed_and_ours
from ar_adals_tf.studies.cells import Cell as StudyCell
from ar_adals_tf.studies.cells import cells_of, reported
from ar_adals_tf.studies.reproduction import default_folder
from ar_adals_tf.studies.state import DONE, finished_cells, states_of
from ar_adals_tf.studies.study import Method, Study, load_study
from baselines.tables import ABOUT, ROOT, wrapped

#: What `runs.csv` has of each run: where it stands in `metrics.json`.
MEASURES = {
    **{name: ("clean", name) for name in ("accuracy", "ece", "nll", "brier")},
    "temperature": ("temperature_scaled", "temperature"),
    "ece_with_temperature": ("temperature_scaled", "clean", "ece"),
    "nll_with_temperature": ("temperature_scaled", "clean", "nll"),
    **{
        f"shift_{name}": ("shift", "overall", "all", name)
        for name in ("accuracy", "ece", "nll", "brier")
    },
    **{f"shift_{s}_ece": ("shift", "mean", str(s), "ece") for s in range(1, 6)},
}

#: What the cells of a study do, in words.
WORK = {
    "train": "Training",
    "compute_robustness": "Robustness indexes",
    "sweep": "Choices",
    "evaluate": "Evaluations",
}

#: The tables that a new document shows, where a study has them, and their headings.
#: Of two with one heading it shows the first.
SHOWN = {
    "overview": "At a glance",
    "told_apart": "Which differences are significant?",
    "table_3": "Variance between runs under shift",
    "stability_shift": "Variance between runs under shift",
    "table_4": "Calibration error by severity",
    "foreign": "Out-of-distribution images",
    "under_attack": "Under attack",
    "ece_by_strength": "Calibration error by attack and strength",
    "told_apart_under_attack": "Which differences are significant under attack?",
    "trade_off": "Accuracy, robust accuracy and calibration",
    "certified": "Certified accuracy",
    "smoothed": "Calibration of the smoothed classifier",
}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Collect the results of a study; see the module.

    Raises:
        InputError: If nothing of the study is finished.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, help="such as cifar10")
    parser.add_argument("--output_dir", help="its folder; default: runs/<study>-study")
    given = parser.parse_args(arguments)
    study = load_study(given.study)
    folder = Path(given.output_dir or default_folder(study))
    target = root / "baselines" / study.name
    kept = results(study, folder, sorted((target / "exports").glob("*.zip")))
    _replace(writable_folder(target / "results", "the folder of the results"), kept)
    size = sum(map(len, kept.values())) / 1e6
    print(f"{target / 'results'}: {len(kept)} files, {size:.2f} MB")
    readme = target / "README.md"
    if not readme.exists():
        with atomic_write(readme) as aside:
            aside.write_text(document(study, kept), "utf-8")
        print(
            f"{readme} is new: add words, and a line in {target.parent / readme.name}"
        )
    print("now fill the documents' tables: make tables")
    return 0


def results(study: Study, folder: Path, exports: Sequence[Path] = ()) -> dict[str, str]:
    """Return the files that are kept of a study, by name.

    Args:
        study: The study.
        folder: Where it is run.
        exports: Files of `reproduce --export` with runs of other machines.
    """
    cells = cells_of(study, folder)
    states = states_of(cells, folder)
    made = {row["cell"]: row for row in finished_cells(folder, cells, states)}
    done = {name for name, state in states.items() if state.kind == DONE}
    here = [cell.output for cell in reported(cells) if cell.name in done]
    with unpacked([*here, *exports]) as found:
        own = {run.name for run in here}
        runs = [*here, *(run for run in found.folders if run.name not in own)]
        if not runs:
            raise InputError(
                f"no run of {study.title} is finished in {folder}, so there is nothing "
                "to collect; run the study first, or give its --output_dir"
            )
        collections = load_collections(runs, places=found.places)
        sections = named_apart(report_sections(collections))
    # What an export says of a run is left out where that run is taken from here.
    mine = {cell.name for cell in cells if own.intersection(cell.run.parts)}
    made |= {row["cell"]: row for row in found.cells if row["cell"] not in mine | done}
    settings = {run.folder.name: run.config for c in collections for run in c.runs}
    rows = [made[cell.name] for cell in cells if cell.name in made]
    items = [item for section in sections for item in section.items]
    tables = [item for item in items if isinstance(item, Table) and item.rows]
    trained = {cell.name for cell in reported(cells) if cell.output.name in settings}
    tables += _about(study, cells, done | trained | set(made), rows, settings)
    kept = {f"{table.name}.csv": table.csv() for table in tables}
    kept[ABOUT] = _json({table.name: _around(table) for table in tables})
    kept["runs.csv"] = _csv(_runs(collections))
    kept["cells.csv"] = _csv(rows)
    if numbers := printed_and_ours(sections):
        kept[FILE] = _json(numbers)
    return kept


def _around(table: Table) -> dict[str, Any]:
    """Return what the CSV of a table does not say."""
    columns = range(len(table.columns))
    return {
        "caption": table.caption,
        "digits": [column.digits for column in table.columns],
        "bold": [sorted(label for label, _ in table.best(i)) for i in columns],
        "words": {
            row.label: [cell.text for cell in row.cells]
            for row in table.rows
            if any(cell.text for cell in row.cells)
        },
    }


def _runs(collections: Iterable[Collection]) -> list[dict[str, Any]]:
    """Return a row for each run."""
    return [
        {"run": run.folder.name, "method": group.label, "seed": run.config["seed"]}
        | {name: _inner(run.metrics, path) for name, path in MEASURES.items()}
        | _under_attack(run.metrics)
        | run.config.get("versions", {})
        for collection in collections
        for group in collection.groups
        for run in group.runs
    ]


def _under_attack(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return accuracy and ECE under each attack, such as `pgd_8_ece` at 8/255."""
    return {
        f"{attack}_{epsilon}_{name}": found[name]
        for attack, by_strength in metrics.get("attacks", {})
        .get("by_attack", {})
        .items()
        for epsilon, found in by_strength.items()
        for name in ("accuracy", "ece")
    }


def _inner(metrics: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = metrics
    for name in path:
        found = found.get(name, {})
    return found if isinstance(found, float) else None


# How the results were made, in tables of the report's form.


def _about(
    study: Study,
    cells: Sequence[StudyCell],
    done: Set[str],
    finished: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Table]:
    hours = {row["cell"]: row["seconds"] / 3600 for row in finished}
    methods = Table(
        "methods",
        "Methods",
        "The finished runs of each method, their seeds, what validation images chose "
        "at the first seed, and the hours of training.",
        [Column("Runs", 0), Column("Seeds", 0), Column("Chosen"), Column("Hours", 1)],
        [
            Row(method.name, _method_cells(study, method, cells, hours, settings))
            for method in study.methods.values()
        ],
    )
    work = Table(
        "hours",
        "Hours",
        _words_on_hours(finished),
        [Column("Finished", 0), Column("In all", 0), Column("Hours", 1)],
        [
            Row(words, _work_cells(own, done, hours))
            for words, own in [
                *((w, [c for c in cells if c.module == m]) for m, w in WORK.items()),
                ("All", cells),
            ]
        ],
        head="Work",
    )
    devices = list(dict.fromkeys(row["device"] for row in finished))
    machines = Table(
        "machines",
        "Machines",
        "What the cells of the study ran on.",
        [Column("Cells", 0), Column("Hours", 1)],
        [
            Row(device, [Cell(len(own)), Cell(sum(hours[n] for n in own))])
            for device in devices
            for own in [[row["cell"] for row in finished if row["device"] == device]]
        ],
        head="Machine",
    )
    return [methods, work, machines]


def _words_on_hours(finished: Sequence[Mapping[str, Any]]) -> str:
    words = "The cells of the study and the hours that the finished ones took."
    unknown = sum(not row["seconds"] for row in finished)
    return words + f" The time of {unknown} is not known." * bool(unknown)


def _work_cells(
    own: Sequence[StudyCell], done: Set[str], hours: Mapping[str, float]
) -> list[Cell]:
    names = [cell.name for cell in own]
    time = sum(hours.get(name, 0.0) for name in names)
    return [Cell(sum(name in done for name in names)), Cell(len(own)), Cell(time)]


def _method_cells(
    study: Study,
    method: Method,
    cells: Sequence[StudyCell],
    hours: Mapping[str, float],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Cell]:
    """Return a method's runs, their seeds, what was chosen, and the hours.

    The runs that a choice is among are not counted.
    """
    own = [cell for cell in reported(cells) if cell.method == method.name]
    runs = [cell for cell in own if cell.output.name in settings]
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    if method.members:
        seeds = "all" if runs else ""
    chosen = _chosen(study, method, settings[runs[0].output.name]) if runs else ""
    swept = hours.get(f"train {method.choice_of}-{chosen.replace(' ', '=')}", 0.0)
    time = 0.0
    for run in runs:  # one that was taken over was trained for the choice
        trained = swept if "swept" in run.flags else 0.0
        time += max(hours.get(run.name, 0.0), trained)
    return [Cell(len(runs)), Cell(text=seeds), Cell(text=chosen), Cell(time)]


def _chosen(study: Study, method: Method, config: Mapping[str, Any]) -> str:
    """Return what validation images chose for a method, such as `alpha 0.2`."""
    choice = study.methods[method.choice_of].choose if method.choice_of else None
    if choice is None or choice.param in method.own:
        return ""
    value = config[choice.param]
    # A run's settings say 0.0 where the study says 0.
    words = (text for text in choice.values if _number(text) == _number(value))
    return f"{choice.param} {next(words, value)}"


def _number(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:  # an alpha that changes in training
        return value


# The document, and the files.


def document(study: Study, kept: Mapping[str, str]) -> str:
    """Return a first document of a study's results."""
    parts = [
        f"# {study.title}",
        wrapped(
            "The results of one command, which goes on where it was. They are "
            "collected, and the tables below filled, by the two others:"
        ),
        f"    python -m ar_adals_tf.reproduce --study={study.name}\n"
        f"    python -m baselines.collect --study={study.name}\n"
        "    make tables",
    ]
    for name, heading in SHOWN.items():
        if f"{name}_{study.dataset}.csv" in kept and f"## {heading}" not in parts:
            parts += [f"## {heading}", _place(f"{name}_{study.dataset}")]
    parts.append("## What was run, how long, on what")
    parts += map(_place, ("methods", "hours", "machines"))
    return "\n\n".join(parts) + "\n"


def _place(name: str) -> str:
    """Return where a document's table goes, with its caption."""
    return f"<!-- table: results/{name}.csv\ncaption\n-->\n<!-- end of table -->"


def _replace(folder: Path, kept: Mapping[str, str]) -> None:
    """Write the files of a folder; remove those that are not kept any more."""
    sweep(folder, "*.csv", "*.json")
    for name, text in kept.items():
        with atomic_write(folder / name) as aside:
            aside.write_text(text, "utf-8")
    for path in [*folder.glob("*.csv"), *folder.glob("*.json")]:
        if path.name not in kept:
            remove(path)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    titles = list(dict.fromkeys(title for row in rows for title in row))
    writer = csv.DictWriter(out, titles, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
