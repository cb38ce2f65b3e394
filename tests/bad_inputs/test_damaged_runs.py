"""What each command says of a run with a damaged file: every file, every damage.

Each case starts from copies of the same small runs and damages one file. A case reads
`(file, damage)`, and the commands that read the file are in `READERS`. A damage of one
value is a line of `PLACES`: the file, the place in it, and what is written there.
"""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.evaluation.predictions import Predictions
from tests.bad_inputs.runner import Case, check

TINY = ("--limit_examples=24", "--epochs=2", "--notensorboard", "--noverbose")
ADA = ("--method=ar_adals", "--num_levels=2", "--attack=margin", *TINY)
INDEX = "van/robustness/margin/test.npz"
COMMANDS = {
    "evaluate": (
        "--run_dir=ada",
        "--shift",
        "--shift_types=contrast",
        "--severities=1",
    ),
    "report": ("--runs=van,van1,ada", "--output_dir=page"),
    "train": (*ADA, "--vanilla_dir=van", "--output_dir=ada"),
    "sweep": ("--method=ls", "--values=0.1", *TINY, "--output_dir=sweep"),
    "compare_indexes": (f"--indexes={INDEX},other.npz", "--num_levels=2"),
}
SWEPT = "sweep/label_smoothing=0.1"


@pytest.fixture(scope="session")
def runs(parent, tmp_path_factory):
    """Small runs as the commands leave them, measured on whatever can be measured."""
    root = tmp_path_factory.mktemp("runs")

    def done(command, *arguments):
        ended = parent.run(command, arguments, root, timeout=500)
        assert ended.status == 0, ended

    done("train", *ADA, "--vanilla_dir=van", "--output_dir=ada")
    done("sweep", *COMMANDS["sweep"])
    for run in ("van", "ada"):
        shift = ("--shift", "--shift_types=contrast,fog", "--severities=1")
        done("evaluate", f"--run_dir={run}", *shift, "--attacks=fgsm", "--epsilons=8")
        measured_further(root / run)
    shutil.copytree(root / "van", root / "van1")
    config = json.loads((root / "van1/config.json").read_text())
    (root / "van1/config.json").write_text(json.dumps(config | {"seed": 1}))
    shutil.copy(root / INDEX, root / "other.npz")
    done("compare_indexes", *COMMANDS["compare_indexes"])  # the indexes are whole
    for folder in root.glob("**/figures"):
        shutil.rmtree(folder, ignore_errors=True)
    return root


def measured_further(run):
    """Write what --ood and --footprint measure; the data and time for it are saved."""
    clean = Predictions.load(run / "predictions.npz")
    (run / "ood").mkdir()
    clean.save_compactly(run / "ood/cifar10.npz")
    metrics = json.loads((run / "metrics.json").read_text())
    entropy = calibration.predictive_entropy(clean.probabilities)
    metrics["ood"] = {"cifar10": calibration.ood_scores(entropy, entropy)}
    costs = {"seconds_per_image": 0.1, "file_bytes": 10, "peak_bytes": None}
    form = {**metrics["clean"], **costs}
    names = ("tensorflow_float32", "lite_float32", "lite_int8")
    metrics["footprint"] = {"hardware": "a machine", "batch_size": 32, "repeats": 20}
    metrics["footprint"]["forms"] = dict.fromkeys(names, form)
    (run / "metrics.json").write_text(json.dumps(metrics))


# Damages of whole files.


def written(content):
    """Return the damage that leaves this content, bytes or text."""

    def damage(path):
        whole = path.read_bytes()
        path.unlink()  # it is a hard link
        found = content(whole) if callable(content) else content
        path.write_bytes(found.encode() if isinstance(found, str) else found)

    return damage


def a_directory(path):
    path.unlink()
    path.mkdir()


