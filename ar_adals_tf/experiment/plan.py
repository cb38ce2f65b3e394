"""What a run needs to know, found out once from its settings and then handed down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ar_adals_tf.datasets.generic import recipe_of
from ar_adals_tf.datasets.table import Recipe
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.methods.table import METHODS, Method

if TYPE_CHECKING:
    from ar_adals_tf.datasets.splits import Split


@dataclass(frozen=True)
class Plan:
    """One run: its settings and what follows from them. `Plan.make` finds it out.

    Attributes:
        adversarial: The method whose training step perturbs images; None where images
            are trained on as they are.
        vanilla: The settings of the vanilla run, whose model is attacked.
        members: The settings of an ensemble's members; empty for a single model.
        loaded: The splits as they were loaded. The vanilla model and its robustness
            indexes are made from these, so that runs can share them.
        splits: The splits of this run: `loaded`, but images that are held out to
            choose between runs are in `selection` and no longer in `validation`.
    """

    config: Config
    method: Method
    adversarial: Method | None
    recipe: Recipe
    vanilla: Config
    members: tuple[Config, ...]
    loaded: Mapping[str, "Split"]
    splits: Mapping[str, "Split"]

    @classmethod
    def make(
        cls, config: Config, splits: Mapping[str, "Split"] | None = None
    ) -> "Plan":
        """Find out what follows from the settings.

        Without splits, what concerns settings and folders alone can be asked.

        Raises:
            InputError: If as many images are to be held out as there are validation
                images, or if there are more levels than images to divide into them.

        Example:
            >>> plan = Plan.make(Config.make("cifar10", "ls", ensemble_size=2))
            >>> plan.vanilla_folder
            PosixPath('runs/cifar10-vanilla-0')
            >>> [member.seed for member in plan.members]
            [0, 1]
        """
        adversarial = config.adversarial_training
        method = METHODS[config.method]
        own_splits = _with_selection(splits or {}, config.selection_examples)
        if method.by_robustness:
            _check_levels(own_splits, config.num_levels or 1)
        return cls(
            config=config,
            method=method,
            adversarial=METHODS[adversarial] if adversarial else None,
            recipe=recipe_of(config.dataset, config.image_size),
            vanilla=config.vanilla(),
            members=tuple(config.members()) if config.ensemble_size > 1 else (),
            loaded=splits or {},
            splits=own_splits,
        )

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.config.output_dir)

    @property
    def vanilla_folder(self) -> Path:
        """The run directory of the vanilla model."""
        return Path(self.vanilla.output_dir)

    @property
    def model_folders(self) -> list[Path]:
        """Where the models lie: in the run directory itself, or in the members'."""
        return [Path(member.output_dir) for member in self.members] or [self.folder]

    @property
    def seeds(self) -> list[int]:
        """The seed of each model."""
        return [member.seed for member in self.members] or [self.config.seed]


def _with_selection(splits: Mapping[str, "Split"], count: int) -> Mapping[str, "Split"]:
    """Move the first `count` validation images into a split of their own."""
    if not count or "validation" not in splits:
        return splits
    available = len(splits["validation"])
    if count >= available:
        raise InputError(
            f"--selection_examples must be below the {available} validation images; "
            f"received {count}; give a smaller number"
        )
    selection, validation = splits["validation"].divided(count)
    return {**splits, "selection": selection, "validation": validation}


def _check_levels(splits: Mapping[str, "Split"], num_levels: int) -> None:
    """Refuse levels that would be empty, before anything is trained or attacked."""
    for name in ("train", "validation"):
        if name in splits and num_levels > len(splits[name]):
            raise InputError(
                f"--num_levels must be at most the {len(splits[name])} {name} images; "
                f"received {num_levels}; take fewer levels or more images"
            )
