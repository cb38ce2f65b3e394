"""Every setting of a run: from the recipe, unless said otherwise."""

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ar_adals_tf.attacks.table import attack_settings
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.recipes import RECIPES, Recipe
from ar_adals_tf.methods.table import LIMITS, METHODS
from ar_adals_tf.smoothing import AlphaSchedule

#: Number formats of the layers' computations; none is float32.
MIXED_PRECISION = ("none", "float16", "bfloat16")

#: What the recipe of a dataset can be left out of.
AUGMENTATIONS = ("recipe", "none")

SCHEDULES = ("recipe", "constant")

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
    "refresh_epochs",
    "levels_from",
    "ensemble_size",
    "selection_examples",
    "method_settings",
    "adversarial_training",
)

#: What the levels can be cut from; the last three are controls.
LEVELS_FROM = ("robustness", "confidence", "loss", "random")


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
        schedule: Of the learning rate, of `SCHEDULES`.
        augmentation: Of the training images, of `AUGMENTATIONS`.
        dropout: Share of features dropped before the last layer, 0 in the recipes.
        num_levels: R; None where the method has no levels.
        alpha: Learning rate of the smoothing, as text; None where labels do not move.
        label_smoothing: Degree eps; None where labels do not start softened.
        attack: A key of `ar_adals_tf.attacks.ATTACKS`; None where nothing is attacked.
        attack_settings: Its settings, where they are not the defaults.
        refresh_epochs: Epochs, counted from 0, before which the training and validation
            images are attacked anew with the model in training; empty: never.
        levels_from: What the levels are cut from, of `LEVELS_FROM`; None where the
            method has none.
        method_settings: Of the method's loss or batch transform, and of adversarial
            training.
        adversarial_training: The method of `METHODS` that trains adversarially, in
            addition to `method` or being it; None: none.
        ensemble_size: Number of models whose probabilities are averaged.
        validation_examples: Size of the validation set; None is the recipe's.
        selection_examples: So many of the validation images are held out of it, to
            choose between runs by images that moved no soft label.
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
    schedule: str
    augmentation: str
    dropout: float
    num_levels: int | None
    alpha: str | None
    label_smoothing: float | None
    attack: str | None
    attack_settings: dict[str, Any]
    refresh_epochs: list[int]
    levels_from: str | None
    method_settings: dict[str, float]
    adversarial_training: str | None
    ensemble_size: int
    validation_examples: int | None
    selection_examples: int
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
                `refresh_epochs` may be text too, `"65,130"` or `"recipe"`; instead of
                it `refresh_every=N` means N, 2 N, ... Of `method_settings` entries of
                None are filled in.

        Raises:
            InputError: On unknown names and on values that cannot work.

        Example:
            >>> Config.make("cifar10", "ar_adals").alpha
            '0.005'
        """
        _check_choice("dataset", dataset, RECIPES)
        _check_choice("method", method, METHODS)
        recipe, kind = RECIPES[dataset], METHODS[method]
        refresh_every = given.pop("refresh_every", None)
        defaults: dict[str, Any] = {
            "seed": 0,
            "split_seed": 0,
            "output_dir": "",
            "vanilla_dir": None,
            "data_dir": None,
            "model": recipe.model,
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "schedule": SCHEDULES[0],
            "augmentation": AUGMENTATIONS[0],
            "dropout": 0.0,
            "num_levels": 10,
            "alpha": recipe.alpha.get("ar_adals" if kind.joint else method),
            "label_smoothing": recipe.label_smoothing,
            "attack": "cw",
            "attack_settings": {},
            "refresh_epochs": [],
            "levels_from": LEVELS_FROM[0],
            "method_settings": {},
            "adversarial_training": method if kind.adversarial else None,
            "ensemble_size": 5 if kind.joint else 1,
            "validation_examples": None,
            "selection_examples": 0,
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
            values["levels_from"] = None
        else:
            _check_choice("levels_from", values["levels_from"], LEVELS_FROM)
            attack_settings(values["attack"], **values["attack_settings"])
            if values["levels_from"] != LEVELS_FROM[0]:
                values |= {"attack": None, "attack_settings": {}}
        values["refresh_epochs"] = _refresh_epochs(
            values["refresh_epochs"], refresh_every, recipe, values["epochs"]
        )
        adversarial = values["adversarial_training"]
        _check_adversarial(method, adversarial)
        values["method_settings"] = _method_settings(
            method, adversarial, values["method_settings"]
        )
        values["alpha"] = (
            str(AlphaSchedule.parse(values["alpha"])) if kind.adaptive else None
        )
        if not kind.smoothed:
            values["label_smoothing"] = None
        config = cls(dataset=dataset, method=method, **values)
        config._check()
        folder = config.output_dir or f"runs/{config.name}"
        return dataclasses.replace(config, output_dir=folder)

    @property
    def is_joint(self) -> bool:
        """Whether the members of an ensemble are trained in lockstep, in one run."""
        return METHODS[self.method].joint

    @property
    def name(self) -> str:
        """What the run is called on disk, such as `cifar10-ar_adals-0`."""
        parts = [self.dataset, self.method]
        if self.levels_from not in (None, LEVELS_FROM[0]):
            parts.append(f"by_{self.levels_from}")
        if self.adversarial_training not in (None, self.method):
            parts.append(str(self.adversarial_training))
        if self.refresh_epochs:
            parts.append("on_the_fly")
        if self.ensemble_size > 1 and not self.is_joint:
            parts.append(f"ensemble{self.ensemble_size}")
        return "-".join([*parts, str(self.seed)])

    @property
    def title(self) -> str:
        """What people call the run."""
        title = METHODS[self.method].title
        if self.levels_from not in (None, LEVELS_FROM[0]):
            title += {
                "confidence": " by confidence",
                "loss": " by loss",
                "random": " with random levels",
            }[str(self.levels_from)]
        if self.refresh_epochs:
            title += " on-the-fly"
        if self.adversarial_training not in (None, self.method):
            title += f" + {METHODS[str(self.adversarial_training)].title}"
        if self.ensemble_size > 1 and not self.is_joint:
            title = f"Ensemble of {title}"
        return title

    def _check(self) -> None:
        from ar_adals_tf.models import MODELS

        _check_choice("model", self.model, MODELS)
        _check_choice("mixed_precision", self.mixed_precision, MIXED_PRECISION)
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("augmentation", self.augmentation, AUGMENTATIONS)
        for name, least in [
            ("seed", 0),
            ("split_seed", 0),
            ("epochs", 1),
            ("batch_size", 1),
            ("num_levels", 1),
            ("num_bins", 1),
            ("limit_examples", 1),
            ("validation_examples", 0),
            ("selection_examples", 0),
            ("ensemble_size", 2 if self.is_joint else 1),
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

        if self.refresh_epochs:
            self._check_refresh()

    def _check_refresh(self) -> None:
        if not METHODS[self.method].by_robustness or self.is_joint:
            raise InputError(
                f"--refresh_epochs attacks the one model that is trained by its own "
                f"robustness levels; --method={self.method} has none such: leave it out"
            )
        if self.levels_from != LEVELS_FROM[0]:
            raise InputError(
                "--refresh_epochs means --levels_from=robustness; received "
                f"{self.levels_from!r}; leave one of them out"
            )
        if not 1 <= self.refresh_epochs[0] <= self.refresh_epochs[-1] < self.epochs:
            raise InputError(
                f"--refresh_epochs must lie between 1 and {self.epochs - 1}, the last "
                f"epoch counted from 0; received {self.refresh_epochs}"
            )

    def members(self) -> list["Config"]:
        """Return the settings of each member of an ensemble.

        They share the vanilla model; seeds count up from this run's. A member lies in
        `member_<number>` of the run directory.
        """
        return [
            dataclasses.replace(
                self,
                ensemble_size=1,
                seed=self.seed + number,
                output_dir=str(Path(self.output_dir) / f"member_{number}"),
                vanilla_dir=self.vanilla().output_dir,
            )
            for number in range(self.ensemble_size)
        ]

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


def _refresh_epochs(
    given: Any, every: int | None, recipe: Recipe, epochs: int
) -> list[int]:
    """Return the epochs of a list, of text, or of every so many, ascending."""
    if every is not None:
        if given:
            raise InputError(
                "give either --refresh_epochs or --refresh_every; received both"
            )
        if every < 1:
            raise InputError(f"--refresh_every must be at least 1; received {every}")
        return list(range(every, epochs, every))
    if given == "recipe":
        return [
            max(1, round(e * epochs / recipe.epochs)) for e in recipe.refresh_epochs
        ]
    try:
        parts = given.split(",") if isinstance(given, str) else given
        return sorted({int(part) for part in parts})
    except ValueError:
        raise InputError(
            "--refresh_epochs must be epochs such as 65,130, or recipe; received "
            f"{given!r}"
        ) from None


def _check_adversarial(method: str, adversarial: str | None) -> None:
    """Refuse what is no adversarial training, and two of them."""
    if adversarial is None:
        return
    choices = [name for name, kind in METHODS.items() if kind.adversarial]
    _check_choice("adversarial_training", adversarial, choices)
    if method in choices and method != adversarial:
        raise InputError(
            f"--method={method} is adversarial training itself; received "
            f"--adversarial_training={adversarial} as well; leave it out"
        )


def _method_settings(
    method: str, adversarial: str | None, given: dict[str, Any]
) -> dict[str, float]:
    """Complete the settings of a method, and of the adversarial training with it."""
    known = dict(METHODS[method].settings)
    if adversarial:
        known |= METHODS[adversarial].settings
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            also = f" --adversarial_training={adversarial}" if adversarial else ""
            raise InputError(f"--{name} means nothing to --method={method}{also}")
        known[name] = type(known[name])(_number(name, value))
    return known


def _number(name: str, given: Any) -> float:
    """Read a number such as 0.03 or 8/255 and check that the setting may have it."""
    words, allows = LIMITS.get(name, ("at least 0", lambda value: value >= 0))
    try:
        value = float(Fraction(given))
    except (ValueError, TypeError, ArithmeticError):  # no number, infinite, x/0
        value = float("nan")
    if not allows(value):
        raise InputError(f"--{name} must be {words}; received {given}")
    return value


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise InputError(
            f"--{name} must be one of {', '.join(choices)}; received {value!r}"
        )
