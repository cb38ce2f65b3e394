"""Settings: the recipes' defaults, what overrides them, what is refused. 2 seconds."""

import hashlib
import json

import numpy as np
import pytest

from ar_adals_tf.automatic import auto_alpha
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flags import config_from, flags_from
from ar_adals_tf.experiment.runs import saved_config

# The paper's: model, epochs, batch, base rate, eps of ls, alpha of adals and ar_adals
DEFAULTS = {
    "cifar10": ("resnet29_v2", 200, 256, 1e-3, 0.02, "0.05", "0.005"),
    "cifar100": ("wide_resnet28_10", 200, 512, 0.1, 0.07, "0.05", "0.005"),
    "imagenet2012": ("resnet101_v1", 90, 4096, 0.1, 0.02, "0.03", "0.001,60:0.05"),
}
for name in ("svhn_cropped", "fashion_mnist", "fashion_mnist_small"):  # ours
    ours = DATASETS[name].recipe
    DEFAULTS[name] = (
        *(ours.model, ours.epochs, ours.batch_size, ours.learning_rate),
        *(ours.label_smoothing, ours.alpha["adals"], ours.alpha["ar_adals"]),
    )


@pytest.mark.parametrize("dataset", DEFAULTS)
def test_defaults_are_the_recipe(dataset):
    model, epochs, batch, rate, eps, alpha_adals, alpha_ar = DEFAULTS[dataset]
    by_method = {
        "vanilla": (None, None, None, None),
        "ls": (eps, None, None, None),
        "adals": (None, alpha_adals, None, None),
        "ar_adals": (None, alpha_ar, 10, "cw"),
    }
    for method, expected in by_method.items():
        config = Config.make(dataset, method)
        assert (config.model, config.epochs, config.batch_size) == (
            *(model, epochs, batch),
        )
        assert config.learning_rate == rate
        own = (config.label_smoothing, config.alpha, config.num_levels, config.attack)
        assert own == expected, method
        assert config.output_dir == f"runs/{dataset}-{method}-0"
        assert (config.seed, config.split_seed, config.num_bins) == (0, 0, 15)
        assert config.dropout == 0
        assert (config.mixed_precision, config.deterministic) == ("none", False)


def test_what_is_given_stands_before_the_recipe():
    given = {
        **{"seed": 3, "split_seed": 4, "model": "cnn7", "epochs": 5, "batch_size": 6},
        **{"learning_rate": 0.5, "dropout": 0.3, "num_levels": 4, "alpha": "0.1,2:0.2"},
        **{"attack": "ddn", "attack_settings": {"steps": 7}, "num_bins": 8},
        **{"validation_examples": 9, "limit_examples": 10, "deterministic": True},
        **{"mixed_precision": "bfloat16", "tensorboard": False, "verbose": False},
        **{"output_dir": "out", "vanilla_dir": "van", "data_dir": "data"},
    }
    config = Config.make("cifar10", "ar_adals", **given)
    assert {name: getattr(config, name) for name in given} == given
    assert Config.make("cifar10", "ls", seed=3).output_dir == "runs/cifar10-ls-3"
    assert Config.make("cifar10", "adals", alpha=0.5).alpha == "0.5"
    assert Config.make("cifar10", "adals", dropout=None).dropout == 0.0


