"""Sweeps choose by validation images, and say what they chose. About 10 seconds."""

import contextlib
import dataclasses
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from absl.testing import flagsaver

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.process.locks import LOCK
from ar_adals_tf.studies.cells import cells_of
from ar_adals_tf.studies.study import load_study
from ar_adals_tf.training import selection
from tests.helpers import forget_flags, history

pytestmark = pytest.mark.usefixtures("thin_network")


@contextlib.contextmanager
def imported_anew():
    """Give the command's module, with no flags about but its own."""
    forget_flags()
    sys.modules.pop("ar_adals_tf.sweep", None)
    yield importlib.import_module("ar_adals_tf.sweep")
    forget_flags()


@pytest.fixture
def sweep():
    with imported_anew() as module:
        yield module


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder in which a sweep has trained its runs."""
    folder = tmp_path_factory.mktemp("trained")
    with imported_anew() as module:
        run_sweep(module, folder)
    return folder


def test_every_method_can_be_chosen(sweep):
    """Flags name the methods and their settings, which are in tables elsewhere."""
    assert command_line.FLAGS["method"].parser.enum_values == list(METHODS)
    settings = [name for method in METHODS.values() for name in method.settings]
    assert set(settings) <= set(command_line.FLAGS)
    adversarial = [name for name, method in METHODS.items() if method.adversarial]
    flag = command_line.FLAGS["adversarial_training"]
    assert flag.parser.enum_values == adversarial


@pytest.mark.parametrize(
    ("dataset", "method", "param", "values"),
    [
        ("cifar10", "adals", "alpha", [0.005, 0.01, 0.05, 0.1]),
        ("cifar10", "ar_adals", "alpha", [0.005, 0.01, 0.05]),
        ("imagenet2012", "adals", "alpha", [0.005, 0.01, 0.03, 0.05, 0.1]),
        ("svhn_cropped", "ar_adals", "num_levels", [1, 2, 4, 8, 10, 16]),
        ("cifar100", "ls", "label_smoothing", np.arange(11) / 100),
    ],
)
def test_the_papers_values(dataset, method, param, values):
    texts = selection.usual_values(Config.make(dataset, method), param)
    found = [selection.parse(param, text) for text in texts]
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("dataset", "method", "given", "values"),
    [
        ("table.npz", "ar_adals", {}, ["0.025", "0.05", "0.125", "0.25"]),
        ("table.npz", "adals", {}, ["0.025", "0.05", "0.125", "0.25", "0.5"]),
        ("table.npz", "ar_adals", {"epochs": 8}, ["0.125", "0.25", "0.5"]),
        ("fashion_mnist_small", "ar_adals", {}, ["0.05", "0.1", "0.25", "0.5"]),
        ("cifar10", "ar_adals", {"epochs": 20}, ["0.05", "0.1", "0.5"]),
        ("cifar10", "ar_adals", {"epochs": 5}, ["0.2", "0.4", "1"]),
        (
            "imagenet2012",
            "adals",
            {"epochs": 45},
            ["0.01", "0.02", "0.06", "0.1", "0.2"],
        ),
    ],
)
def test_alphas_that_are_tried_follow_the_epochs(
    dataset, method, given, values, tmp_path, monkeypatch
):
    """As the alpha of `train` does, which is one of them where the recipe is ours."""
    monkeypatch.chdir(tmp_path)
    np.savez("table.npz", x_train=np.eye(90), y_train=np.arange(90) % 2)
    base = Config.make(dataset, method, **given)
    assert selection.usual_values(base, "alpha") == values
    if dataset in ("table.npz", "fashion_mnist_small"):
        assert base.alpha in values


def test_one_alpha_is_no_choice(tmp_path):
    base = Config.make("fashion_mnist_small", "adals", epochs=1, limit_examples=60)
    with pytest.raises(InputError, match="by default are 0.5.*give --values"):
        selection.sweep(base, "alpha", None, tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_a_fine_tuning_tries_larger_alphas(tmp_path):
    (tmp_path / "mine.keras").write_bytes(b"a model")
    given = {"model": str(tmp_path / "mine.keras"), "finetune": True}
    base = Config.make("cifar10", "ar_adals", **given)
    found = selection.usual_values(base, "alpha")
    assert base.alpha in found == ["0.1", "0.2", "0.5"]


def test_parameters_are_the_methods_own():
    methods = ("ls", "adals", "ar_adals")
    found = [selection.default_param(method) for method in methods]
    assert found == ["label_smoothing", "alpha", "alpha"]
    with pytest.raises(InputError, match="vanilla has no setting"):
        selection.default_param("vanilla")
    with pytest.raises(InputError, match="num_levels must be numbers.*'many'"):
        selection.parse("num_levels", "many")


def test_runs_differ_in_the_one_setting(tmp_path):
    """And are what `train` would make with this setting given."""
    given = {"attack": "margin", "epochs": 3, "seed": 5, "refresh_epochs": [1]}
    base = Config.make("cifar10", "ar_adals", **given)
    for value, config in selection.variants(base, "num_levels", "24", tmp_path).items():
        folder = str(tmp_path / f"num_levels={value}")
        more = {"num_levels": int(value), "output_dir": folder}
        assert config == Config.make("cifar10", "ar_adals", **given, **more)


def run_sweep(sweep, folder, *more):
    """Run the command in this process."""
    arguments = [
        "sweep",
        "--dataset=fashion_mnist_small",
        "--method=ls",
        "--values=0.3,0,0.6",
        "--limit_examples=150",
        "--epochs=1",
        "--notensorboard",
        f"--output_dir={folder}",
        *more,
    ]
    with flagsaver.flagsaver():
        command_line.FLAGS(arguments)
        sweep.main()


def parsed(flagfile):
    """Return the settings of a flagfile, as `train` would read them."""
    with flagsaver.flagsaver():
        command_line.FLAGS(["train", f"--flagfile={flagfile}"])
        return command_line.training_config()


def metrics(folder):
    """Return what each run measured, by its value."""
    return {
        value: json.loads(
            (folder / f"label_smoothing={value}" / "metrics.json").read_text()
        )
        for value in ("0.3", "0", "0.6")
    }


@pytest.fixture(
    params=["validation", pytest.param("selection", marks=pytest.mark.slow)]
)
def swept(request, trained, sweep, tmp_path, capsys):
    """Return a sweep's folder, the images that chose, and what the command printed."""
    apart = request.param == "selection"
    folder, more = (tmp_path, ["--selection_examples=60"]) if apart else (trained, [])
    run_sweep(sweep, folder, *more)
    return folder, request.param, capsys.readouterr().out


