"""Estimates: what cells cost, from closed forms and from what others took."""

import dataclasses
import itertools
import os
from types import SimpleNamespace

import keras
import pytest

from ar_adals_tf import models
from ar_adals_tf.studies import estimate as estimating
from ar_adals_tf.studies.cells import cells_of
from ar_adals_tf.studies.estimate import (
    Work,
    estimate,
    seconds_an_image,
    seconds_of_a_corruption,
    work_of,
)
from ar_adals_tf.studies.state import Progress
from ar_adals_tf.studies.study import load_study

CIFAR10 = {"train": 45_000, "validation": 5_000, "test": 10_000}


@pytest.fixture(scope="module")
def cells():
    return {c.name: c for c in cells_of(load_study("cifar10"), "absent")}


@pytest.mark.parametrize(
    ("name", "kind", "images"),
    [
        ("train vanilla-0", "train", 45_000 * 200),
        ("train ar_adals_of_ensemble-0", "train", 45_000 * 200 * 5),
        # 3 x 500 steps of CW-L2; the margin takes a pass for each of nine rivals
        ("index vanilla-0 cw train", "attack", 45_000 * 1500),
        ("index vanilla-0 margin test", "attack", 10_000 * 9),
        ("train ar_adals_on_the_fly-0", "train", 45_000 * 200 + 2 * 50_000 * 9),
        # the clean images, 19 types at 5 severities, two other datasets
        ("evaluate vanilla-1", "predict", 10_000 * (1 + 95 + 2)),
        ("evaluate ensemble_of_ls-0", "predict", 10_000 * 98 * 5),
        ("train ensemble_of_ls-0", "predict", 15_000 * 5),
    ],
)
def test_what_a_cell_costs(cells, name, kind, images):
    assert work_of(cells[name], CIFAR10) == Work(kind, "resnet29_v2", images)


def test_a_run_that_is_taken_over_costs_nothing_and_tells_nothing():
    found = {c.name: c for c in cells_of(load_study("smoke"), "absent")}
    taken, other = found["train adals-0"], found["train ensemble_of_vanilla-0"]
    images = {"train": 300, "validation": 300, "test": 300}
    assert work_of(taken, images).images == 0
    timed = [(other, 600.0), (taken, 900.0)]  # the latter was trained, by an older one
    seconds = estimate([taken, other], timed, images, probe=None).seconds
    assert seconds == {taken.name: 0.0, other.name: pytest.approx(600)}


def test_noisy_copies_cost_a_prediction_each(cells):
    cell = cells["evaluate vanilla-1"]
    flags = {"run_dir": "r", "certify": "true", "sigma": "0.25,0.5"}
    flags |= {"certify_samples": "400", "certify_images": "50"}
    found = work_of(dataclasses.replace(cell, flags=flags), CIFAR10)
    assert found.images == 10_000 + 2 * 50 * (100 + 400)


@pytest.mark.parametrize(
    ("progress", "left"),
    [
        (Progress(0, 10, "set"), 100.0),
        (Progress(5, 10, "set"), 75.0),  # the copies are half of the predictions
        (Progress(0, 80, "certified image"), 50.0),
        (Progress(40, 80, "certified image"), 25.0),
        (Progress(10, 10, "set"), 50.0),
    ],
)
def test_certificates_that_are_left_cost_their_part(progress, left, cells, monkeypatch):
    cell = cells["evaluate vanilla-1"]
    flags = {"run_dir": "r", "certify": "true", "certify_samples": "900"}
    cell = dataclasses.replace(cell, flags=flags | {"certify_images": "10"})
    monkeypatch.setattr(estimating, "progress_of", lambda *_: progress)
    found = estimate([cell], [], CIFAR10, probe=lambda work, cell: 100.0)
    assert found.seconds[cell.name] == pytest.approx(left)


def test_the_first_evaluation_makes_the_corrupted_images_of_all(cells):
    found = work_of(cells["evaluate vanilla-0"], CIFAR10)
    assert found == Work("predict", "resnet29_v2", 10_000 * 98, 10_000 * 95)
    # Its time says nothing about the others.
    left = [cells["evaluate vanilla-1"], cells["evaluate ls-1"]]
    first, other = cells["evaluate vanilla-0"], cells["evaluate ls-0"]
    found = estimate(left[:1], [(first, 900.0), (other, 100.0)], CIFAR10, probe=None)
    assert found.seconds["evaluate vanilla-1"] == pytest.approx(100)
    found = estimate(left, [(first, 900.0)], CIFAR10, probe=lambda work, cell: 7.0)
    assert set(found.seconds.values()) == {7.0} and found.probed