def half(whole):
    return whole[: len(whole) // 2]


ANY_FILE = {
    "empty": written(""),
    "half": written(half),
    "binary": written(bytes(range(256)) * 4),
    "zeros": written(bytes(500)),
    "a directory": a_directory,
}
JSON = ANY_FILE | {
    "a list": written("[]"),
    "null": written("null"),
    "no names": written("{}"),
    "a word": written('"word"'),
    "a number": written("3"),
    "NaN": written("NaN"),
    "deep lists": written("[" * 100_000 + "]" * 100_000),
    "deep names": written('{"a":' * 900 + "1" + "}" * 900),
    "a name twice": written('{"temperature": 1, "temperature": 2}'),
    "UTF-16": written(lambda whole: whole.decode().encode("utf-16")),
    "much too long a number": written("9" * 5_000),
    "two files in one": written(lambda whole: whole + whole),
    "no comma": written(lambda whole: whole.replace(b",", b"", 1)),
}
#: The commands that read a file: those that all damages are tried on every time, and
#: those that get the most of them in the slow tests alone.
JSON_READERS = {
    "ada/config.json": (("report",), ("evaluate", "train")),
    "ada/metrics.json": (("report",), ("evaluate",)),
    "ada/temperature.json": (("evaluate",), ("report",)),
    "ada/shift/settings.json": ((), ("evaluate",)),
    "van/config.json": ((), ("train to new", "report")),
    f"{SWEPT}/config.json": ((), ("sweep",)),
    f"{SWEPT}/metrics.json": ((), ("sweep",)),
}

#: Damages that are tried on every command every time.
ALWAYS = ("empty", "half", "a list", "metadata null", "ids words", "labels of others")

COMMANDS["train to new"] = (*ADA, "--vanilla_dir=van", "--output_dir=new")


def _at(file, *places):
    return [(file, place, value) for place, value in places]


#: Damages of one value: the file, where it is, and what is written there.
PLACES = [
    *_at(
        "ada/config.json",
        ("method", "no_such"),
        ("seed", "word"),
        ("split_seed", -1),
        ("output_dir", 3),
        ("vanilla_dir", "a\0b"),
        ("data_dir", []),
        ("model", None),
        ("epochs", 0),
        ("batch_size", 1.5),
        ("learning_rate", float("nan")),
        ("schedule", "other"),
        ("dropout", 1),
        ("num_levels", "ten"),
        ("alpha", "word"),
        ("attack", 5),
        ("attack_settings", []),
        ("attack_settings.top_k", {}),
        ("attack_settings.no_such", 1),
        ("refresh_epochs", ["one"]),
        ("levels_from", "luck"),
        ("method_settings", "word"),
        ("method_settings.no_such", 1),
        ("adversarial_training", "no_such"),
        ("ensemble_size", -1),
        ("validation_examples", 2.5),
        ("selection_examples", None),
        ("limit_examples", "few"),
        ("num_bins", "word"),
        ("mixed_precision", "float64"),
        ("deterministic", "yes"),
        ("tensorboard", 1),
        ("verbose", None),
    ),
    *_at(
        "ada/metrics.json",
        ("clean", []),
        ("clean.num_bins", "word"),
        ("clean.num_bins", None),
        ("clean.accuracy", 1.5),
        ("clean.ece", "word"),
        ("clean.nll", float("inf")),
        ("clean.brier", -1),
        ("more", 3),
        ("more.aurc", None),
        ("more.aurc_normalised_logit", "word"),
        ("by_level.accuracy", "word"),
        ("by_level.ece", []),
        ("by_level.counts", [1, "two"]),
        ("temperature_scaled", "word"),
        ("temperature_scaled.temperature", 0),
        ("temperature_scaled.clean", {}),
        ("validation", None),
        ("shift", []),
        ("shift.types", "fog"),
        ("shift.types", ["fog", "no_such"]),
        ("shift.severities", []),
        ("shift.severities", [9]),
        ("shift.by_type", {}),
        ("shift.by_type.fog", []),
        ("shift.by_type.fog.1.ece", "word"),
        ("shift.mean.1", {}),
        ("shift.overall", {}),
        ("shift.overall.all.ece", "word"),
        ("shift.overall.all.types", None),
        ("shift.quartiles.1.ece", "word"),
        ("shift.num_examples", "many"),
        ("shift.source", 3),
        ("shift.temperature_scaled.by_type", None),
        ("attacks", []),
        ("attacks.attacks", {}),
        ("attacks.attacks.fgsm", "word"),
        ("attacks.num_examples", None),
        ("attacks.by_attack", []),
        ("attacks.by_attack.fgsm", "word"),
        ("attacks.by_attack.fgsm.strong", {}),
        ("attacks.by_attack.fgsm.8.ece", True),
        ("attacks.by_attack.fgsm.8.reliability", None),
        ("attacks.by_attack.fgsm.8.reliability.counts", [1]),
        ("attacks.by_attack.fgsm.8.by_level", 1),
        ("attacks.temperature_scaled", "word"),
        ("ood", "word"),
        ("ood.cifar10", []),
        ("ood.cifar10.auroc", "high"),
        ("footprint", "word"),
        ("footprint.hardware", None),
        ("footprint.batch_size", "big"),
        ("footprint.forms", {"lite_int8": {}}),
        ("footprint.forms.lite_int8.file_bytes", "word"),
        ("footprint.forms.lite_int8.seconds_per_image", None),
    ),
    *_at(
        "ada/temperature.json",
        ("temperature", "word"),
        ("temperature", None),
        ("temperature", []),
        ("temperature", 0),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", 10**400),
        ("temperature", True),
    ),
    *_at("ada/shift/settings.json", ("model", None), ("model", 3), ("model", [])),
]


def put(place, value, path):
    """Write a value at a place of a JSON file."""
    content = json.loads(path.read_bytes())
    *outer, name = place.strip().split(".")
    inner = content
    for one in outer:
        inner = inner[one]
    inner[name] = value
    written(json.dumps(content))(path)


# Damages of the arrays of an .npz file.


def array(name, change):
    """Return the damage that changes one array."""

    def damage(path):
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files}
        arrays[name] = change(arrays[name])
        if arrays[name] is None:
            del arrays[name]
        path.unlink()
        np.savez(path, **arrays)

    return damage


