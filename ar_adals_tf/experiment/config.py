"""The settings of a run, completed by the dataset's recipe and checked."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar_adals_tf.datasets import own
from ar_adals_tf.experiment import completion, naming, start, together
from ar_adals_tf.experiment.declaration import check_choice
from ar_adals_tf.experiment.settings import DECLARATIONS, Settings
from ar_adals_tf.methods.table import METHODS


@dataclass(frozen=True)
class Config(Settings):
    """The settings of one run. `Config.make` completes and checks them."""

    @classmethod
    def make(cls, dataset: str, method: str, **given: Any) -> "Config":
        """Complete what is given by the dataset's recipe and check it.

        Args:
            dataset: A key of `DATASETS`, a folder of pictures, an `.npz` file of
                arrays, or any image classification dataset of TensorFlow Datasets; see
                `ar_adals_tf.datasets.own`.
            method: A key of `METHODS`.
            **given: Any other field. None is the same as leaving it out, also inside
                `method_settings`. `refresh_epochs` may also be text, `"65,130"` or
                `"recipe"`. `refresh_every=N` stands for the epochs N, 2 N, ...,
                `vanilla="none"` for `levels_from="own"`.

        Raises:
            InputError: On unknown names and on values that cannot work.

        Example:
            >>> Config.make("cifar10", "ar_adals").alpha
            '0.005'
        """
        check_choice("method", method, METHODS)
        dataset = own.plain_name(dataset)
        recipe, of_data = completion.of_data(dataset, given)
        kind = METHODS[method]
        if given.get("finetune"):
            recipe = recipe.finetuning()
        every = given.pop("refresh_every", None)
        if given.pop("vanilla", None) == "none":
            given["levels_from"] = completion.without_vanilla(
                method, given.get("levels_from")
            )
        defaults = {
            name: declared.default_for(recipe, kind)
            for name, declared in DECLARATIONS.items()
        }
        if given.get("finetune") and method == "vanilla":
            defaults["epochs"] = 0  # the model as it is
        values = defaults | {k: v for k, v in given.items() if v is not None}
        values |= {"dataset": dataset, "method": method, **of_data}
        for name, declared in DECLARATIONS.items():
            if declared.needs and not getattr(kind, declared.needs):
                values[name] = None
        completion.complete(
            values,
            every,
            recipe,
            alpha_is_given=given.get("alpha") is not None,
            attack_is_given=given.get("attack") is not None,
        )
        start.complete(values, changed=values["model"] != recipe.model)
        config = cls(**values)
        for name, declared in DECLARATIONS.items():
            # The defaults fit, and the table of models is slow to load.
            if (value := values[name]) != defaults[name]:
                declared.check(name, value)
        together.check(config)
        config = dataclasses.replace(
            config, output_dir=config.output_dir or f"runs/{config.name}"
        )
        if config.finetune and config.needs_vanilla and not config.vanilla_dir:
            beside = Path(config.output_dir).parent / config.vanilla().name
            config = dataclasses.replace(config, vanilla_dir=str(beside))
        return config

    @property
    def name(self) -> str:
        """What the run is called on disk, such as `cifar10-ar_adals-0`."""
        return naming.folder_name(self)

    @property
    def title(self) -> str:
        """What people call the run."""
        return naming.title(self)

    def members(self) -> list["Config"]:
        """Return the settings of an ensemble's members, which share the vanilla model.

        Their seeds count up from this run's.
        """
        return [
            dataclasses.replace(
                self,
                ensemble_size=1,
                seed=self.seed + number,
                output_dir=str(Path(self.output_dir) / naming.member_name(number)),
                vanilla_dir=None if self.own_levels else self.vanilla().output_dir,
            )
            for number in range(self.ensemble_size)
        ]

    def vanilla(self) -> "Config":
        """Return the settings of the vanilla model that this run attacks."""
        shared = {n: getattr(self, n) for n, d in DECLARATIONS.items() if d.shared}
        if self.finetune:  # nothing is trained, however this run is
            shared = {n: v for n, v in shared.items() if n not in start.OF_TRAINING}
            folder = self.vanilla_dir or ""
            return Config.make(self.dataset, "vanilla", **shared, output_dir=folder)
        beside = Path(self.output_dir).parent / naming.vanilla_name(self.dataset)
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
            f"the data in {self.dataset} have changed since"
            if name == "data_digest"
            else f"{start.words(name)} is {value} here, {saved.get(name)} there"
            for name, value in self.as_dict().items()
            if DECLARATIONS[name].changes != "nothing" and saved.get(name) != value
        ]