@pytest.mark.parametrize(
    ("method", "given", "sentence"),
    [
        ("ar_adals", {"alpha": "fast"}, "alpha must be a number.*received 'fast'"),
        ("adals", {"alpha": -1}, "alpha.*received -1"),
        ("adals", {"alpha": "0.1,9:0.2,5:0.3"}, "ascending epochs.*9:0.2,5:0.3"),
        ("ls", {"label_smoothing": 1.0}, "label_smoothing.*received 1.0"),
        ("ls", {"label_smoothing": -0.1}, "label_smoothing.*received -0.1"),
        ("vanilla", {"dropout": 1.0}, "dropout.*received 1.0"),
        ("vanilla", {"learning_rate": -1.0}, "learning_rate.*received -1.0"),
        ("vanilla", {"learning_rate": 0.0}, "learning_rate.*received 0.0"),
        ("vanilla", {"learning_rate": float("nan")}, "learning_rate.*received nan"),
        ("vanilla", {"epochs": 0}, "epochs must be at least 1; received 0"),
        ("vanilla", {"batch_size": 0}, "batch_size must be at least 1; received 0"),
        ("ar_adals", {"num_levels": 0}, "num_levels must be at least 1; received 0"),
        ("vanilla", {"num_bins": 0}, "num_bins must be at least 1; received 0"),
        ("vanilla", {"seed": -1}, "seed must be at least 0; received -1"),
        ("vanilla", {"split_seed": -1}, "split_seed must be at least 0; received -1"),
        ("vanilla", {"limit_examples": 0}, "limit_examples must be at least 1"),
        ("vanilla", {"validation_examples": -1}, "validation_examples must be at"),
        ("adals", {"validation_examples": 0}, "learns its soft labels from validation"),
        ("adafocal", {"validation_examples": 0}, "learns its loss from validation"),
        ("ar_adals", {"validation_examples": 0}, "validation_examples=0 cannot be"),
        ("ar_adals", {"attack": "foolbox"}, "no attack 'foolbox'.*cw.*ddn"),
        ("ar_adals", {"attack_settings": {"speed": 1}}, "no setting 'speed'"),
        ("ar_adals", {"attack_settings": {"iterations": 0}}, "iterations"),
        ("ar_adals", {"attack_settings": {"keep_adversarial": True}}, "leave it out"),
        ("vanilla", {"model": "resnet"}, "model.*resnet29_v2.*'resnet'"),
        ("vanilla", {"mixed_precision": "int8"}, "mixed_precision.*'int8'"),
        ("magic", {}, "method must be one of vanilla, ls.*received 'magic'"),
    ],
)
def test_refuses_what_cannot_work(method, given, sentence):
    with pytest.raises(InputError, match=sentence):
        Config.make("cifar10", method, **given)


def test_refuses_unknown_datasets():
    with pytest.raises(
        InputError, match="dataset must be one of.*did you mean cifar10"
    ):
        Config.make("cifar-10", "vanilla")


@pytest.mark.parametrize("method", ["vanilla", "ls", "adals", "ar_adals"])
def test_the_vanilla_model_is_one_for_all_seeds_and_methods(method):
    """It shares images, network and schedule; seed, levels and alpha are no concern."""
    shared = {"split_seed": 2, "epochs": 7, "dropout": 0.1, "limit_examples": 99}
    own = {"seed": 5, "alpha": "0.3", "num_levels": 3, "label_smoothing": 0.2}
    config = Config.make("cifar10", method, output_dir="a/b/run", **shared, **own)
    expected = Config.make(
        "cifar10", "vanilla", output_dir="a/b/cifar10-vanilla-0", **shared
    )
    assert config.vanilla() == expected
    elsewhere = Config.make("cifar10", method, vanilla_dir="else/where", **shared)
    assert elsewhere.vanilla().output_dir == "else/where"


def test_differences_are_what_changes_the_result():
    config = Config.make("cifar10", "ar_adals", attack="ddn")
    saved = json.loads(json.dumps(config.as_dict()))
    assert config.differences(saved) == []
    moved = saved | {"output_dir": "x", "vanilla_dir": "y", "data_dir": "z"}
    assert config.differences(moved | {"tensorboard": False, "verbose": False}) == []
    other = saved | {"epochs": 5, "seed": 1, "attack_settings": {"steps": 3}}
    del other["dropout"]
    assert config.differences(other) == [
        "seed is 0 here, 1 there",
        "epochs is 200 here, 5 there",
        "dropout is 0.0 here, None there",
        "attack_settings is {} here, {'steps': 3} there",
    ]


