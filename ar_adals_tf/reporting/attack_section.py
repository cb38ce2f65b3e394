"""Calibration under attack: what the report shows of it, beside the study's figures.

The study is the one of adversarial training and calibration (see `study_figures`). Like
`ar_adals_tf.exhibits`, each function makes one table or picture from what runs have
stored; what cannot be made is a gap with the command that fills it.
"""

import functools
import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.attacks.table import BOUNDED_ATTACKS, BOUNDED_TITLES
from ar_adals_tf.calibration.measures import LevelMeasures, ReliabilityBins
from ar_adals_tf.calibration.temperature import apply_temperature
from ar_adals_tf.evaluation.footprint import FORM_TITLES as FORMS
from ar_adals_tf.figures import attacks
from ar_adals_tf.reporting import collection
from ar_adals_tf.reporting.collection import Collection, Group, Run
from ar_adals_tf.reporting.commands import evaluate_command, train_command
from ar_adals_tf.reporting.items import (
    Cell,
    Column,
    Missing,
    Picture,
    Row,
    Section,
    Table,
    cell_of,
    each_with_temperature,
    in_words,
    kind_of,
    missing_levels,
    seed_words,
)
from ar_adals_tf.reporting.pareto import pareto_front

REFERENCE = 8.0

"""The strength over 255 that single figures are at, if it was measured."""

#: Measures by strength: name, title, scale, decimals, which way is better, and whether
#: a temperature changes it.
_MEASURES = (
    ("accuracy", "Accuracy (%)", 100, 2, "up", False),
    ("ece", "ECE (%)", 100, 2, "down", True),
    ("nll", "NLL (nats)", 1, 3, "down", True),
    ("mean_confidence", "Mean confidence (%)", 100, 2, "", True),
)


def attack_sections(studies: Sequence[Collection]) -> list[Section]:
    """Return what a report shows of attacks and of the models' footprint."""
    having = [of for of in studies if _attacked_runs(of)]
    each: Callable[[Callable[..., Any]], list[Any]] = lambda make: [  # noqa: E731
        item for of in having for item in make(of)
    ]
    return [
        Section("Under attack: the study's table", [study_table(of) for of in studies]),
        Section("Under attack: every strength", each(figures_by_strength)),
        Section("Under attack: reliability", each(figures_of_reliability)),
        Section("Under attack: by robustness level", each(figures_by_level)),
        Section(
            "Clean accuracy, robust accuracy and calibration", each(figure_of_trade_off)
        ),
        Section("How far an L2 budget goes", each(l2_curves)),
        Section("What a model costs: time, size and memory", list(map(costs, studies))),
    ]


@functools.cache
def study_figures() -> dict[str, Any]:
    """Return the figures that the study printed, by network and method."""
    path = resources.files("ar_adals_tf") / "data" / "adversarial_study.json"
    return json.loads(path.read_text())


def study_table(of: Collection) -> Table:
    """Return accuracy and ECE, clean and under both attacks at one strength."""
    epsilon = _reference(of)
    columns = [Column("Accuracy (%)", 2, "up")]
    columns += [
        Column(f"{BOUNDED_TITLES[a]} accuracy (%)", 2, "up") for a in BOUNDED_ATTACKS
    ]
    columns.append(Column("ECE (%)", 2, "down"))
    columns += [
        Column(f"{BOUNDED_TITLES[a]} ECE (%)", 2, "down") for a in BOUNDED_ATTACKS
    ]
    rows, seen = [], set()
    for group in each_with_temperature([g for g in of.groups if _has(g)]):
        printed = [] if group.scaled else _printed(group)
        if printed:
            seen.add((group.runs[0].config["model"], group.method))
        cells = []
        for name in ("accuracy", "ece"):
            cells.append(_values(group, "fgsm", 0.0, name))
            cells += [
                _values(group, attack, epsilon, name) for attack in BOUNDED_ATTACKS
            ]
        printed = [*printed, *[None] * (len(columns) - len(printed))]
        shown = [
            cell_of([100 * v for v in values], beside)
            for values, beside in zip(cells, printed, strict=True)
        ]
        rows.append(Row(group.label, tuple(shown), kind=kind_of(group)))
    rows += _missing_rows(of, seen, len(columns))
    lead = (
        f"{_test_images(of)} test images, ECE over {of.runs[0].num_bins} bins. Attacks "
        f"at {epsilon:g}/255 in the L-infinity norm, by CleverHans, on the true label: "
        f"{_attack_words(of)}. "
        if rows
        else ""
    )
    beside = (
        "Beside: the study's figures, for its own training and with ECE over 10 bins. "
        "Its text does not say at which strength its columns are: "
        f"{epsilon:g}/255 is ours; the other strengths follow below. "
        if any(cell.paper is not None for row in rows for cell in row.cells)
        else ""
    )
    return Table(
        f"under_attack_{of.dataset}",
        f"Accuracy and calibration under attack, {of.title}",
        lead + beside + (seed_words(of.groups) if rows else ""),
        tuple(columns),
        tuple(rows),
        _attack_gaps(of),
        source="study",
    )


