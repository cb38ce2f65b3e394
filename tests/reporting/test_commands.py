"""Printed commands are read back as the settings they were made from. 10 seconds."""

import importlib
import json
import random
import runpy
import shlex
import sys
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image

from ar_adals_tf import command_line
from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.subject_file import Record
from ar_adals_tf.evaluation.wanted import types_of
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.declaration import plain_type
from ar_adals_tf.experiment.settings import DECLARATIONS
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.models import MODELS
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.commands import (
    evaluate_commands,
    like_command,
    made_by,
    seed_command,
    train_command,
)
from ar_adals_tf.reporting.packed import pack
from ar_adals_tf.reporting.run import Run, settings_of
from tests.helpers import add_index, forget_flags, make_run

#: Names of folders that a shell takes apart, if it can.
FOLDERS = ("a/b", "my runs", "it's", "$HOME", 'a"b', "*", "#1", "a;b", "größe", "--x=1")
TYPES = {field.name: plain_type(field.type) for field in fields(Config)}


#: What only data without a recipe have.
OF_OWN_DATA = {name for name, declared in DECLARATIONS.items() if declared.new} | {
    "dataset"
}


@pytest.fixture
def train_flags():
    """The flags of `train`, as a process has them."""
    forget_flags()
    runpy.run_module("ar_adals_tf.train")
    yield
    forget_flags()


def read_back(command):
    """The settings of a printed command, taken apart as a shell does."""
    python, option, module, *arguments = shlex.split(command)
    assert (python, option, module) == ("python", "-m", "ar_adals_tf.train")
    with flagsaver.flagsaver():
        command_line.FLAGS(["train", *arguments])
        return command_line.training_config()


def run_of(config):
    """A run with these settings, which JSON has kept."""
    saved = json.loads(json.dumps(config.as_dict()))
    return Run(Path(config.output_dir), saved, {}, None, None)


def number(rng, kind, least, most):
    """A number between two others, odd enough to show that no digit is lost."""
    return rng.randint(least, most) if kind is int else rng.uniform(least + 1e-9, most)


def a_value(rng, name, declared):
    """Any value that a setting may have by itself."""
    if declared.choices is not None:
        return rng.choice(declared.allowed())
    if name.endswith("_dir"):
        return rng.choice(FOLDERS)
    if name == "model":
        return rng.choice([*MODELS, "MobileNetV2", "my own.keras", "my own.keras"])
    if name == "weights_file":
        return "start.weights.h5"
    if name == "model_range":
        return rng.choice(["0,255", "-1,1"])
    if name == "alpha":
        return rng.choice(["0.3", "0.001,60:0.05", "1e-05", 0.7])
    if name == "refresh_epochs":
        return rng.choice([[1], [2, 5], "recipe", "1,3"])
    if TYPES[name] is bool:
        return rng.random() < 0.5
    most = 0.9 if declared.bound.below == 1 else 40
    return number(rng, TYPES[name], int(max(declared.bound.least, 0)), most)


def attack_settings(rng, attack):
    """Some settings of an attack, any that a flag can say."""
    found = {}
    for field in fields(ATTACKS[attack]):
        if "flag" not in field.metadata or rng.random() < 0.5:
            continue
        kind = plain_type(field.type)
        if "choices" in field.metadata:
            found[field.name] = rng.choice(field.metadata["choices"])
        elif kind is bool:
            found[field.name] = rng.random() < 0.5
        else:
            found[field.name] = number(rng, kind, field.metadata.get("least", 0), 9)
    return found


def method_settings(rng, *methods):
    """Some settings of some methods, in the ways that a person writes a number."""
    found = {}
    for method in filter(None, methods):
        for name, setting in METHODS[method].settings.items():
            if rng.random() < 0.5:
                whole = type(setting.default) is int
                found[name] = rng.randint(1, 9) if whole else rng.uniform(0.01, 1)
                if not whole and rng.random() < 0.3:
                    found[name] = f"{rng.randint(1, 200)}/255"
    return found


def any_config(rng):
    """Valid settings of any kind: each setting is given in about a third of them."""
    while True:
        given = {
            name: a_value(rng, name, declared)
            for name, declared in DECLARATIONS.items()
            if name not in OF_OWN_DATA
            and TYPES[name] is not dict
            and declared.group != "recorded"
            and rng.random() < 0.35
        }
        given |= {"dataset": rng.choice(list(DATASETS))}
        given |= {"method": rng.choice([*METHODS, "ar_adals", "ar_adals"])}
        attack = given.get("attack", "cw")
        given["attack_settings"] = attack_settings(rng, attack)
        given["method_settings"] = method_settings(
            rng, given["method"], given.get("adversarial_training")
        )
        try:
            return Config.make(**given)
        except InputError:  # two settings that do not go together
            continue