@pytest.mark.parametrize(
    ("given", "epochs"),
    [
        ({"refresh_epochs": "130,65"}, [65, 130]),
        ({"refresh_epochs": [7]}, [7]),
        ({"refresh_every": 60}, [60, 120, 180]),
        ({"refresh_epochs": "recipe"}, [65, 130]),
        ({"refresh_epochs": "recipe", "epochs": 20}, [6, 13]),
        ({"refresh_epochs": "recipe", "epochs": 3}, [1, 2]),
        ({"refresh_epochs": "recipe", "epochs": 2}, [1]),
        ({}, []),
    ],
)
def test_refresh_epochs(given, epochs):
    config = Config.make("cifar10", "ar_adals", **given)
    assert config.refresh_epochs == epochs
    end = "-on_the_fly" if epochs else ""
    assert config.output_dir == f"runs/cifar10-ar_adals{end}-0"


@pytest.mark.parametrize(
    ("method", "given", "sentence"),
    [
        ("ar_adals", {"refresh_epochs": "soon"}, "65,130.*received 'soon'"),
        ("ar_adals", {"refresh_epochs": "0"}, r"between 1 and 199.*received \[0\]"),
        ("ar_adals", {"refresh_epochs": "200"}, "between 1 and 199"),
        ("ar_adals", {"refresh_every": 0}, "at least 1; received 0"),
        ("ar_adals", {"refresh_every": 5, "refresh_epochs": "5"}, "received both"),
        ("adals", {"refresh_epochs": "65"}, "--method=adals has none"),
        ("ar_adals_of_ensemble", {"refresh_epochs": "65"}, "leave it out"),
        (
            "ar_adals",
            {"refresh_epochs": "65", "levels_from": "loss"},
            "received 'loss'; leave one of them out",
        ),
        ("ar_adals", {"levels_from": "size"}, "levels_from must be one of.*'size'"),
        ("vanilla", {"ensemble_size": 0}, "ensemble_size must be at least 1"),
        ("ar_adals_of_ensemble", {"ensemble_size": 1}, "must be at least 2"),
        ("vanilla", {"selection_examples": -1}, "selection_examples must be"),
        ("mixup", {"method_settings": {"mixup_alpha": 0}}, "above 0; received 0"),
        ("focal", {"method_settings": {"focal_gamma": -1}}, "at least 0; received -1"),
        ("ls", {"method_settings": {"focal_gamma": 1}}, "nothing to --method=ls"),
        ("ls", {"method_settings": {"epsilon": 0.1}}, "epsilon means nothing to"),
        ("trades", {"method_settings": {"adversarial_share": 0.5}}, "means nothing"),
        ("fgsm_at", {"method_settings": {"pgd_steps": 5}}, "means nothing to"),
        (
            "focal",
            {
                "adversarial_training": "fgsm_at",
                "method_settings": {"trades_beta": 1},
            },
            "nothing to --method=focal --adversarial_training=fgsm_at",
        ),
        ("fgsm_at", {"method_settings": {"epsilon": "8"}}, "between 0 and 1; .* 8"),
        ("fgsm_at", {"method_settings": {"epsilon": "8/0"}}, "epsilon must.* 8/0"),
        ("fgsm_at", {"method_settings": {"epsilon": "big"}}, "epsilon must.* big"),
        ("pgd_at", {"method_settings": {"epsilon": float("nan")}}, "received nan"),
        (
            "pgd_at",
            {"method_settings": {"adversarial_share": 0}},
            "adversarial_share must be above 0 and at most 1; received 0",
        ),
        ("pgd_at", {"method_settings": {"pgd_steps": 2.5}}, "whole number above 0"),
        ("trades", {"method_settings": {"pgd_steps": "0"}}, "whole number above 0"),
        ("trades", {"method_settings": {"pgd_relative_step": 0}}, "above 0; rec"),
        ("trades", {"method_settings": {"trades_beta": "inf"}}, "at least 0; .* inf"),
        ("ls", {"adversarial_training": "ls"}, "pgd_at, trades, ccat; .*'ls'"),
        ("ccat", {"method_settings": {"ccat_rho": -1}}, "ccat_rho must be at least 0"),
        ("ccat", {"method_settings": {"trades_beta": 1}}, "nothing to --method=ccat"),
        (
            "focal",
            {"adversarial_training": "ccat"},
            "ccat mixes labels .* loss of --method=focal takes one-hot labels alone",
        ),
        ("adafocal", {"adversarial_training": "ccat"}, "loss of --method=adafocal"),
        (
            "fgsm_at",
            {"adversarial_training": "trades"},
            "--method=fgsm_at is adversarial training itself.*leave it out",
        ),
        ("ls", {"augmentation": "mixed"}, "augmentation must be one of recipe, none"),
        ("ls", {"schedule": "cosine"}, "schedule must be one of recipe, constant"),
    ],
)
def test_refuses_what_the_method_does_not_know(method, given, sentence):
    with pytest.raises(InputError, match=sentence):
        Config.make("cifar10", method, **given)