def figures_by_strength(of: Collection) -> list[Table | Picture]:
    """Return a table a measure, over attacks and strengths, and their picture."""
    groups = [group for group in of.groups if _has(group)]
    pairs = [("fgsm", 0.0)]
    pairs += [(attack, e) for attack in BOUNDED_ATTACKS for e in _epsilons(of) if e]
    items: list[Table | Picture] = []
    for name, title, scale, digits, better, tempered in _MEASURES:
        columns = tuple(
            Column(f"{BOUNDED_TITLES[a]} {e:g}/255" if e else "Clean", digits, better)
            for a, e in pairs
        )
        rows = [
            Row(
                group.label,
                tuple(
                    cell_of([scale * v for v in _values(group, attack, e, name)])
                    for attack, e in pairs
                ),
                kind=kind_of(group),
            )
            for group in (each_with_temperature(groups) if tempered else groups)
        ]
        words = "" if tempered else "No temperature changes it. "
        items.append(
            Table(
                f"{name}_by_strength_{of.dataset}",
                f"{title} by attack and strength, {of.title}",
                f"{_attack_words(of)}. {words}{seed_words(groups)}",
                columns,
                tuple(rows),
            )
        )
    panels: dict[str, Any] = {}
    for name, title, scale, *_ in _MEASURES:
        if name == "nll":
            continue
        by_attack: dict[str, Any] = {}
        for attack in _attacks(of):
            lines = {}
            for group in groups:
                x = [e for e in _epsilons(of) if _values(group, attack, e, name)]
                y = [scale * np.mean(_values(group, attack, e, name)) for e in x]
                if x:
                    lines[group.key] = (x, y)
            by_attack[BOUNDED_TITLES[attack]] = lines
        panels[title] = by_attack
    items.append(
        Picture(
            f"over_strength_{of.dataset}",
            f"Accuracy, ECE and confidence over the strength, {of.title}",
            f"{attacks.CAPTIONS['over_epsilon']} {_attack_words(of)}. Before "
            "temperature scaling; means over seeds.",
            attacks.draw_grid_of_lines(panels, "Strength over 255", _labels(groups)),
        )
    )
    return items


def figures_of_reliability(of: Collection) -> list[Picture]:
    """Draw reliability diagrams at every strength, before and after the temperature."""
    groups = [group for group in of.groups if _has(group)]
    twins = [twin for group in groups if (twin := group.twin()) and _has(twin)]
    pictures = []
    for words, suffix, some in (
        ("before temperature scaling", "", groups),
        ("after temperature scaling", "_scaled", twins),
    ):
        if not some:
            continue
        bins = {
            BOUNDED_TITLES[attack]: {
                _strength(e): {
                    group.key: pooled
                    for group in some
                    if (pooled := _pooled_bins(group, attack, e)) is not None
                }
                for e in _epsilons(of)
            }
            for attack in _attacks(of)
        }
        pictures.append(
            Picture(
                f"reliability_under_attack{suffix}_{of.dataset}",
                f"Accuracy against confidence under attack, {words}, {of.title}",
                f"{attacks.CAPTIONS['reliability']} {_attack_words(of)}. "
                f"{of.runs[0].num_bins} bins, all seeds together.",
                attacks.draw_reliability_grid(bins, _labels(some)),
            )
        )
    return pictures


def figures_by_level(of: Collection) -> list[Picture]:
    """Draw accuracy and ECE by robustness level at every strength, an attack each."""
    if of.index is None:
        name = f"levels_under_attack_{of.dataset}"
        title = f"By robustness level under attack, {of.title}"
        return [Picture(name, title, "", None, missing_levels(of))]
    levels, count = of.levels
    groups = [group for group in of.groups if _has(group)]
    pictures = []
    for attack in _attacks(of):
        panels: dict[str, Any] = {"Accuracy (%)": {}, "ECE (%)": {}}
        for e in _epsilons(of):
            found = {
                group.key: measures
                for group in groups
                if (measures := _by_level(group, attack, e, levels, count)) is not None
            }
            x = np.arange(count)
            for row, name in zip(panels, ("accuracy", "ece"), strict=True):
                panels[row][_strength(e)] = {
                    key: (x, 100 * getattr(m, name)) for key, m in found.items()
                }
        pictures.append(
            Picture(
                f"levels_under_{attack}_{of.dataset}",
                f"Accuracy and ECE by robustness level under {BOUNDED_TITLES[attack]}, "
                f"{of.title}",
                f"{attacks.CAPTIONS['by_level']} {_attack_words(of)}. Before "
                "temperature scaling; means over seeds.",
                attacks.draw_grid_of_lines(
                    panels, "Level (0: least robust)", _labels(groups)
                ),
            )
        )
    return pictures


