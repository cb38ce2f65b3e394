"""Tables of models under attack, beside the companion study's, and of their costs.

The companion study is the one of adversarial training and calibration, see
`names.adversarial_study`. Every table is made from what runs have stored.
"""

from collections.abc import Sequence

from ar_adals_tf.attacks.table import BOUNDED_TITLES
from ar_adals_tf.evaluation.results import FORM_TITLES
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.attack_words import attack_words
from ar_adals_tf.reporting.certainty import AS_ABOVE_WORDS
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import (
    Group,
    each_with_temperature,
    seed_words,
    temperature_words,
)
from ar_adals_tf.reporting.items import (
    Cell,
    Column,
    Missing,
    Row,
    Table,
    cell_of,
    in_words,
    measures,
)
from ar_adals_tf.reporting.names import (
    adversarial_study,
    method_label,
    network_title,
    strength_words,
)
from ar_adals_tf.reporting.run import in_words_by_setting
from ar_adals_tf.reporting.words import machine_words

#: The measures that are shown at every strength.
BY_STRENGTH = measures("accuracy", "ece", "nll", "mean_confidence")

#: The attacks of the study's table.
STUDY_ATTACKS = ("fgsm", "pgd")

#: A setting that is no difference to the study, whose text does not name it.
_ARITHMETIC = "mixed precision"

#: Decimals of the accuracy: the study prints two.
_DIGITS = {"accuracy": 2}


def under_attack(collection: Collection) -> Table:
    """Return accuracy and ECE, clean and under each attack at one strength."""
    epsilon = collection.reference_strength
    cases = [("", 0.0), *((attack, epsilon) for attack in STUDY_ATTACKS)]
    shown = [
        (measure, *case) for measure in measures("accuracy", "ece") for case in cases
    ]
    columns = []
    for measure, attack, _ in shown:
        word = measure.title if measure.title.isupper() else measure.title.lower()
        title = f"{BOUNDED_TITLES[attack]} {word} ({measure.unit})" if attack else ""
        columns.append(measure.column(title, _DIGITS.get(measure.name)))
    rows, seen = [], set()
    for group in each_with_temperature(collection.groups_under_attack):
        printed = [] if group.scaled else _printed(group)
        if printed:
            seen.add((group.runs[0].config["model"], group.method))
        beside = _filled(printed, len(shown))
        cells = [
            measure.cell(
                group.attack_measures(attack, strength),
                value,
                group.attack_sample(attack, strength),
            )
            for (measure, attack, strength), value in zip(shown, beside, strict=True)
        ]
        rows.append(Row(group.label, cells, kind=group.kind))
    rows += _missing_rows(collection, seen, len(columns))
    return Table(
        f"under_attack_{collection.dataset}",
        f"Accuracy and calibration under attack, {collection.title}",
        _caption(collection, rows) if rows else "",
        columns,
        rows,
        commands.missing_attacks(collection),
        source="study",
    )


def by_strength(collection: Collection) -> list[Table]:
    """Return a table for each measure, over attacks and strengths."""
    single = collection.groups_under_attack
    cases = [("", 0.0)]
    cases += collection.attack_cases
    titles = ["Clean"]
    titles += [f"{BOUNDED_TITLES[a]} {strength_words(e)}" for a, e in cases[1:]]
    tables = []
    for measure in BY_STRENGTH:
        words = "" if measure.tempered else "Temperatures do not change the accuracy. "
        rows = []
        for group in each_with_temperature(single) if measure.tempered else single:
            cells = [
                measure.cell(
                    group.attack_measures(*case), sample=group.attack_sample(*case)
                )
                for case in cases
            ]
            rows.append(Row(group.label, cells, kind=group.kind))
        digits = _DIGITS.get(measure.name)
        tables.append(
            Table(
                f"{measure.name}_by_strength_{collection.dataset}",
                f"{measure.heading()} by attack and strength, {collection.title}",
                f"{attack_words(collection)}. {words}{temperature_words(single)}"
                f"{seed_words(single)} {AS_ABOVE_WORDS}",
                [measure.column(title, digits) for title in titles],
                rows,
            )
        )
    return tables