def first(value):
    """Return the change that puts a value in the first place."""

    def change(whole):
        whole = whole.copy()
        whole[0] = value
        return whole

    return change


SHAPES = {
    "missing": lambda whole: None,
    "one number": lambda whole: whole.flat[0],
    "of more dimensions": lambda whole: whole[None],
    "too few": lambda whole: whole[:-1],
    "none": lambda whole: whole[:0],
    "objects": lambda whole: whole.astype(object),
    "dates": lambda whole: np.zeros(whole.shape, "datetime64[s]"),
    "words": lambda whole: np.full(whole.shape, "word"),
}
VALUES = {"not a number": first(np.nan), "infinite": first(np.inf)}
PREDICTIONS = ANY_FILE | {
    f"{name} {kind}": array(name, change)
    for name, changes in {
        "ids": SHAPES,
        "labels": SHAPES
        | {"too large": first(10), "negative": first(-1)}
        | {"floats": lambda whole: whole.astype(float)},
    }.items()
    for kind, change in changes.items()
}
OUTPUTS = SHAPES | VALUES | {"of one class": lambda whole: whole[:, :1]}
PROBABILITIES = PREDICTIONS | {
    f"probabilities {kind}": array("probabilities", change)
    for kind, change in {**OUTPUTS, "doubled": lambda whole: 2 * whole}.items()
}
LOGITS = PREDICTIONS | {
    f"logits {kind}": array("logits", change)
    for kind, change in {**OUTPUTS, "of other classes": lambda x: x[:, :9]}.items()
}
OF_THE_IMAGES = LOGITS | {
    "labels of others": array("labels", lambda whole: (whole + 1) % 10)
}


# Damages of an index and of a table.


def metadata(change):
    """Return the damage that changes the metadata of an index, as text."""
    return array("metadata", lambda whole: np.array(change(str(whole))))


def with_value(name, value):
    return lambda text: json.dumps(json.loads(text) | {name: value})


METADATA = {
    "metadata empty": "",
    "metadata a list": "[]",
    "metadata null": "null",
    "metadata cut": '{"attack": "ma',
    "metadata too deep": "[" * 100_000,
    "metadata with a name twice": '{"attack": "cw", "attack": "cw"}',
}
INDEX_DAMAGES = ANY_FILE | {
    name: metadata(lambda _, text=text: text) for name, text in METADATA.items()
}
INDEX_DAMAGES |= {
    f"{name} {value!r:.20}": metadata(with_value(name, value))
    for name, value in (
        ("seconds", "long"),
        ("seconds", -1),
        ("success_rate", "high"),
        ("success_rate", float("nan")),
        ("attack", 5),
        ("attack", None),
        ("dataset", []),
        ("split", {}),
        ("settings", "word"),
        ("digest", 0),
        ("versions", []),
    )
}
INDEX_DAMAGES |= {
    f"{name} {kind}": array(name, change)
    for name, changes in {
        "ids": SHAPES | {"repeated": lambda whole: np.full_like(whole, whole[0])},
        "distances": SHAPES | {"not a number": first(np.nan), "negative": first(-1)},
        "found": SHAPES | {"numbers": lambda whole: whole.astype(int)},
    }.items()
    for kind, change in changes.items()
}


def line(change):
    """Return the damage that changes the lines of a table."""

    def damage(whole):
        lines = whole.decode().splitlines()
        return "\n".join(change(lines)) + "\n"

    return written(damage)


def column(name, value):
    """Return the damage that writes a value into the last row."""

    def change(lines):
        cells = lines[-1].split(",")
        cells[lines[0].split(",").index(name)] = value
        return [*lines[:-1], ",".join(cells)]

    return line(change)


