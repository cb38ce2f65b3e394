"""Settings: what each field declares is what the check enforces."""

import dataclasses
from typing import Any, NamedTuple, get_args

import pytest

from ar_adals_tf import attacks
from ar_adals_tf.attacks.settings import CarliniWagnerSettings, DDNSettings
from ar_adals_tf.errors import InputError

FIELDS = [
    pytest.param(kind, field, id=f"{name}-{field.name}")
    for name, kind in attacks.ATTACKS.items()
    for field in dataclasses.fields(kind)
    # tests/attacks/test_box.py, test_space.py and test_mask.py have them.
    if field.name not in ("bounds", "at", "attack_input", "mask")
]


def made(kind, field, value):
    return getattr(kind(**{field.name: value}), field.name)


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_every_setting_declares_its_help_and_bounds(kind, field):
    declared, types = field.metadata, get_args(field.type) or (field.type,)
    assert declared["help"].endswith(".")
    # What changes the distances can be said on the command line.
    assert "flag" in declared or not declared["decides"]
    needs = {int: "least", float: "above", str: "choices", bool: None}
    (bound,) = {needs[kind] for kind in types if kind in needs}
    assert {"least", "above", "choices"} & set(declared) == ({bound} - {None})


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_values_within_the_bounds_are_taken_and_others_refused(kind, field):
    declared = field.metadata
    if "least" in declared:
        least = declared["least"]
        good, bad = [least, least + 3], [least - 1, least + 0.5, True, "1"]
    elif "above" in declared:
        above = declared["above"]
        good = [above + 1e-6, above + 1]
        bad = [above, -1.0, float("nan"), float("inf"), True, "1"]
    elif "choices" in declared:
        good, bad = declared["choices"], ["float16", None, 1]
    else:
        good, bad = [True, False], [0, 1, "yes"]
    for value in (field.default, *good):
        assert made(kind, field, value) == value
    for value in bad:
        with pytest.raises(InputError, match=f"^{field.name} must be .*; received"):
            made(kind, field, value)


def test_no_attack_has_one_flag_for_two_settings():
    for kind in attacks.ATTACKS.values():
        flags = [f.metadata.get("flag") for f in dataclasses.fields(kind)]
        flags = [flag for flag in flags if flag]
        assert len(flags) == len(set(flags))


def test_what_decides_is_all_but_how_the_attack_runs():
    settings = CarliniWagnerSettings(iterations=7, batch_size=3, keep_adversarial=False)
    assert settings.deciding() == {
        "compute_dtype": "float32",
        "iterations": 7,
        "search_steps": 3,
        "learning_rate": 0.005,
        "initial_constant": 0.01,
        "extra_steps": 6,
        "early_stopping": True,
        "adam_epsilon": 1e-8,  # no setting; version 0.1.0 had Keras's 1e-7
    }
    assert DDNSettings().deciding()["raises"] == "log odds"


class Refused(NamedTuple):
    attack: str
    settings: dict[str, Any]
    message: str


REFUSED = [
    Refused("fgsm", {}, "attacks are cw, cleverhans_cw_l2, ddn, deepfool, margin"),
    Refused("ddn", {"iterations": 3}, "no setting 'iterations'; .* steps"),
    Refused("cw", {"iterations": 0}, "iterations must be a whole number from 1 on"),
    Refused("cw", {"extra_steps": -1}, "extra_steps must be a whole number from 0 on"),
    Refused("cw", {"iterations": 2.5}, "iterations must be a whole number"),
    Refused("cw", {"learning_rate": -1}, "learning_rate must be a number above 0"),
    Refused("cw", {"early_stopping": 3}, "early_stopping must be True or False"),
    Refused("margin", {"top_k": 0}, "top_k must be a whole number"),
    Refused("margin", {"batch_size": 0}, "batch_size must be a whole number"),
    Refused("ddn", {"compute_dtype": "float16"}, "compute_dtype must be float32 or bf"),
    Refused("margin", {"from_logits": "yes"}, "from_logits must be True or False"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.message[:30])
def test_unusable_settings_are_refused(linear, case):
    with pytest.raises(InputError, match=case.message):
        attacks.prepare(case.attack, linear[0], **case.settings)
