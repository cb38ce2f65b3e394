"""Every setting of a run. What is not given comes from the dataset's recipe."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.bounds import Bound
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment import completion
from ar_adals_tf.experiment.declaration import (
    Declaration,
    Default,
    check_choice,
    from_recipe,
    own_setting,
    setting,
)
from ar_adals_tf.methods.table import METHODS, Method, adversarial_methods

#: What Keras and NumPy accept as a seed.
SEEDS = Bound(least=0, most=2**32 - 1)

#: More than anyone needs, so that a slip of the hand is noticed before any work.
MANY, MOST = 1_000_000, 1_000_000_000


@dataclass(frozen=True)
class Config:
    """The settings of one run. `Config.make` completes and checks them.

    Each field declares its setting; see `ar_adals_tf.experiment.declaration`.
    """

    dataset: str = own_setting(
        "The images. fashion_mnist_small comes with the package. TensorFlow Datasets "
        "reads the others, and downloads what is not there.",
        default="fashion_mnist_small",
        choices=DATASETS,
        group="data",
    )
    method: str = own_setting(
        "How the classifier is trained.", default="ar_adals", choices=METHODS
    )
    seed: int = own_setting(
        "Seed of the initial weights, the shuffling and the augmentation.",
        default=0,
        bound=SEEDS,
        changes="seed",
    )
    split_seed: int = setting(
        "Seed of the random division into training and validation images. Runs with "
        "different --seed can share one division and one vanilla model.",
        default=0,
        bound=SEEDS,
        group="data",
    )
    output_dir: str = own_setting(
        "The run directory.",
        default=Default("runs/<dataset>-<method>-<seed>", ""),
        changes="nothing",
    )
    vanilla_dir: str | None = own_setting(
        "Run directory of the vanilla model whose robustness ranks the images. The "
        "model is trained if it is absent.",
        default=Default("<dataset>-vanilla-0 beside the run"),
        changes="nothing",
    )
    data_dir: str | None = setting(
        "Where TensorFlow Datasets keeps its data.",
        default=Default(
            "the environment variable TFDS_DATA_DIR, or ~/tensorflow_datasets"
        ),
        changes="nothing",
        group="data",
    )
    model: str = setting(
        "The network, a key of ar_adals_tf.models.MODELS.",
        default=from_recipe("model"),
        choices="ar_adals_tf.models:MODELS",
    )
    epochs: int = setting(
        "Number of epochs. The recipe's schedule is stretched to it.",
        default=from_recipe("epochs"),
        bound=Bound(least=1, most=MANY),
    )
    batch_size: int = setting(
        "Global batch size.",
        default=from_recipe("batch_size"),
        bound=Bound(least=1, most=MANY),
    )
    learning_rate: float = setting(
        "Base learning rate, which the recipe's schedule multiplies.",
        default=from_recipe("learning_rate"),
        bound=Bound(above=0),
    )
    schedule: str = setting(
        "How the learning rate moves. constant: it stays at --learning_rate.",
        default="recipe",
        choices=("recipe", "constant"),
    )
    augmentation: str = setting(
        "How the training images are varied. none: they stay as they are.",
        default="recipe",
        choices=("recipe", "none"),
    )
    dropout: float = setting(
        "Share of the features that are dropped before the last layer.",
        default=0.0,
        bound=Bound(least=0, below=1),
    )
    num_levels: int | None = own_setting(
        "Number R of robustness levels.",
        default=10,
        bound=Bound(least=1, most=MANY),
        needs="by_robustness",
    )
    alpha: str | None = own_setting(
        "Learning rate of the smoothing, Eq. 3: a number such as 0.005, or a schedule "
        "such as 0.001,60:0.05 (0.05 from epoch 60 on, counted from 0).",
        default=Default(
            "the recipe's for the method; with fewer epochs it grows, so that alpha "
            "times the epochs stays",
            lambda recipe, method: recipe.alpha[
                "ar_adals" if method.by_robustness else "adals"
            ],
        ),
        needs="adaptive",
    )
    label_smoothing: float | None = own_setting(
        "Degree eps of --method=ls.",
        default=from_recipe("label_smoothing"),
        bound=Bound(least=0, below=1),
        needs="smoothed",
    )
    attack: str | None = own_setting(
        "How the distance to another class is found.",
        default="cw",
        choices=ATTACKS,
        needs="by_robustness",
        group="attack",
    )
    attack_settings: dict[str, Any] = own_setting(
        "The attack's settings that are not its defaults.",
        default=Default("the attack's", {}),
        needs="by_robustness",
        group="attack",
    )
    refresh_epochs: list[int] = own_setting(
        "On-the-fly AR-AdaLS: epochs such as 65,130, counted from 0. Before each of "
        "them the training and validation images are attacked again, with the model in "
        "training. recipe: the dataset's epochs. Until the first of them the vanilla "
        "model's levels hold.",
        default=Default("none", ()),
    )
    levels_from: str | None = own_setting(
        "What the levels are cut from. All but robustness are controls: the vanilla "
        "model's confidence or loss, or chance.",
        default="robustness",
        choices=completion.LEVELS_FROM,
        needs="by_robustness",
    )
    method_settings: dict[str, float] = own_setting(
        "The settings of the method's loss or transform, and of adversarial training.",
        default=Default("the method's", {}),
    )
    adversarial_training: str | None = own_setting(
        "Adversarial training on top of another --method, such as ar_adals. Attacked "
        "images keep the method's soft labels.",
        default=Default("none"),
        choices=adversarial_methods,
    )
    ensemble_size: int = own_setting(
        "Number of members to train, with seeds from --seed upwards, in the folders "
        "member_0, member_1, ... of the run directory. Probabilities are averaged.",
        default=Default(
            "1, or 5 for ar_adals_of_ensemble",
            lambda recipe, method: 5 if method.joint else 1,
        ),
        bound=Bound(least=1, most=1000),
    )
    validation_examples: int | None = setting(
        "Size of the validation set.",
        default=Default(
            "10 % of the training images; for ImageNet half of its validation images"
        ),
        bound=Bound(least=0, most=MOST),
        group="data",
    )
    selection_examples: int = own_setting(
        "Number of images that are held out of the validation set and measured at the "
        "end. Settings chosen by them are not chosen by images that moved the soft "
        "labels.",
        default=0,
        bound=Bound(least=0, most=MOST),
    )
    limit_examples: int | None = setting(
        "Use at most this number of images of every split, for a quick look.",
        bound=Bound(least=1, most=MOST),
        group="data",
    )
    num_bins: int = setting(
        "Number of equal-width confidence bins of the expected calibration error.",
        default=15,
        bound=Bound(least=1, most=10_000),
        group="measure",
    )
    mixed_precision: str = setting(
        "Number format of the layers' computations. none: float32.",
        default="none",
        choices=("none", "float16", "bfloat16"),
    )
    deterministic: bool = setting(
        "Allow only kernels that give the same bits every time, on a GPU too. Slower.",
        default=False,
    )
    tensorboard: bool = setting(
        "Write TensorBoard logs into the run.", default=True, changes="nothing"
    )
    verbose: bool = setting("Show progress.", default=True, changes="nothing")

    @classmethod
    def make(cls, dataset: str, method: str, **given: Any) -> "Config":
        """Complete what is given by the dataset's recipe and check it.

        Args:
            dataset: A key of `DATASETS`.
            method: A key of `METHODS`.
            **given: Any other field. None is the same as leaving it out, also inside
                `method_settings`. `refresh_epochs` may also be text, `"65,130"` or
                `"recipe"`. `refresh_every=N` stands for the epochs N, 2 N, ...

        Raises:
            InputError: On unknown names and on values that cannot work.

        Example:
            >>> Config.make("cifar10", "ar_adals").alpha
            '0.005'
        """
        check_choice("dataset", dataset, DATASETS)
        check_choice("method", method, METHODS)
        recipe, kind = DATASETS[dataset].recipe, METHODS[method]
        every = given.pop("refresh_every", None)
        defaults = {
            name: declared.default_for(recipe, kind)
            for name, declared in DECLARATIONS.items()
        }
        values = defaults | {k: v for k, v in given.items() if v is not None}
        values |= {"dataset": dataset, "method": method}
        for name, declared in DECLARATIONS.items():
            if declared.needs and not getattr(kind, declared.needs):
                values[name] = None
        completion.complete(
            values, every, recipe, alpha_is_given=given.get("alpha") is not None
        )
        config = cls(**values)
        for name, declared in DECLARATIONS.items():
            # The defaults fit, and the table of models is slow to load.
            if (value := values[name]) != defaults[name]:
                declared.check(name, value)
        config._check_together()
        folder = config.output_dir or f"runs/{config.name}"
        return dataclasses.replace(config, output_dir=folder)

    @property
    def kind(self) -> Method:
        """The method's entry of `METHODS`."""
        return METHODS[self.method]

    @property
    def name(self) -> str:
        """What the run is called on disk, such as `cifar10-ar_adals-0`."""
        parts = [self.dataset, self.method]
        if self.levels_from not in (None, "robustness"):
            parts.append(f"by_{self.levels_from}")
        if self.adversarial_training not in (None, self.method):
            parts.append(str(self.adversarial_training))
        if self.refresh_epochs:
            parts.append("on_the_fly")
        if self.ensemble_size > 1 and not self.kind.joint:
            parts.append(f"ensemble{self.ensemble_size}")
        return "-".join([*parts, str(self.seed)])

    @property
    def title(self) -> str:
        """What people call the run."""
        title = self.kind.title + completion.LEVELS_FROM.get(str(self.levels_from), "")
        if self.refresh_epochs:
            title += " on-the-fly"
        if self.adversarial_training not in (None, self.method):
            title += f" + {METHODS[str(self.adversarial_training)].title}"
        if self.ensemble_size > 1 and not self.kind.joint:
            title = f"Ensemble of {title}"
        return title

    def _check_together(self) -> None:
        """Refuse settings that cannot go together."""
        if self.kind.joint and self.ensemble_size < 2:
            raise InputError(
                f"--ensemble_size must be at least 2; received {self.ensemble_size}"
            )
        if self.seed + self.ensemble_size - 1 > SEEDS.most:
            raise InputError(
                f"the seeds of {self.ensemble_size} members count up from --seed, to "
                f"at most {SEEDS.most}; received {self.seed}; give a smaller one"
            )
        if self.validation_examples == 0 and self.kind.learns:
            raise InputError(
                f"--method={self.method} learns {self.kind.learns} from validation "
                "images, so --validation_examples=0 cannot be; leave it out"
            )
        if not self.refresh_epochs:
            return
        if not self.kind.by_robustness or self.kind.joint:
            raise InputError(
                f"--refresh_epochs attacks the one model that is trained by its own "
                f"robustness levels; --method={self.method} has none such: leave it out"
            )
        if self.levels_from != "robustness":
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
        """Return the settings of an ensemble's members, which share the vanilla model.

        Their seeds count up from this run's.
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
        """Return the settings of the vanilla model that this run attacks."""
        shared = {n: getattr(self, n) for n, d in DECLARATIONS.items() if d.shared}
        beside = Path(self.output_dir).parent / f"{self.dataset}-vanilla-0"
        folder = self.vanilla_dir or str(beside)
        return Config.make(self.dataset, "vanilla", **shared, output_dir=folder)

    def as_dict(self) -> dict[str, Any]:
        """Return all settings, ready for JSON."""
        return dataclasses.asdict(self)

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Describe where saved settings would compute something else.

        Example:
            >>> config = Config.make("cifar10", "vanilla")
            >>> config.differences({**config.as_dict(), "epochs": 5})
            ['epochs is 200 here, 5 there']
        """
        return [
            f"{name} is {value} here, {saved.get(name)} there"
            for name, value in self.as_dict().items()
            if DECLARATIONS[name].changes != "nothing" and saved.get(name) != value
        ]


#: The declaration of every setting, in the order of `Config`'s fields.
DECLARATIONS: dict[str, Declaration] = {
    field.name: field.metadata["declaration"] for field in dataclasses.fields(Config)
}

#: The settings that the runs of one group share: those that only repeat a run with
#: another seed, or change nothing, are left out.
GROUP_SETTINGS = tuple(n for n, d in DECLARATIONS.items() if d.changes == "result")