def costs(collection: Collection) -> Table:
    """Return inference time, size, memory, accuracy and ECE as float32 and as int8."""
    columns = [
        Column("Time an image (ms)", 3),
        Column("File (MB)", 2),
        Column("Memory (MB)", 1),
        Column("Accuracy (%)", 2),
        Column("ECE (%)", 2),
        Column("ECE with temperature (%)", 2),
    ]
    accuracy, ece = measures("accuracy", "ece")
    rows, machines = [], []
    for group in collection.groups:
        found = [r.metrics["footprint"] for r in group.runs if "footprint" in r.metrics]
        for form, title in FORM_TITLES.items() if found else ():
            forms = [one["forms"][form] for one in found]
            scaled = [
                f["temperature_scaled"] for f in forms if "temperature_scaled" in f
            ]
            peaks = [f["peak_bytes"] / 1e6 for f in forms if f["peak_bytes"]]
            cells = [
                cell_of([1e3 * f["seconds_per_image"] for f in forms]),
                cell_of([f["file_bytes"] / 1e6 for f in forms]),
                cell_of(peaks) if peaks else Cell(text="unknown"),
                accuracy.cell(forms),
                ece.cell(forms),
                ece.cell(scaled),
            ]
            rows.append(Row(f"{group.label}, {title}", cells, kind=group.kind))
        machines += found
    lacking = [run for run in collection.runs if "footprint" not in run.metrics]
    return Table(
        f"footprint_{collection.dataset}",
        f"Inference, {collection.title}",
        "LiteRT runs on the processor; TensorFlow on the accelerator, if there is one. "
        "Memory: the peak growth of a fresh process that loads the model and predicts "
        "a batch. It is unknown where the system does not report it, or where no "
        "--import registers the model's own layers. int8: TensorFlow Lite's "
        "post-training quantisation. Compare times on one machine only: "
        f"{machine_words(machines)}.",
        columns,
        rows,
        commands.missing_evaluation(
            collection, lacking, "have no footprint", "--footprint"
        ),
        head="Method, number format, runtime",
    )


def _caption(collection: Collection, rows: Sequence[Row]) -> str:
    epsilon, groups = strength_words(collection.reference_strength), collection.groups
    stored = [run.metrics["attacks"] for run in collection.runs_under_attack]
    numbers = [f"{n:,}" for n in sorted({one["num_examples"] for one in stored})]
    words = f"{in_words(numbers)} test images, ECE over {collection.num_bins} bins. "
    if named := attack_words(collection, STUDY_ATTACKS):
        words += (
            f"Attacks at {epsilon} in the L-infinity norm, by CleverHans, on the true "
            f"label: {named}. "
        )
    if any(cell.paper is not None for row in rows for cell in row.cells):
        words += (
            'Numbers marked "study" are the study\'s own, from its own training and '
            f"with ECE over {adversarial_study()['num_bins']} bins. The study's text "
            f"does not say how strong its attacks are; ours are at {epsilon}. Tables "
            "below have other strengths. "
        )
    words += f"{temperature_words(groups)}{seed_words(groups)} "
    return words + AS_ABOVE_WORDS


def _printed(group: Group) -> list[float]:
    """Return what the study printed on a group's network and method, if anything.

    It does not stand beside a run whose further settings are not the study's.
    """
    run, study = group.runs[0], adversarial_study()
    if run.dataset != study["dataset"]:
        return []
    network = str(run.config.get("model"))
    theirs = study["networks"].get(network, {}).get(group.method, {})
    wanted = study["settings"] | {"model": network} | theirs.get("settings", {})
    settings, own = map(in_words_by_setting, (wanted, run.settings))
    further = run.off_recipe.keys() - settings.keys() - {_ARITHMETIC}
    if further or any(own.get(name) != words for name, words in settings.items()):
        return []
    return list(theirs.get("printed", []))


def _missing_rows(
    collection: Collection, seen: set[tuple[str, str]], count: int
) -> list[Row]:
    """Return rows for the methods that the study has on our networks and we lack."""
    rows = []
    networks = adversarial_study()["networks"]
    for network in dict.fromkeys(network for network, _ in seen):
        like = next(r for r in collection.runs if r.config["model"] == network)
        for method, theirs in networks[network].items():
            if (network, method) in seen:
                continue
            there = any(
                (run.config["model"], run.method) == (network, method)
                for run in collection.runs_under_attack
            )
            settings = {"model": network} | theirs.get("settings", {})
            command = commands.train_command(
                collection.dataset, method, like, **settings
            )
            label = f"{method_label(method)} ({network_title(network)})"
            cells = [Cell(paper=value) for value in _filled(theirs["printed"], count)]
            what = f"{collection.title}: no run of {label} under attack"
            lacking = Missing(what, (command,), label)
            rows.append(Row(label, cells, None if there else lacking))
    return rows


def _filled(printed: Sequence[float], count: int) -> list[float | None]:
    return [*printed, *[None] * (count - len(printed))]