def test_any_settings_are_read_back_from_their_command(
    train_flags, tmp_path, monkeypatch
):
    """Every setting, method, attack, attack's setting and dataset has its turn."""
    monkeypatch.chdir(tmp_path)
    for name in ("my own.keras", "start.weights.h5"):
        (tmp_path / name).write_text(name)
    rng = random.Random(15)
    seen: set = set()
    for _ in range(800):
        config = any_config(rng)
        command = made_by(run_of(config))
        assert read_back(command) == config, command
        usual = Config.make(config.dataset, config.method)
        seen.update(n for n in TYPES if getattr(config, n) != getattr(usual, n))
        seen.update([config.dataset, config.method])
        seen.update((config.attack, name) for name in config.attack_settings)
        seen.update(("own", name) for name in config.method_settings)
    expected = {*TYPES, *DATASETS, *METHODS} - {"dataset", "method"} - OF_OWN_DATA
    for attack, kind in ATTACKS.items():
        expected |= {(attack, f.name) for f in fields(kind) if "flag" in f.metadata}
    for method in METHODS.values():
        expected |= {("own", name) for name in method.settings}
    assert expected - seen == set()


def test_settings_of_own_data_are_read_back_from_their_command(train_flags, tmp_path):
    file, folder = tmp_path / "it's a table.npz", tmp_path / "my photos"
    np.savez(file, x_train=np.ones((90, 3)), y_train=np.arange(90) % 2)
    for name in ("extra/a/1", "extra/b/2", "extra/b/3", "val/a/4"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 8)).save(path)
    for dataset, how in [
        (file, {"input_range": "0,5"}),
        (folder, {"split_names": "train=extra,test=val", "image_size": "32"}),
    ]:
        config = Config.make(str(dataset), "ls", epochs=3, **how)
        command = made_by(run_of(config))
        assert read_back(command) == config
        assert "digest" not in command


def test_the_command_says_only_what_is_unusual():
    attack = {"learning_rate": 0.05, "initial_constant": 1.0, "extra_steps": 0}
    config = Config.make(
        "cifar10", "ar_adals", attack_settings=attack, output_dir="my run", dropout=0.1
    )
    assert made_by(run_of(config)) == (
        "python -m ar_adals_tf.train --dataset=cifar10 --method=ar_adals --dropout=0.1 "
        "--attack_learning_rate=0.05 --attack_initial_constant=1.0 "
        "--attack_extra_steps=0 --output_dir='my run'"
    )


def test_a_run_of_an_unknown_method_still_has_a_command():
    config = Config.make("cifar10", "ls", output_dir="a").as_dict()
    run = Run(Path("a"), config | {"method": "later"}, {}, None, None)
    command = made_by(run)
    assert "--method=later" in command and "--epochs=200" in command


def test_another_seed_goes_into_a_folder_beside(train_flags):
    config = Config.make("cifar10", "adals", alpha="0.3", output_dir="runs/mine-0")
    again = read_back(seed_command(run_of(config), 4))
    assert again.output_dir == "runs/mine-4"
    assert config.differences(again.as_dict()) == ["seed is 0 here, 4 there"]


@pytest.mark.parametrize(
    ("key", "own"),
    [
        ("vanilla", {"method": "vanilla"}),
        ("ls_ts", {"method": "ls"}),
        ("ensemble_of_ls", {"method": "ls", "ensemble_size": 5}),
        ("ar_adals_of_ensemble", {"method": "ar_adals_of_ensemble"}),
        ("ar_adals_on_the_fly", {"method": "ar_adals", "refresh_epochs": [65, 130]}),
        ("fgsm_at", {"method": "fgsm_at"}),
    ],
)
def test_a_missing_run_is_like_the_others(key, own, train_flags):
    """What all methods share is kept: not the seed, not the method's own settings."""
    shared = {
        "split_seed": 3,
        "epochs": 150,
        "batch_size": 64,
        "model": "cnn7",
        "dropout": 0.2,
        "limit_examples": 500,
        "validation_examples": 50,
        "num_bins": 12,
        "schedule": "constant",
        "augmentation": "none",
        "mixed_precision": "bfloat16",
    }
    like = Config.make("cifar10", "ar_adals", seed=7, alpha="0.9", **shared)
    found = read_back(train_command("cifar10", key, run_of(like)))
    # Its folder is the one that `train` takes where nothing is said.
    assert found == Config.make("cifar10", **shared, **own)


@pytest.mark.parametrize("method", ["vanilla", "adals"])
def test_a_missing_run_is_fine_tuned_as_the_others(method, train_flags, tmp_path):
    model = tmp_path / "mine.keras"
    model.write_text("a model")
    how = {"model": str(model), "finetune": True}
    like = Config.make("cifar10", "ls", **how, output_dir="runs/a-0")
    found = read_back(train_command("cifar10", method, run_of(like)))
    expected = Config.make("cifar10", method, **how)
    assert (found.output_dir, found.epochs) == (expected.output_dir, expected.epochs)