def test_members_share_all_but_seed_and_place():
    config = Config.make(
        "cifar10", "ar_adals", ensemble_size=3, seed=7, output_dir="a/run"
    )
    assert config.title == "Ensemble of AR-AdaLS"
    for number, member in enumerate(config.members()):
        own = {
            "ensemble_size": 1,
            "seed": 7 + number,
            "vanilla_dir": member.vanilla_dir,
        }
        place = {"output_dir": f"a/run/member_{number}"}
        assert member.as_dict() == config.as_dict() | own | place
        assert member.vanilla().output_dir == config.vanilla().output_dir
    assert (
        Config.make("cifar10", "ls", ensemble_size=5).name == "cifar10-ls-ensemble5-0"
    )


def test_what_the_new_methods_start_from():
    joint = Config.make("imagenet2012", "ar_adals_of_ensemble")
    assert (joint.ensemble_size, joint.alpha) == (5, "0.001,60:0.05")
    random = Config.make("cifar10", "ar_adals", levels_from="random")
    assert (random.attack, random.num_levels) == (None, 10)
    assert random.name == "cifar10-ar_adals-by_random-0"
    mbls = Config.make("cifar10", "mbls", method_settings={"mbls_margin": 6})
    assert mbls.method_settings == {"mbls_margin": 6.0, "mbls_weight": 0.1}
    assert (mbls.alpha, mbls.label_smoothing, mbls.num_levels) == (None, None, None)


@pytest.mark.parametrize(
    ("method", "given", "settings"),
    [
        ("fgsm_at", {}, {"epsilon": 8 / 255, "adversarial_share": 0.5}),
        ("fgsm_at", {"epsilon": "4/255"}, {"epsilon": 4 / 255}),
        ("fgsm_at", {"epsilon": 0.03}, {"epsilon": 0.03}),
        ("fgsm_at", {"epsilon": "1e-2"}, {"epsilon": 0.01}),
        ("fgsm_at", {"epsilon": 0}, {"epsilon": 0.0}),
        ("pgd_at", {"adversarial_share": "1"}, {"adversarial_share": 1.0}),
        ("pgd_at", {}, {"pgd_steps": 7, "pgd_relative_step": 0.25}),
        ("pgd_at", {"pgd_steps": "20"}, {"pgd_steps": 20}),
        ("trades", {}, {"pgd_steps": 10, "trades_beta": 6.0, "epsilon": 8 / 255}),
        ("ccat", {}, {"pgd_steps": 40, "ccat_rho": 10.0, "adversarial_share": 0.5}),
    ],
)
def test_settings_of_adversarial_training(method, given, settings):
    config = Config.make("cifar10", method, method_settings=given)
    assert config.adversarial_training == method
    assert config.method_settings | settings == config.method_settings
    assert config.name == f"cifar10-{method}-0"
    assert all(type(config.method_settings[k]) is type(v) for k, v in settings.items())


