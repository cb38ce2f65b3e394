"""What an evaluation writes, and reading it again, whichever version wrote it."""

import json
from copy import deepcopy

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import measure
from ar_adals_tf.evaluation.results import (
    describe_run,
    read_metrics,
    write_metrics,
    write_results,
)
from ar_adals_tf.robustness import RobustnessIndex

CLEAN = {"accuracy": 0.69, "ece": 0.257, "nll": 1.121, "brier": 0.515, "num_bins": 15}
SCALED = {"accuracy": 0.69, "ece": 0.093, "nll": 0.912, "brier": 0.425, "num_bins": 15}
LEVELS = {"accuracy": [0.5, None], "confidence": [0.7, None], "ece": [0.2, None]}
LEVELS |= {"counts": [6.0, 0.0]}
OOD = {"auroc": 0.7, "aupr": 0.6, "fpr_at_95_recall": 0.4}
OOD |= {"mean_entropy": {"usual": 1.0, "foreign": 2.0}}
MORE = {"adaptive_ece": 0.2, "classwise_ece": 0.1, "aurc": 0.14}
MORE |= {"coverage_at_1_percent_risk": 0.3}
SHIFT = {
    "types": ["fog"],
    "severities": [1],
    "by_type": {"fog": {"1": CLEAN}},
    "mean": {"1": CLEAN},
    "overall": {"all": {"types": ["fog"]} | CLEAN},
}
FORMS = ("tensorflow_float32", "lite_float32", "lite_int8")
COSTS = CLEAN | {"seconds_per_image": 0.1, "file_bytes": 9, "peak_bytes": None}
FOOTPRINT = {"hardware": "a machine", "batch_size": 32, "repeats": 20}
FOOTPRINT |= {"forms": dict.fromkeys(FORMS, COSTS)}

#: As version 0.1.0 wrote it.
OLD = {
    "clean": CLEAN,
    "more": MORE,
    "by_level": LEVELS,
    "temperature_scaled": SCALED | {"temperature": 0.534},
    "temperature_scaled_more": MORE | {"aurc": 0.13},
    "temperature_scaled_by_level": LEVELS | {"ece": [0.1, None]},
    "validation": CLEAN,
    "shift": SHIFT | {"temperature_scaled": {"temperature": 0.534} | SHIFT},
    "ood": {"cifar100": OOD | {"temperature_scaled": OOD}},
    "ood-first-20": {"cifar100": OOD},
    "footprint": FOOTPRINT | {"calibration_images": 200},
}


def test_results_are_complete_when_the_metrics_appear(predictions, tmp_path):
    index = RobustnessIndex(
        predictions.ids, np.arange(730, dtype=np.float32), np.ones(730, bool)
    )
    metrics = measure(predictions, 15, index)
    p = np.linspace(1, 0.8, 30).reshape(3, 10)
    write_results(tmp_path, predictions, metrics, "AR-AdaLS", p)
    names = {"reliability.png", "levels.png", "soft_labels.png"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    last = max(tmp_path.rglob("*.*"), key=lambda path: path.stat().st_mtime_ns)
    assert last.name == "metrics.json"


def test_metrics_of_version_0_1_0_are_read_in_the_new_form(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(OLD))
    found = read_metrics(tmp_path)
    ood = dict(OOD)
    ood["mean_entropy"] = {"in_distribution": 1.0, "out_of_distribution": 2.0}
    assert found == {
        "clean": CLEAN,
        "more": MORE,
        "by_level": LEVELS,
        "temperature_scaled": {
            "temperature": 0.534,
            "clean": SCALED,
            "more": MORE | {"aurc": 0.13},
            "by_level": LEVELS | {"ece": [0.1, None]},
        },
        "validation": CLEAN,
        "shift": OLD["shift"],
        "ood": {"cifar100": ood | {"temperature_scaled": ood}},
        "ood-first-20": {"cifar100": ood},
        "footprint": FOOTPRINT | {"quantisation_images": 200},
    }
    # What is new stays as it is.
    write_metrics(tmp_path, found)
    assert read_metrics(tmp_path) == found


def test_metrics_of_version_0_1_0_without_levels_or_temperature(tmp_path):
    for names in (("clean", "more"), ("clean", "temperature_scaled")):
        old = {name: deepcopy(OLD[name]) for name in names}
        (tmp_path / "metrics.json").write_text(json.dumps(old))
        found = read_metrics(tmp_path)
        assert set(found) == set(names) and found["clean"] == CLEAN
    assert found["temperature_scaled"] == {"temperature": 0.534, "clean": SCALED}


def test_metrics_are_read_as_they_were_measured(predictions, tmp_path):
    metrics = measure(predictions, 15, temperature=2.0)
    write_metrics(tmp_path, metrics)
    assert read_metrics(tmp_path) == metrics


@pytest.mark.parametrize("content", ["[]", "3", "{"])
def test_what_is_no_metrics_is_refused(content, tmp_path):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(
        InputError, match="metrics.json is (damaged: its content must be an|not valid)"
    ):
        read_metrics(tmp_path)


CERTAIN = CLEAN | {
    "floor": {"mean": 0.2, "quantile": 0.2449},
    "interval": {
        "accuracy": [0.65, 0.73],
        "ece": [0.1, 0.3],
        "nll": [1.1, 1.15],
        "brier": [0.5, 0.53],
    },
}


def test_a_run_in_words_with_floor_and_intervals():
    within = CERTAIN | {"ece": 0.2449}
    metrics = {
        "clean": CERTAIN,
        "temperature_scaled": {"temperature": 0.5341, "clean": within},
    }
    first, second, legend = describe_run("Vanilla", metrics).splitlines()
    assert first == (
        "Vanilla: accuracy 69.0 % [65.0, 73.0], ECE 25.70 % [10.00, 30.00] (15 bins; "
        "noise floor 20.00 % [to 24.49]), NLL 1.121 [1.100, 1.150], "
        "Brier 0.515 [0.500, 0.530]"
    )
    assert (
        "ECE 24.49 % [10.00, 30.00] (15 bins; noise floor 20.00 % [to 24.49]: not "
        "distinguishable from a calibrated model), NLL"
    ) in second
    assert "95 % interval" in legend and "noise floor" in legend


def test_a_run_in_words():
    metrics = {
        "clean": CLEAN,
        "temperature_scaled": {"temperature": 0.5341, "clean": SCALED},
    }
    assert describe_run("Vanilla", metrics).splitlines() == [
        "Vanilla: accuracy 69.0 %, ECE 25.70 % (15 bins), NLL 1.121, Brier 0.515",
        "Vanilla + temperature 0.534: "
        "accuracy 69.0 %, ECE 9.30 % (15 bins), NLL 0.912, Brier 0.425",
    ]