def figure_of_trade_off(of: Collection) -> list[Table | Picture]:
    """Compare clean accuracy, robust accuracy and ECE, and find the Pareto front."""
    attack, epsilon = _attacks(of)[-1], _reference(of)
    robust = f"{BOUNDED_TITLES[attack]}, {epsilon:g}/255"
    points: dict[str, tuple[float, float, float]] = {}
    under, groups = {}, []
    for group in each_with_temperature([g for g in of.groups if _has(g)]):
        wanted = (("accuracy", 0.0), ("accuracy", epsilon), ("ece", 0.0))
        values = [_values(group, attack, e, name) for name, e in wanted]
        if all(values):
            clean, attacked, ece = (float(np.mean(v)) for v in values)
            points[group.key] = (clean, attacked, ece)
            under[group.key] = _values(group, attack, epsilon, "ece")
            groups.append(group)
    if not points:
        return []
    aims = np.array(list(points.values())) * (1, 1, -1)
    front = {key for key, best in zip(points, pareto_front(aims), strict=True) if best}
    rows = [
        Row(
            group.label,
            (
                cell_of([100 * points[group.key][0]]),
                cell_of([100 * points[group.key][1]]),
                cell_of([100 * points[group.key][2]]),
                cell_of([100 * float(np.mean(under[group.key]))]),
                Cell(text="yes" if group.key in front else "no"),
            ),
            kind=kind_of(group),
        )
        for group in groups
    ]
    caption = (
        "On the front: no other row is at least as good in clean accuracy, robust "
        "accuracy and clean ECE and better in one. Means over seeds."
    )
    return [
        Picture(
            f"trade_off_{of.dataset}",
            f"The trade-off, {of.title}",
            f"{attacks.CAPTIONS['trade_off']} Means over seeds; hollow: scaled "
            "by a temperature, or an ensemble.",
            attacks.draw_trade_off(points, front, robust, _labels(groups)),
        ),
        Table(
            f"trade_off_{of.dataset}",
            f"The Pareto front, {of.title}",
            caption,
            (
                Column("Clean accuracy (%)", 2),
                Column(f"Accuracy (%) under {robust}", 2),
                Column("Clean ECE (%)", 2),
                Column(f"ECE (%) under {robust}", 2),
                Column("On the front"),
            ),
            tuple(rows),
        ),
    ]


def l2_curves(of: Collection) -> list[Picture]:
    """Draw the share of predictions that an L2 budget changes, a curve a run."""
    curves: dict[str, list[Any]] = {}
    lacking, made_by = [], set()
    for group in of.groups:
        for run in group.runs:
            found = run.metrics.get("attacks", {}).get("l2_success")
            if found:
                curve = (found["budgets"], found["success"])
                curves.setdefault(group.key, []).append(curve)
                made_by.add(_index_words(found))
            elif not group.is_ensemble:
                lacking.append(run)
    gaps: tuple[Missing, ...] = ()
    if lacking:
        commands = [c for run in lacking for c in _index_commands(run)]
        what = (
            f"{of.title}: {len(lacking)} of {len(of.runs)} runs have no robustness "
            "index of the test images under their own model"
        )
        gaps = (Missing(what, tuple(commands)),)
    if not curves and not gaps:
        return []  # ensembles alone: an index is of one model
    groups = [group for group in of.groups if group.key in curves]
    by = f" By {in_words(sorted(made_by))}." if made_by else ""
    return [
        Picture(
            f"l2_success_{of.dataset}",
            f"Success over L2 budgets, {of.title}",
            f"{attacks.CAPTIONS['l2_success']}{by} A curve a run.",
            attacks.draw_l2_success(curves, _labels(groups)) if curves else None,
            gaps,
        )
    ]


