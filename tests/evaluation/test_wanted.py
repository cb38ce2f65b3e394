"""Flags that mean nothing beside the others are refused, and no others."""

import inspect

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.evaluation.wanted import (
    check_flags,
    given_arguments,
    refuse_idle_measures,
)

#: What each kind of subject takes, as the documents say it; the rest is refused.
TAKES = {
    "run_dir": "data_dir limit_examples num_bins robustness_index",
    "predictions": "output_dir title dataset num_bins",
    "model_file": "output_dir title dataset data_dir split_seed validation_examples "
    "validation limit_examples image_size input_range split_names num_bins "
    "robustness_index model_range",
}
MEASURES = ["shift", "ood", "attacks", "footprint", "posthoc", "certify"]
#: What says how to measure, and what must be measured.
HOW = {
    "shift_types": "shift",
    "severities": "shift",
    "shift_source": "shift",
    "shift_cache_dir": "shift",
    "epsilons": "attacks",
    "attack_norm": "attacks",
}
OF_CERTIFY = [
    name
    for name in inspect.signature(evaluate).parameters
    if name == "sigma" or name.startswith("certify_")
]


@pytest.mark.parametrize("subject", TAKES)
@pytest.mark.parametrize("name", inspect.signature(evaluate).parameters)
def test_a_subject_takes_its_own_flags(subject, name):
    if name in (*TAKES, *HOW, *OF_CERTIFY, "say"):
        return
    measured = subject != "predictions" and name in MEASURES
    given = {subject: "a", name: ["0"]}
    if name in TAKES[subject].split() or measured:
        check_flags(given)
    else:
        with pytest.raises(InputError, match=f"--{name}"):
            check_flags(given)


@pytest.mark.parametrize("name", HOW)
def test_what_says_how_to_measure_needs_what_is_measured(name):
    owner = HOW[name]
    refuse_idle_measures({name: "a", owner: ["b"]})
    for absent in ({}, {owner: False}, {owner: None}, {owner: []}):
        with pytest.raises(InputError, match=f"--{name} is for --{owner}; give both"):
            refuse_idle_measures({name: "a"} | absent)


def test_sets_are_kept_for_post_hoc_calibrations_too():
    refuse_idle_measures({"shift_cache_dir": "sets", "posthoc": ["vector"]})


def test_a_flag_of_zero_is_given_and_one_that_is_off_is_not():
    with pytest.raises(InputError, match="--split_seed, --title is for --model_file"):
        check_flags({"run_dir": "a", "split_seed": 0, "title": "b", "shift": False})
    check_flags({"predictions": "a", "shift": False, "ood": None, "attacks": []})


def test_an_argument_is_given_if_it_is_not_the_default():
    parameters = inspect.signature(evaluate).parameters
    defaults = {name: one.default for name, one in parameters.items()}
    assert given_arguments(evaluate, defaults) == {}
    changed = {"epsilons": [8], "split_seed": 1, "shift": True}
    same = {"attack_norm": "".join(["li", "nf"]), "severities": [1, 2, 3, 4, 5]}
    assert given_arguments(evaluate, defaults | changed | same) == changed