def test_adversarial_training_goes_with_other_methods():
    """It has its own settings, name and title; the vanilla model is a plain one."""
    at = {"adversarial_training": "pgd_at"}
    config = Config.make("cifar10", "ar_adals", **at, output_dir="a/run")
    assert (config.num_levels, config.attack, config.alpha) == (10, "cw", "0.005")
    assert config.method_settings == {
        "epsilon": 8 / 255,
        "pgd_steps": 7,
        "pgd_relative_step": 0.25,
        "adversarial_share": 0.5,
    }
    assert config.name == "cifar10-ar_adals-pgd_at-0"
    assert config.title == "AR-AdaLS + PGD training"
    plain = Config.make("cifar10", "ar_adals", output_dir="a/run")
    assert config.vanilla() == plain.vanilla()
    ensemble = Config.make("cifar10", "ls", **at, ensemble_size=2, schedule="constant")
    assert ensemble.title == "Ensemble of Label smoothing + PGD training"
    assert [m.adversarial_training for m in ensemble.members()] == ["pgd_at"] * 2
    assert ensemble.vanilla().schedule == "constant"
    focal = Config.make("cifar10", "focal", adversarial_training="fgsm_at")
    assert set(focal.method_settings) == {"focal_gamma", "epsilon", "adversarial_share"}


def test_noise_is_part_of_a_run_and_not_of_its_vanilla_model():
    config = Config.make("cifar10", "ar_adals", noise_sigma=0.25, output_dir="a/run")
    plain = Config.make("cifar10", "ar_adals", output_dir="a/run")
    assert config.name == "cifar10-ar_adals-noise0.25-0"
    assert config.title == "AR-AdaLS + noise 0.25"
    assert config.vanilla() == plain.vanilla()
    assert config.differences(plain.as_dict()) == [
        "noise_sigma is 0.25 here, 0.0 there"
    ]
    both = Config.make(
        "cifar10", "ls", noise_sigma=0.5, adversarial_training="pgd_at", ensemble_size=2
    )
    assert both.name == "cifar10-ls-pgd_at-noise0.5-ensemble2-0"
    assert [member.noise_sigma for member in both.members()] == [0.5, 0.5]


@pytest.mark.parametrize("sigma", [-0.1, 11, float("nan")])
def test_noise_out_of_range_is_refused(sigma):
    with pytest.raises(InputError, match="--noise_sigma must be "):
        Config.make("cifar10", "vanilla", noise_sigma=sigma)


def test_the_recipes_alpha_follows_the_epochs_and_a_given_one_stays():
    for method, alpha in (("adals", "0.5"), ("ar_adals", "0.05")):
        assert Config.make("cifar10", method, epochs=20).alpha == alpha
        assert Config.make("cifar10", method, epochs=20, alpha=0.005).alpha == "0.005"


def test_alpha_of_data_without_a_recipe_is_that_of_fit(tmp_path):
    path = tmp_path / "mine.npz"
    x, y = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    for epochs in (1, 5, 20, 40, 300):
        for method in ("adals", "ar_adals"):
            config = Config.make(str(path), method, epochs=epochs)
            assert float(config.alpha) == pytest.approx(auto_alpha(epochs), rel=1e-5)
    assert Config.make("cifar10", "adals", epochs=20, alpha="auto").alpha == "0.25"