def costs(of: Collection) -> Table:
    """Return inference time, size, memory, accuracy and ECE as float32 and as int8."""
    columns = (
        Column("Time an image (ms)", 3),
        Column("File (MB)", 2),
        Column("Memory (MB)", 1),
        Column("Accuracy (%)", 2),
        Column("ECE (%)", 2),
        Column("ECE with temperature (%)", 2),
    )
    rows, lacking, where = [], [], []
    for group in of.groups:
        found = [r.metrics["footprint"] for r in group.runs if "footprint" in r.metrics]
        lacking += [run for run in group.runs if "footprint" not in run.metrics]
        for form, title in FORMS.items():
            forms = [one["forms"][form] for one in found]
            if not forms:
                continue
            scaled = [
                f["temperature_scaled"] for f in forms if "temperature_scaled" in f
            ]
            cells = (
                cell_of([1e3 * f["seconds_per_image"] for f in forms]),
                cell_of([f["file_bytes"] / 1e6 for f in forms]),
                cell_of([f["peak_bytes"] / 1e6 for f in forms if f["peak_bytes"]]),
                cell_of([100 * f["accuracy"] for f in forms]),
                cell_of([100 * f["ece"] for f in forms]),
                cell_of([100 * f["ece"] for f in scaled]),
            )
            rows.append(Row(f"{group.label}, {title}", cells, kind=kind_of(group)))
        where += [
            f"{one['hardware']}; batches of {one['batch_size']}, median of "
            f"{one['repeats']}"
            for one in found
        ]
    commands = tuple(evaluate_command(run, "--footprint") for run in lacking)
    what = f"{of.title}: {len(lacking)} of {len(of.runs)} runs have no footprint"
    return Table(
        f"footprint_{of.dataset}",
        f"Inference, {of.title}",
        "LiteRT runs on the processor; TensorFlow on the accelerator, if there is one. "
        "Memory: what a fresh process grows by at most when it loads the model and "
        "predicts a batch. int8: TensorFlow Lite's post-training quantisation. Times "
        "compare within a machine alone: "
        + ("; ".join(dict.fromkeys(where)) or "none measured")
        + ".",
        columns,
        tuple(rows),
        (Missing(what, commands),) if lacking else (),
        head="Method, number format, runtime",
    )


def _has(group: Group) -> bool:
    """Tell whether some run of a group was measured under attack."""
    return any(_of(run, group.scaled) for run in group.runs)


def _of(run: Run, scaled: bool) -> dict[str, Any]:
    """Return a run's measures by attack and strength, empty if there are none."""
    found = run.metrics.get("attacks", {})
    found = found.get("temperature_scaled", {}) if scaled else found
    return found.get("by_attack", {})


def _cells(group: Group, attack: str, epsilon: float) -> list[dict[str, Any]]:
    """Return the measures of those runs that have them."""
    found = [
        _of(run, group.scaled).get(attack, {}).get(f"{epsilon:g}") for run in group.runs
    ]
    return [one for one in found if one]


def _values(group: Group, attack: str, epsilon: float, name: str) -> list[float]:
    """Return a measure of those runs that have it; clean under any attack."""
    for one in BOUNDED_ATTACKS if not epsilon else (attack,):
        if found := _cells(group, one, epsilon):
            return [cell[name] for cell in found]
    return []


def _pooled_bins(group: Group, attack: str, epsilon: float) -> ReliabilityBins | None:
    """Return the reliability diagram of all runs together."""
    found = [cell["reliability"] for cell in _cells(group, attack, epsilon)]
    if not found:
        return None
    counts = np.array([one["counts"] for one in found])
    total = np.maximum(counts.sum(axis=0), 1)
    accuracy, confidence = (
        (counts * [one[name] for one in found]).sum(axis=0) / total
        for name in ("accuracy", "confidence")
    )
    edges = calibration.bin_edges(counts.shape[1])
    return ReliabilityBins(edges, counts.sum(axis=0), accuracy, confidence)


def _by_level(
    group: Group, attack: str, epsilon: float, levels: np.ndarray, count: int
) -> LevelMeasures | None:
    """Return the measures by level, averaged over the runs that have them."""
    found = []
    for run in group.runs:
        if f"{epsilon:g}" not in _of(run, group.scaled).get(attack, {}):
            continue
        stored = run.attacked(attack, epsilon)
        p = stored.probabilities
        if group.scaled and run.temperature is not None:
            p = apply_temperature(stored.logits, run.temperature)
        found.append(
            calibration.by_level(stored.labels, p, levels, count, run.num_bins)
        )
    if not found:
        return None
    return LevelMeasures(*(np.mean(c, axis=0) for c in zip(*found, strict=True)))


def _attacked_runs(of: Collection) -> list[Run]:
    return [run for run in of.runs if "attacks" in run.metrics]


def _attacks(of: Collection) -> list[str]:
    """Return the attacks that some run was measured under."""
    return [a for a in BOUNDED_ATTACKS if any(a in _of(run, False) for run in of.runs)]


