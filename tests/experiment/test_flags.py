"""Settings as flags: what follows from their declarations. 5 seconds."""

import re
import runpy
from pathlib import Path

import pytest

from ar_adals_tf import calibration, command_line
from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flags import (
    attack_flags,
    attack_settings_from,
    config_flags,
    config_from,
    group_flags,
    method_flags,
    settings_list,
    unusual,
)
from ar_adals_tf.experiment.settings import DECLARATIONS, GROUP_SETTINGS
from ar_adals_tf.methods.table import METHODS
from tests.helpers import forget_flags


def by_name(described):
    return {flag.name: flag for flag in described}


def test_every_setting_has_one_flag_in_one_group():
    groups = ("data", "training", "attack", "measure")
    names = [flag.name for group in groups for flag in config_flags(group)]
    found_out = {name for name, d in DECLARATIONS.items() if d.group == "recorded"}
    assert sorted(names) == sorted(
        set(DECLARATIONS) - {"attack_settings", "method_settings"} - found_out
    )
    own = [flag.name for flag in [*method_flags(), *attack_flags()]]
    assert len({*names, *own}) == len(names) + len(own)


def test_names_of_flags_stay():
    """People have them in their scripts and flagfiles."""
    assert {"attack_iterations", "attack_search_steps", "attack_top_k"} <= set(
        by_name(attack_flags())
    )
    assert list(by_name(method_flags())) == [
        "focal_gamma",
        "adafocal_num_bins",
        "adafocal_rate",
        "adafocal_switch",
        "adafocal_gamma_min",
        "adafocal_gamma_max",
        "mbls_margin",
        "mbls_weight",
        "mdca_beta",
        "mdca_gamma",
        "maxsup_weight",
        "mixup_alpha",
        "epsilon",
        "adversarial_share",
        "pgd_steps",
        "pgd_relative_step",
        "trades_beta",
        "ccat_rho",
    ]


def test_a_flag_says_what_it_means_to_each_method_and_attack():
    assert by_name(method_flags())["pgd_steps"].help == (
        "pgd_at: Steps of the attack. The default is 7.\n"
        "trades: Steps of the attack. The default is 10.\n"
        "ccat: Steps of the attack. The default is 40."
    )
    flags = by_name(attack_flags())
    assert flags["attack_iterations"].help.startswith("cw, cleverhans_cw_l2: ")
    assert flags["attack_iterations"].kind is int
    assert flags["attack_iterations"].least == 1
    assert flags["attack_extra_steps"].least == 0
    assert flags["attack_learning_rate"].kind is float
    assert flags["attack_early_stopping"].kind is bool
    assert flags["attack_dtype"].choices == ("float32", "bfloat16")
    assert not flags["attack_dtype"].help.startswith("cw")  # all attacks have it


def test_defaults_are_said_once_and_are_the_same_everywhere():
    """The help, a configuration and the measures themselves agree."""
    flags = by_name(config_flags("measure") + config_flags("training"))
    assert flags["num_bins"].default == calibration.DEFAULT_NUM_BINS
    config = Config.make("cifar10", "ar_adals")
    for name, flag in flags.items():
        if flag.default is not None and name != "method":
            assert getattr(config, name) == flag.default, name
    assert flags["epochs"].help.endswith("The default is the recipe's.")


def test_settings_of_an_attack_go_to_it_or_nowhere():
    given = {"attack_iterations": 7, "attack_gamma": 0.1, "attack_top_k": None}
    assert attack_settings_from("ddn", given) == {"steps": 7, "gamma": 0.1}
    with pytest.raises(InputError, match="--attack_gamma means nothing to --attack=cw"):
        attack_settings_from("cw", given)


def test_what_a_group_of_runs_shares():
    free = {"seed", "output_dir", "vanilla_dir", "data_dir", "tensorboard", "verbose"}
    assert set(DECLARATIONS) - set(GROUP_SETTINGS) == free


def test_what_is_unusual():
    config = Config.make("cifar10", "focal", output_dir="a", epochs=3, seed=0)
    saved = config.as_dict() | {"versions": {"keras": "3"}}
    assert unusual(saved) == {"output_dir": "a", "epochs": 3}
    del saved["epochs"]  # a run of a version that did not have the setting
    assert unusual(saved) == {"output_dir": "a"}


def test_the_list_of_settings_has_every_flag_of_train():
    forget_flags()
    runpy.run_module("ar_adals_tf.train")
    by_module = command_line.FLAGS.flags_by_module_dict()
    defined = {flag.name for flag in by_module["ar_adals_tf.command_line"]}
    forget_flags()
    listed = settings_list()
    said = set(re.findall(r"^- `--(\w+)` \(", listed, re.M))
    assert said == defined - {
        "strategy",
        "cpu_replicas",
        "tpu",
        "import",
        "members",
        "swept",
    }
    assert "- `--num_bins` (int from 1; default 15). Number of equal-width" in listed
    assert "\n  - vanilla: hard labels.\n" in listed


def test_the_document_lists_the_settings_as_they_are_declared():
    document = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert document.read_text().endswith(settings_list())


def test_every_entry_says_what_it_is():
    """The help has a line for each."""
    assert all(method.summary for method in METHODS.values())
    assert all(attack.__doc__ for attack in ATTACKS.values())


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("vanilla", {"alpha": "0.1"}, "--alpha means nothing to --method=vanilla"),
        ("ls", {"alpha": "0.1"}, "has no soft labels that move; leave it out"),
        ("vanilla", {"label_smoothing": 0.1}, "has no fixed label smoothing"),
    ],
)
def test_a_setting_that_the_method_has_not_is_refused(method, given, message):
    with pytest.raises(InputError, match=message) as error:
        config_from({"dataset": "cifar10", "method": method, **given})
    assert "\n" not in str(error.value)


def test_the_defaults_of_flags_mean_nothing_and_pass():
    defaults = {flag.name: flag.default for flag in group_flags()}
    for method in METHODS:
        config = config_from(defaults | {"method": method})
        assert config.alpha is None or METHODS[method].adaptive