def test_a_probe_adds_the_making_of_corrupted_images(cells, monkeypatch):
    monkeypatch.setattr(estimating, "seconds_an_image", lambda *_: 1e-3)
    monkeypatch.setattr(estimating, "seconds_of_a_corruption", lambda shape: 2e-3)
    monkeypatch.setattr(estimating.subprocess, "run", lambda *_, **__: None)
    left = [cells["evaluate vanilla-0"], cells["evaluate vanilla-1"]]
    first, other = estimate(left, [], CIFAR10).seconds.values()
    assert first - other == pytest.approx(10_000 * 95 * 2e-3)


def test_a_corruption_is_timed(monkeypatch):
    now = [0.0]

    def corrupt(images, name, severity):
        now[0] += 0.25 * len(images)  # a quarter of a second of all cores an image
        return really_corrupt(images, name, severity)

    really_corrupt = estimating.corrupt
    monkeypatch.setattr(estimating, "corrupt", corrupt)
    monkeypatch.setattr(
        estimating, "time", SimpleNamespace(perf_counter=lambda: now[0])
    )
    cores = os.cpu_count() or 1
    assert seconds_of_a_corruption((28, 28, 1)) == pytest.approx(0.25 / cores)


def test_adversarial_training_costs_the_steps_of_its_attack():
    found = {c.name: c for c in cells_of(load_study("adversarial_training"), "a")}
    images = {"train": 50_000, "validation": 0, "test": 10_000}
    passes = {
        name: work_of(found[f"train {name}-0"], images).images / 50_000 / 15
        for name in ("vanilla", "fgsm_at", "pgd_at", "trades", "ccat")
    }
    # A step's gradient is without that of the weights: 2 of a training step's 3 parts.
    # TRADES attacks all images and learns from the clean ones as well.
    assert passes == pytest.approx(
        {
            "vanilla": 1,
            "fgsm_at": 1 + 1 / 2 * 2 / 3,
            "pgd_at": 1 + 7 / 2 * 2 / 3,
            "trades": 2 + 10 * 2 / 3,
            "ccat": 1 + 40 / 2 * 2 / 3,
        }
    )
    # clean, two attacks at two strengths, and their gradients: three times as dear
    sets = 1 + 2 * 2 + 2 * 3 * (1 + 10)
    assert work_of(found["evaluate vanilla-0"], images).images == 10_000 * sets


def test_the_rest_is_estimated_from_cells_that_are_done(cells):
    names = ("train vanilla-1", "train ar_adals_of_ensemble-0")
    left = [cells[name] for name in names]
    timed = [(cells["train vanilla-0"], 100.0), (cells["train ls-0"], 140.0)]
    found = estimate(left, timed, CIFAR10, probe=None)
    assert not found.probed
    assert found.seconds == {names[0]: pytest.approx(120), names[1]: pytest.approx(600)}


def test_what_no_cell_tells_is_probed(cells):
    asked = []

    def probe(work, cell):
        asked.append((work.kind, cell.name))
        return 7.0

    left = [cells["train vanilla-1"], cells["evaluate vanilla-0"]]
    found = estimate(left, [(cells["train vanilla-0"], 100.0)], CIFAR10, probe)
    assert found.probed
    assert asked == [("predict", "evaluate vanilla-0")]
    assert found.seconds["evaluate vanilla-0"] == 7.0


@pytest.mark.parametrize("kind", ["train", "attack", "predict"])
def test_a_probe_measures_each_kind_of_work(kind, monkeypatch):
    # A quarter of a second between two looks at the clock.
    looks = itertools.count(0, 0.25)
    clock = SimpleNamespace(perf_counter=lambda: next(looks))
    monkeypatch.setattr(estimating, "time", clock)
    # half a second is enough: one batch of 8 in it
    assert seconds_an_image(kind, "small_cnn", (28, 28, 1), 10, batch=8) == 0.5 / 8


def test_a_probe_computes_in_the_studys_number_format(cells, monkeypatch):
    asked = []
    monkeypatch.setattr(
        estimating, "seconds_an_image", lambda *given: asked.append(given) or 1e-3
    )
    monkeypatch.setattr(estimating.subprocess, "run", lambda *_, **__: None)
    found = {c.name: c for c in cells_of(load_study("adversarial_training"), "a")}
    left = [found["train vanilla-0"], found["train fgsm_at-0"]]
    estimate([*left, cells["train vanilla-0"]], [], CIFAR10)
    assert [(given[1], given[-1]) for given in asked] == [
        ("study_cnn", "bfloat16"),  # once for both
        ("resnet29_v2", "none"),
    ]


def test_a_probe_leaves_keras_policy_as_it_was(monkeypatch):
    built = []
    really = models.build

    def build(*given):
        built.append(really(*given))
        return built[0]

    monkeypatch.setattr(models, "build", build)
    before = keras.mixed_precision.dtype_policy().name
    seconds_an_image("predict", "small_cnn", (28, 28, 1), 10, 8, "bfloat16")
    formats = {layer.compute_dtype for layer in built[0].layers}
    assert "bfloat16" in formats
    assert keras.mixed_precision.dtype_policy().name == before
