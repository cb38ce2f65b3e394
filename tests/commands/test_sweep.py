"""Sweeps choose by validation images, and say what they chose. About 20 seconds."""

import csv
import importlib
import json
import sys

import numpy as np
import pytest
from absl.testing import flagsaver

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError
from ar_adals_tf.methods.table import METHODS
from tests.helpers import forget_flags


@pytest.fixture
def sweep():
    """Return the command's module, with no flags about but its own."""
    forget_flags()
    sys.modules.pop("ar_adals_tf.sweep", None)
    yield importlib.import_module("ar_adals_tf.sweep")
    forget_flags()


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
def test_the_papers_values(dataset, method, param, values, sweep):
    texts = sweep.paper_values(dataset, method, param)
    np.testing.assert_array_equal([sweep.parse(param, t) for t in texts], values)


def test_parameters_are_the_methods_own(sweep):
    methods = ("ls", "adals", "ar_adals")
    found = [sweep.default_param(method) for method in methods]
    assert found == ["label_smoothing", "alpha", "alpha"]
    with pytest.raises(InputError, match="vanilla has no setting"):
        sweep.default_param("vanilla")
    with pytest.raises(InputError, match="num_levels must be numbers.*'many'"):
        sweep.parse("num_levels", "many")


def run_sweep(sweep, folder, *more):
    """Run the command in this process."""
    with flagsaver.flagsaver():
        command_line.FLAGS(
            [
                *("sweep", "--dataset=fashion_mnist_small", "--method=ls"),
                *("--values=0.3,0,0.6", "--limit_examples=150", "--epochs=1"),
                *("--notensorboard", f"--output_dir={folder}", *more),
            ]
        )
        sweep.main()


def parsed(flagfile):
    """Return the settings of a flagfile, as `train` would read them."""
    with flagsaver.flagsaver():
        command_line.FLAGS(["train", f"--flagfile={flagfile}"])
        return command_line.training_config()


@pytest.mark.parametrize("held_out", [0, 60])
def test_the_lowest_validation_ece_is_chosen(held_out, sweep, tmp_path, capsys):
    more = [f"--selection_examples={held_out}"] if held_out else []
    run_sweep(sweep, tmp_path, *more)
    runs = {
        value: tmp_path / f"label_smoothing={value}" for value in ("0.3", "0", "0.6")
    }
    found = {
        value: json.loads((run / "metrics.json").read_text())
        for value, run in runs.items()
    }
    for value, run in runs.items():
        with open(run / "history.csv", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        assert found[value]["validation"]["ece"] == pytest.approx(
            float(last["val_ece"]), abs=1e-6
        )
    images = "selection" if held_out else "validation"
    ece = {value: metrics[images]["ece"] for value, metrics in found.items()}
    best = min(ece, key=ece.get)
    saved = json.loads((tmp_path / "sweep.json").read_text())
    assert saved["chosen"] == best and saved["images"] == images
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    assert "chosen" in next(
        line for line in capsys.readouterr().out.splitlines() if f" {best} " in line
    )
    config = parsed(tmp_path / "chosen.cfg")
    assert (
        config.differences(json.loads((runs[best] / "config.json").read_text())) == []
    )
    if held_out:
        return
    changed = [(run / "metrics.json").stat().st_mtime_ns for run in runs.values()]
    (tmp_path / "chosen.cfg").unlink()
    run_sweep(sweep, tmp_path)
    assert changed == [(r / "metrics.json").stat().st_mtime_ns for r in runs.values()]
    assert parsed(tmp_path / "chosen.cfg") == config


def test_the_selection_images_are_apart(tmp_path):
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


def test_a_sweep_over_r_ends_with_the_way_to_figure_4(sweep, tmp_path):
    runs = [str(tmp_path / f"num_levels={r}") for r in (1, 4)]
    text = sweep._to_figure_4(tmp_path, runs)
    assert f"for run in {runs[0]} {runs[1]}; do" in text
    assert "evaluate --run_dir=$run --shift" in text
    assert f"report --runs={runs[0]},{runs[1]} --output_dir={tmp_path}/report" in text