HISTORY = ANY_FILE | {
    "text": written("Training went well.\nVery well.\n"),
    "without rows": line(lambda lines: lines[:1]),
    "without a head": line(lambda lines: lines[1:]),
    "a row too short": line(lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0]]),
    "a row too long": line(lambda lines: [*lines[:-1], lines[-1] + ",1"]),
    "an empty row": line(lambda lines: [lines[0], "", *lines[1:]]),
    "cut in a word": line(lambda lines: [*lines[:-1], lines[-1][:5] + "x"]),
    "without a column": line(lambda lines: [x.split(",", 1)[1] for x in lines]),
    "another column": line(lambda lines: [lines[0].replace("p/1", "p/7"), *lines[1:]]),
    "a column twice": line(lambda lines: [lines[0].replace("p/1", "p/0"), *lines[1:]]),
    "an epoch twice": line(lambda lines: [*lines, lines[-1]]),
    "an open quote": line(lambda lines: [*lines[:-1], '"' + lines[-1]]),
    "UTF-16": written(lambda whole: whole.decode().encode("utf-16")),
    "a soft label in words": column("p/1", "high"),
    "a soft label above 1": column("p/1", "1.5"),
    "a soft label that is no number": column("p/0", "nan"),
    "a loss in words": column("loss", "low"),
    "an epoch in words": column("epoch", "last"),
}

INDEX_READERS = ("compare_indexes",), ("train to new",)

#: Files, their damages, and the commands that read them; see `JSON_READERS`.
TABLE = [
    *((file, JSON, commands) for file, commands in JSON_READERS.items()),
    ("ada/predictions.npz", PROBABILITIES, (("report",), ())),
    ("van1/shift/contrast_1.npz", OF_THE_IMAGES, ((), ("report",))),
    ("ada/attacked/fgsm_8.npz", OF_THE_IMAGES, ((), ("report",))),
    ("van1/ood/cifar10.npz", LOGITS, ((), ("report",))),
    ("ada/history.csv", HISTORY, ((), ("report",))),
    (INDEX, INDEX_DAMAGES, INDEX_READERS),
]

#: Files of no strength, beside those of strengths.
STRANGE = ("fgsm_foo", "fgsm_", "fgsm_300", "fgsm_-1", "fgsm_nan", "fgsm_8.0", "pgd_x")
COMMANDS["attack"] = ("--run_dir=ada", "--attacks=fgsm", "--epsilons=8")


def prepared(runs, file, damage, folder):
    """Write damaged copies of the runs into a folder."""
    shutil.copytree(runs, folder, copy_function=os.link, dirs_exist_ok=True)
    damage(folder / file)


def named(other):
    """Return the damage that gives a file another name too."""
    return lambda path: shutil.copy(path, path.with_name(other))


def cases():
    for file, damages, (quick, slow) in TABLE:
        for name, damage in damages.items():
            for command in (*quick, *slow):
                # One function reads all files of JSON.
                again = damages is JSON and file != "ada/config.json"
                often = name in ALWAYS or (command in quick and not again)
                yield case(command, file, damage, name, often)
    kinds = set()
    for number, (file, place, value) in enumerate(PLACES):
        quick, slow = JSON_READERS[file]
        for command in (*quick, *slow):
            name = f"{place} {value!r:.20} {number}"
            damage = partial(put, place, value)
            # One value of each type; tests/forms holds what forms refuse.
            kind = command, file, type(value)
            often = command in quick and kind not in kinds
            kinds.add(kind)
            yield case(command, file, damage, name, often)


def case(command, file, damage, name, often):
    marks = () if often else pytest.mark.slow
    words = ascii(f"{command} of {file}: {name}")
    return pytest.param(command, file, damage, marks=marks, id=words)


@pytest.mark.parametrize(("command", "file", "damage"), cases())
def test_a_damaged_run_is_refused(command, file, damage, runs, parent, tmp_path):
    """One sentence names the file, and nothing is written or changed."""
    case = Case(
        command.split()[0],
        COMMANDS[command],
        file.removeprefix("ada/"),
        partial(prepared, runs, file, damage),
    )
    check(parent, case, tmp_path)


@pytest.mark.parametrize(
    "command", ["evaluate", pytest.param("report", marks=pytest.mark.slow)]
)
def test_a_damaged_index_is_passed_over_and_named(command, runs, parent, tmp_path):
    """These two can do without; see `choose_index`."""
    prepared(runs, INDEX, INDEX_DAMAGES["half"], tmp_path)
    ended = parent.run(command, COMMANDS[command], tmp_path, timeout=500)
    assert ended.status == 0, ended
    assert f"{INDEX} was passed over: " in ended.out


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_file_among_the_sets_is_named(name, runs, parent, tmp_path):
    damage = named(f"{name}.npz")
    case = Case(
        "evaluate",
        COMMANDS["attack"],
        f"attacked/{name}.npz is named after no strength",
        partial(prepared, runs, "ada/attacked/fgsm_8.npz", damage),
    )
    check(parent, case, tmp_path)