def _epsilons(of: Collection) -> list[float]:
    """Return the strengths that some run was measured at, 0 first."""
    found = {
        float(e)
        for run in of.runs
        for by_strength in _of(run, False).values()
        for e in by_strength
    }
    return sorted(found)


def _strength(epsilon: float) -> str:
    return f"{epsilon:g}/255" if epsilon else "clean"


def _reference(of: Collection) -> float:
    strengths = [e for e in _epsilons(of) if e] or [REFERENCE]
    return REFERENCE if REFERENCE in strengths else strengths[-1]


def _labels(groups: Sequence[Group]) -> dict[str, str]:
    return {group.key: group.label for group in groups}


def _printed(group: Group) -> list[float | None]:
    """Return what the study printed of a group's network and method, if anything."""
    if group.runs[0].dataset != "cifar10":
        return []
    network = str(group.runs[0].config.get("model"))
    return list(study_figures().get(network, {}).get(group.method, []))


def _missing_rows(of: Collection, seen: set[tuple[str, str]], count: int) -> list[Row]:
    """Return rows of what the study has, of a network that we have, and we lack."""
    rows = []
    for network in dict.fromkeys(network for network, _ in seen):
        for method, printed in study_figures()[network].items():
            if (network, method) in seen:
                continue
            like = next(r for r in of.runs if r.config["model"] == network)
            more: dict[str, Any] = {"model": network}
            if network == "resnet18_cifar" and method != "vanilla":
                more["learning_rate"] = "0.0001"  # the study's, there alone
            command = train_command(of.dataset, method, like, **more)
            label = f"{collection.method_label(method)} ({network})"
            cells = [Cell(paper=p) for p in printed]
            cells += [Cell()] * (count - len(cells))
            rows.append(Row(label, tuple(cells), Missing(label, (command,))))
    return rows


def _attack_gaps(of: Collection) -> tuple[Missing, ...]:
    commands = []
    for run in of.runs:
        there = _of(run, False)
        lacking = [
            (attack, e)
            for attack in (_attacks(of) or BOUNDED_ATTACKS)
            for e in _epsilons(of)
            if e and f"{e:g}" not in there.get(attack, {})
        ]
        if there and lacking:
            names = dict.fromkeys(attack for attack, _ in lacking)
            strengths = sorted({e for _, e in lacking})
            flags = (
                f"--attacks={','.join(names)}",
                f"--epsilons={','.join(f'{e:g}' for e in strengths)}",
            )
            commands.append(evaluate_command(run, *flags))
        elif not there:
            commands.append(evaluate_command(run, "--attacks=fgsm,pgd"))
    if not commands:
        return ()
    what = (
        f"{len(commands)} of {len(of.runs)} runs are not wholly measured under attack"
    )
    return (Missing(f"{of.title}: {what}", tuple(commands)),)


def _attack_words(of: Collection) -> str:
    """Say what the attacks are, from what the runs have stored."""
    words = []
    for attack in _attacks(of):
        for run in _attacked_runs(of):
            settings = run.metrics["attacks"]["attacks"].get(attack)
            if settings:
                more = ", one step"
                if "steps" in settings:
                    more = f", {settings['steps']} steps of {settings['step_size']}"
                    more += " from a random start" * settings["random_start"]
                words.append(f"{attack.upper()}{more}")
                break
    if any(group.is_ensemble for group in of.groups):
        words.append("of an ensemble the averaged probabilities are attacked")
    return "; ".join(words)


def _test_images(of: Collection) -> str:
    numbers = {r.metrics["attacks"]["num_examples"] for r in _attacked_runs(of)}
    return in_words([f"{number:,}" for number in sorted(numbers)])


def _index_words(found: dict[str, Any]) -> str:
    settings = found.get("settings", {})
    words = [f"{settings[k]} {k}" for k in ("iterations", "steps") if k in settings]
    name = {"cw": "CW-L2"}.get(found["attack"], found["attack"])
    return f"{name} ({', '.join(words)})" if words else name


def _index_commands(run: Run) -> tuple[str, str]:
    """Return the commands that make a run's own index and measure with it."""
    index = run.folder / "robustness" / "cw" / "test.npz"
    flags = [f"--model_file={run.folder / 'model.keras'}", f"--dataset={run.dataset}"]
    for name in ("data_dir", "limit_examples"):
        if run.config.get(name):
            flags.append(f"--{name}={run.config[name]}")
    flags += ["--split=test", f"--output_file={index}"]
    return (
        " ".join(["python -m ar_adals_tf.compute_robustness", *flags]),
        evaluate_command(run, "--attacks=fgsm,pgd"),
    )