@pytest.mark.parametrize("place", [".", "figures/.."])
def test_a_run_that_is_named_by_dots_has_its_name(place, tmp_path, monkeypatch):
    """Commands for what stands beside it, its label and its archive need one."""
    run = make_run(tmp_path / "mine-0", types=None)
    add_index(run)
    (run / "figures").mkdir()
    monkeypatch.chdir(run)
    (collection,) = load_collections([place])
    (found,) = collection.runs
    assert f"--output_dir={tmp_path}/mine-4" in seed_command(found, 4)
    beside = f"--output_dir={tmp_path}/cifar10-ls-0"
    assert beside in train_command("cifar10", "ls", found)
    assert f"--output_dir={run}-alpha-0.1" in like_command(found, alpha="0.1")
    assert "on the vanilla model in mine-0/. " in collection.levels_words
    with zipfile.ZipFile(pack([place], tmp_path / "all.zip")) as archive:
        names = set(archive.namelist())
    assert {"mine-0/metrics.json", "mine-0/robustness/cw/test.npz"} <= names


#: What `metrics.json` has of each measure, and the flags of `evaluate` that ask for it.
MEASURED = {
    "shift": (
        {"types": ["fog", "snow"], "severities": [1, 3], "source": "tfds"},
        {
            "shift": True,
            "shift_types": ["fog", "snow"],
            "severities": ["1", "3"],
            "shift_source": "tfds",
        },
    ),
    "ood": ({"cifar100": {}, "my photos": {}}, {"ood": ["cifar100", "my photos"]}),
    "attacks": (
        {"by_attack": {"fgsm": {"0": {}, "2.5": {}}, "pgd": {"0": {}, "2.5": {}}}},
        {"attacks": ["fgsm", "pgd"], "epsilons": ["2.5"]},
    ),
    "posthoc": ({"vector": {}, "by_level": {}}, {"posthoc": ["vector", "by_level"]}),
    "footprint": ({}, {"footprint": True}),
    "certified": (
        {
            "by_sigma": {"0.25": {}, "0.5": {"attack": {}}},
            "samples": [100, 1_000_000],
            "alpha": 0.01,
            "num_examples": 500,
        },
        {
            "certify": True,
            "sigma": ["0.25", "0.5"],
            "certify_samples": 1_000_000,
            "certify_alpha": 0.01,
            "certify_attack": True,
        },
    ),
}


@pytest.fixture
def evaluate_flags(monkeypatch):
    """The flags of `evaluate`, as a process has them."""
    forget_flags()
    monkeypatch.delitem(sys.modules, "ar_adals_tf.evaluate", raising=False)
    importlib.import_module("ar_adals_tf.evaluate")
    yield
    forget_flags()


def flags_of(command):
    """The flags of `evaluate` that a printed command sets."""
    python, option, module, *arguments = shlex.split(command)
    assert (python, option, module) == ("python", "-m", "ar_adals_tf.evaluate")
    with flagsaver.flagsaver():
        command_line.FLAGS(["evaluate", *arguments])
        flags = command_line.FLAGS
        return {name: flags[name].value for name in flags if flags[name].present}


def measured_run(**metrics):
    config = Config.make("cifar10", "ls", output_dir="a run").as_dict()
    return Run(Path("a run"), config, metrics, None, None)


@pytest.mark.parametrize("names", [*([name] for name in MEASURED), list(MEASURED)])
def test_evaluations_are_read_back_from_their_command(names, evaluate_flags):
    run = measured_run(**{name: MEASURED[name][0] for name in names})
    (command,) = evaluate_commands(run)
    expected = {"run_dir": ["a run"]}
    for name in names:
        expected |= MEASURED[name][1]
    assert flags_of(command) == expected


def test_usual_corruptions_are_not_listed(evaluate_flags):
    types = list(types_of("cifar10"))
    shift = {"types": types, "severities": [1, 2, 3, 4, 5], "source": "generated"}
    (command,) = evaluate_commands(measured_run(shift=shift))
    assert command.endswith(" --shift --shift_source=generated")


def test_attacks_at_different_strengths_are_commands_of_their_own(evaluate_flags):
    own = {"pgd": ["0", "8"], "square": ["0", "4", "8"], "square_l2": ["0", "128"]}
    by_attack = {name: dict.fromkeys(strengths) for name, strengths in own.items()}
    run = measured_run(attacks={"by_attack": by_attack}, footprint={})
    found = [flags_of(command) for command in evaluate_commands(run)]
    assert ["footprint" in one for one in found] == [True, False, False]
    asked = {(name, e) for f in found for name in f["attacks"] for e in f["epsilons"]}
    assert asked == {(name, e) for name in own for e in own[name] if e != "0"}


def test_attacks_at_strength_0_alone_are_asked_for(evaluate_flags):
    run = measured_run(attacks={"by_attack": {"fgsm": {"0": {}}}})
    (command,) = evaluate_commands(run)
    assert flags_of(command)["epsilons"] == ["0"]


def test_a_run_without_evaluations_and_predictions_alone_have_no_command(tmp_path):
    assert evaluate_commands(measured_run(clean={})) == []
    record = Record("mine", "cifar10", "predictions")
    shift = MEASURED["shift"][0]
    run = Run(tmp_path, settings_of(record), {"shift": shift}, None, None, record)
    assert evaluate_commands(run) == []