@pytest.mark.parametrize("own", [True, False])
def test_the_attack_follows_from_the_data(own, tmp_path, monkeypatch):
    """CW-L2 is the paper's; one's own data have `fit`'s, whatever is said besides."""
    monkeypatch.chdir(tmp_path)
    np.savez("table.npz", x_train=np.eye(90), y_train=np.arange(90) % 2)
    dataset, attack = ("table.npz", "ddn") if own else ("fashion_mnist_small", "cw")
    typed = {"dataset": dataset, "method": "ar_adals"}
    config = config_from(typed)
    assert config.attack == Config.make(dataset, "ar_adals").attack == attack
    steps = "steps" if own else "iterations"
    given = config_from({**typed, "attack_iterations": 7})
    assert (given.attack, given.attack_settings) == (attack, {steps: 7})
    assert config_from({**typed, "attack": "deepfool"}).attack == "deepfool"
    for alone in ({"vanilla": "none"}, {"levels_from": "own"}):
        assert config_from(typed | alone).attack == "margin"
    assert config_from(typed | {"levels_from": "random"}).attack is None
    assert config_from(typed | {"method": "ls"}).attack is None
    other = "cw" if own else "ddn"
    former = Config.make(dataset, "ar_adals", attack=other)
    assert flags_from(former.as_dict())["attack"] == other
    assert "attack" not in flags_from(config.as_dict())
    said = [f"attack is {attack} here, {other} there"]
    assert config.differences(former.as_dict()) == said


# Where a model starts from.


@pytest.fixture
def model_file(tmp_path):
    """Return a file that is only looked at from outside."""
    path = tmp_path / "mine.keras"
    path.write_bytes(b"a model")
    return path


def test_fine_tuning_has_a_recipe_of_its_own(model_file):
    config = Config.make("cifar100", "ar_adals", model=str(model_file), finetune=True)
    assert (config.epochs, config.batch_size) == (10, 128)
    assert (config.learning_rate, config.recipe.optimizer) == (1e-4, "adam")
    assert config.recipe.milestones == () and config.recipe.warmup_epochs == 0
    assert config.alpha == "0.2"
    assert config.output_dir == "runs/cifar100-mine-ar_adals-0"
    assert config.title == "AR-AdaLS, fine-tuned from mine.keras"
    shorter = Config.make(
        "cifar100", "ar_adals", model=str(model_file), finetune=True, epochs=5
    )
    assert shorter.alpha == "0.4"  # alpha times the epochs stays


def test_all_fine_tunings_share_the_model_as_it_is(model_file):
    given = {"model": str(model_file), "finetune": True, "num_bins": 8}
    one = Config.make("cifar10", "ar_adals", **given)
    other = Config.make("cifar10", "ls", epochs=3, batch_size=7, **given)
    assert one.vanilla() == other.vanilla()
    vanilla = one.vanilla()
    assert (vanilla.epochs, vanilla.num_bins, vanilla.as_given) == (0, 8, True)
    assert vanilla.output_dir == "runs/cifar10-mine-as_given"
    assert vanilla.title == "mine.keras, as given"
    assert vanilla == Config.make("cifar10", "vanilla", **given)


def test_the_content_of_a_file_is_a_setting(model_file):
    first = Config.make("cifar10", "vanilla", model=str(model_file))
    expected = hashlib.sha256(b"a model").hexdigest()[:16]
    assert first.model_digest == expected
    model_file.write_bytes(b"another")
    second = Config.make("cifar10", "vanilla", model=str(model_file))
    (difference,) = second.differences(first.as_dict())
    assert difference.startswith("the digest of the model's file is ")
    assert first.members()[0].model_digest == expected


def test_settings_of_a_file_need_no_file_once_they_are_saved(model_file):
    """A report is made where the model may be gone."""
    config = Config.make("cifar10", "ls", model=str(model_file), finetune=True)
    model_file.unlink()
    flags = flags_from(config.as_dict())
    assert flags["finetune"] == "true" and "model_digest" not in flags
    assert "epochs" not in flags


def test_runs_of_the_first_version_are_read_without_the_new_settings(tmp_path):
    saved = Config.make("cifar10", "vanilla").as_dict()
    for name in ("weights_file", "model_range", "finetune", "model_digest"):
        del saved[name]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert saved_config(tmp_path) == Config.make("cifar10", "vanilla")
