"""Every setting of a run: from the recipe, unless said otherwise."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar_adals_tf.calibration import DEFAULT_NUM_BINS
from ar_adals_tf.errors import InputError
from ar_adals_tf.methods import METHODS
from ar_adals_tf.recipes import RECIPES
from ar_adals_tf.smoothing import AlphaSchedule

#: Number formats of the layers' computations; none is float32.
MIXED_PRECISION = ("none", "float16", "bfloat16")

#: Settings that do not change what a run computes.
_INCIDENTAL = ("output_dir", "vanilla_dir", "data_dir", "tensorboard", "verbose")

#: Settings of a method that other methods of the run's vanilla model do not share.
_OF_METHOD = (
    "method",
    "seed",
    "alpha",
    "label_smoothing",
    "num_levels",
    "attack",
    "attack_settings",
)


@dataclass(frozen=True)
class Config:
    """The settings of one run. `Config.make` fills in the recipe and checks them.

    Attributes:
        dataset: A key of `ar_adals_tf.datasets.DATASETS`.
        method: A key of `ar_adals_tf.methods.METHODS`.
        seed: Initial weights, shuffling and augmentation.
        split_seed: The random division into training and validation set, apart from
            `seed`, so that runs can share one split and one vanilla index.
        output_dir: The run directory.
        vanilla_dir: Run directory of the vanilla model that is attacked; None: beside
            `output_dir`.
        data_dir: Where TFDS keeps its data.
        model: A key of `ar_adals_tf.models.MODELS`.
        epochs: Number of epochs.
        batch_size: Global batch.
        learning_rate: Base learning rate, before the recipe's schedule.
        dropout: Share of features dropped before the last layer, 0 in the recipes.
        num_levels: R; None where the method has no levels.
        alpha: Learning rate of the smoothing, as text; None where labels do not move.
        label_smoothing: Degree eps; None where labels do not start softened.
        attack: A key of `ar_adals_tf.attacks.ATTACKS`; None where nothing is attacked.
        attack_settings: Its settings, where they are not the defaults.
        validation_examples: Size of the validation set; None is the recipe's.
        limit_examples: At most so many examples in every split.
        num_bins: Of the ECE.
        mixed_precision: `none`, `float16` or `bfloat16`.
        deterministic: Whether TensorFlow may only use deterministic kernels.
        tensorboard: Whether to write TensorBoard logs.
        verbose: Whether to show progress.
    """

    dataset: str
    method: str
    seed: int
    split_seed: int
    output_dir: str
    vanilla_dir: str | None
    data_dir: str | None
    model: str
    epochs: int
    batch_size: int
    learning_rate: float
    dropout: float
    num_levels: int | None
    alpha: str | None
    label_smoothing: float | None
    attack: str | None
    attack_settings: dict[str, Any]
    validation_examples: int | None
    limit_examples: int | None
    num_bins: int
    mixed_precision: str
    deterministic: bool
    tensorboard: bool
    verbose: bool

    @classmethod
    def make(cls, dataset: str, method: str, **given: Any) -> "Config":
        """Complete what is given by the dataset's recipe.

        Args:
            dataset: Name of the dataset.
            method: Name of the method.
            **given: Any attribute; None and what is left out is filled in.

        Raises:
            InputError: On unknown names and on values that cannot work.

        Example:
            >>> Config.make("cifar10", "ar_adals").alpha
            '0.005'
        """
        from ar_adals_tf.attacks import attack_settings

        _check_choice("dataset", dataset, RECIPES)
        _check_choice("method", method, METHODS)
        recipe, kind = RECIPES[dataset], METHODS[method]
        seed = given.get("seed") or 0
        folder = given.get("output_dir") or f"runs/{dataset}-{method}-{seed}"
        defaults: dict[str, Any] = {
            "seed": 0,
            "split_seed": 0,
            "output_dir": folder,
            "vanilla_dir": None,
            "data_dir": None,
            "model": recipe.model,
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "dropout": 0.0,
            "num_levels": 10,
            "alpha": recipe.alpha.get(method),
            "label_smoothing": recipe.label_smoothing,
            "attack": "cw",
            "attack_settings": {},
            "validation_examples": None,
            "limit_examples": None,
            "num_bins": DEFAULT_NUM_BINS,
            "mixed_precision": "none",
            "deterministic": False,
            "tensorboard": True,
            "verbose": True,
        }
        values = defaults | {k: v for k, v in given.items() if v is not None}
        if not kind.by_robustness:
            values |= {"num_levels": None, "attack": None, "attack_settings": {}}
        else:
            attack_settings(values["attack"], **values["attack_settings"])
        values["alpha"] = (
            str(AlphaSchedule.parse(values["alpha"])) if kind.adaptive else None
        )
        if not kind.smoothed:
            values["label_smoothing"] = None
        config = cls(dataset=dataset, method=method, **values)
        config._check()
        return config

    def _check(self) -> None:
        from ar_adals_tf.models import MODELS

        _check_choice("model", self.model, MODELS)
        _check_choice("mixed_precision", self.mixed_precision, MIXED_PRECISION)
        for name, least in [
            ("seed", 0),
            ("split_seed", 0),
            ("epochs", 1),
            ("batch_size", 1),
            ("num_levels", 1),
            ("num_bins", 1),
            ("limit_examples", 1),
            ("validation_examples", 0),
        ]:
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"--{name} must be at least {least}; received {value}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(
                f"--learning_rate must be above 0; received {self.learning_rate}"
            )
        if self.label_smoothing is not None and not 0 <= self.label_smoothing < 1:
            raise InputError(
                "--label_smoothing must be at least 0 and below 1; received "
                f"{self.label_smoothing}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(
                f"--dropout must be at least 0 and below 1; received {self.dropout}"
            )
        if self.validation_examples == 0 and METHODS[self.method].adaptive:
            raise InputError(
                f"--method={self.method} learns its soft labels from validation "
                "images, so --validation_examples=0 cannot be; leave it out"
            )

    def vanilla(self) -> "Config":
        """Return the settings of the vanilla model that this run attacks.

        It lies beside this run's directory unless `vanilla_dir` says otherwise.
        """
        shared = {
            name: value
            for name, value in self.as_dict().items()
            if name not in (*_OF_METHOD, "output_dir", "vanilla_dir", "dataset")
        }
        beside = Path(self.output_dir).parent / f"{self.dataset}-vanilla-0"
        folder = self.vanilla_dir or str(beside)
        return Config.make(self.dataset, "vanilla", **shared, output_dir=folder)

    def as_dict(self) -> dict[str, Any]:
        """Return all settings, ready for JSON."""
        return dataclasses.asdict(self)

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """Describe where saved settings would compute something else.

        Example:
            >>> config.differences({**config.as_dict(), "epochs": 5})
            ['epochs is 200 here, 5 there']
        """
        return [
            f"{name} is {value} here, {saved.get(name)} there"
            for name, value in self.as_dict().items()
            if name not in _INCIDENTAL and saved.get(name) != value
        ]


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise InputError(
            f"--{name} must be one of {', '.join(choices)}; received {value!r}"
        )