def test_the_lowest_ece_is_chosen(swept):
    folder, images, printed = swept
    found = metrics(folder)
    best = min(found, key=lambda value: found[value][images]["ece"])
    saved = json.loads((folder / "sweep.json").read_text())
    assert saved["chosen"] == best and saved["images"] == images
    assert saved["measures"] == {value: own[images] for value, own in found.items()}
    assert (folder / "sweep.png").stat().st_size > 10_000
    (marked,) = (line for line in printed.splitlines() if line.endswith("  chosen"))
    assert marked.split()[0] == best
    config = parsed(folder / "chosen.cfg")
    run = folder / f"label_smoothing={best}"
    assert config.differences(json.loads((run / "config.json").read_text())) == []
    for value, own in found.items():
        last = history(folder / f"label_smoothing={value}")["val_ece"][-1]
        assert own["validation"]["ece"] == pytest.approx(last, abs=1e-6)


@pytest.mark.parametrize("by", ["nll", "smece"])
def test_another_measure_chooses(trained, sweep, capsys, by):
    run_sweep(sweep, trained, f"--select_by={by}", "--one_sd")
    saved = json.loads((trained / "sweep.json").read_text())
    assert (saved["select_by"], saved["one_sd"]) == (by, True)
    estimates = {v: i["estimate"] for v, i in saved["intervals"].items()}
    if by == "nll":
        found = {
            value: own["validation"]["nll"] for value, own in metrics(trained).items()
        }
        assert estimates == pytest.approx(found, rel=1e-5)
    assert min(estimates, key=estimates.get) in saved["alike"]
    printed = capsys.readouterr().out
    assert "within one standard deviation of the lowest" in printed
    assert f"{selection.SELECT_BY[by]} [95 % interval]" in printed
    first = (trained / "chosen.cfg").read_text().splitlines()[0]
    assert f"the lowest {selection.SELECT_BY[by]}" in first


def test_the_flag_offers_every_measure(sweep):
    assert command_line.FLAGS["select_by"].parser.enum_values == list(
        selection.SELECT_BY
    )


def test_what_is_trained_is_not_trained_again(trained, sweep):
    paths = sorted(trained.glob("*/metrics.json"))
    assert len(paths) == 3
    changed = [path.stat().st_mtime_ns for path in paths]
    run_sweep(sweep, trained)
    config = parsed(trained / "chosen.cfg")
    (trained / "chosen.cfg").unlink()
    run_sweep(sweep, trained)
    assert changed == [path.stat().st_mtime_ns for path in paths]
    assert parsed(trained / "chosen.cfg") == config


def test_the_selection_images_are_apart():
    """They are in no part that trains, and the others are all there."""
    from ar_adals_tf.datasets.loading import load

    whole = load("fashion_mnist_small")["validation"]
    first, rest = whole.divided(300)
    assert (first.name, rest.name) == ("selection", "validation")
    assert len(first) == 300 and len(rest) == 700
    np.testing.assert_array_equal(np.r_[first.ids, rest.ids], whole.ids)
    np.testing.assert_array_equal(np.r_[first.images, rest.images], whole.images)
    np.testing.assert_array_equal(np.r_[first.labels, rest.labels], whole.labels)
    ids = [i for i, _, _ in rest.batches(100).as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(ids), rest.ids)


def test_a_setting_that_means_nothing_is_refused(sweep, tmp_path):
    with pytest.raises(InputError, match="--param=alpha means nothing to --method=ls"):
        run_sweep(sweep, tmp_path, "--param=alpha", "--values=0.1")
    with pytest.raises(InputError, match="chooses by validation images"):
        run_sweep(sweep, tmp_path, "--validation_examples=0")


def test_a_sweep_over_r_ends_with_the_way_to_figure_4(
    untrained, sweep, tmp_path, capsys
):
    """The last lines that the command prints name its runs."""
    more = ["--method=ar_adals", "--attack=margin", "--values=1,4"]
    run_sweep(sweep, tmp_path, "--param=num_levels", *more)
    printed = capsys.readouterr().out
    runs = [str(tmp_path / f"num_levels={r}") for r in (1, 4)]
    assert f"for run in {runs[0]} {runs[1]}; do" in printed
    assert "evaluate --run_dir=$run --shift" in printed
    command = f"report --runs={runs[0]},{runs[1]} --output_dir={tmp_path}/report"
    assert printed.rstrip().endswith(command)


# Folders.


@pytest.fixture
def untrained(monkeypatch, tmp_path):
    """Let a sweep find what it would train; return its settings."""
    rng = np.random.default_rng(0)
    found = Predictions(
        np.arange(50), rng.integers(0, 10, 50), rng.normal(size=(50, 10))
    )
    monkeypatch.setattr(selection, "run_predictor", lambda run: lambda *_: found)
    splits = {"train": np.zeros(50), "validation": np.zeros(50)}
    monkeypatch.setattr(selection, "load_splits", lambda config: splits)
    monkeypatch.setattr(selection, "train", lambda config, _: Path(config.output_dir))
    measures = {"accuracy": 0.5, "nll": 1.0, "brier": 0.5, "num_bins": 15}
    runs = {
        "alpha=0.1": 0.1,
        "alpha=0.5": 0.5,
        "num_levels=1": 0.1,
        "num_levels=4": 0.2,
    }
    for name, ece in runs.items():
        folder = tmp_path / name
        folder.mkdir()
        own = measures | {"ece": ece}
        content = {"clean": own, "validation": own}
        (folder / "metrics.json").write_text(json.dumps(content))
    return Config.make("fashion_mnist_small", "ar_adals", attack="margin")


def test_the_files_of_a_sweep_are_written_together(untrained, tmp_path, monkeypatch):
    write = selection._write

    def write_alone(*arguments):
        assert (tmp_path / LOCK).exists()
        write(*arguments)

    monkeypatch.setattr(selection, "_write", write_alone)
    for name in (".3b1c2fd3-sweep.png", "thesis.txt"):
        (tmp_path / name).touch()
    selection.sweep(untrained, "alpha", ["0.1", "0.5"], tmp_path, [])
    found = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert found == {"sweep.json", "sweep.png", "chosen.cfg", "thesis.txt"}


def test_a_sweep_does_not_train_in_its_own_vanilla_run(
    untrained, tmp_path, monkeypatch
):
    """It is refused before the first run, also where the vanilla run is the last."""

    def refuse(*_):
        raise AssertionError("trained")

    monkeypatch.setattr(selection, "train", refuse)
    base = dataclasses.replace(untrained, vanilla_dir=str(tmp_path / "alpha=0.5"))
    with pytest.raises(InputError, match="alpha=0.5 is also read"):
        selection.sweep(base, "alpha", ["0.1", "0.5"], tmp_path, [])


OWN_LEVELS = """
title = "A study"
dataset = "fashion_mnist_small"
seeds = [0]
images = { train = 9, validation = 9, test = 9 }

[methods.vanilla]
method = "vanilla"

[methods.ar_adals]
method = "ar_adals"
attack = "margin"
choose = { alpha = [0.1, 0.2] }

[methods.own]
like = "ar_adals"
vanilla = "none"
"""


def test_one_without_a_vanilla_model_can_be_like_one_with_a_choice(
    run, tmp_path, monkeypatch
):
    """The choice is written by `sweep`, as the cell's command gives the settings."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(OWN_LEVELS)
    found = {cell.name: cell for cell in cells_of(load_study("mine.toml"), "s")}
    choice, own = found["choose ar_adals"], found["train own-0"]
    assert "vanilla_dir" in choice.flags and "vanilla_dir" not in own.flags

    def chosen(base, param, values, folder, given, *how):
        folder.mkdir(parents=True)
        lines = [f"--dataset={base.dataset}", f"--method={base.method}", *given]
        lines.append(f"--{param}={values[1]}")
        (folder / "chosen.cfg").write_text("\n".join(lines))

    monkeypatch.setattr(selection, "sweep", chosen)
    status, _, _ = run("sweep", *(f"--{k}={v}" for k, v in choice.flags.items()))
    assert status == 0
    config = own.config()
    assert (config.alpha, config.own_levels, config.vanilla_dir) == ("0.2", True, None)
