"""What a run is called: on disk and by people."""

from pathlib import Path

from ar_adals_tf.datasets import own
from ar_adals_tf.experiment import completion
from ar_adals_tf.experiment.settings import Settings
from ar_adals_tf.methods.table import METHODS


def folder_name(config: Settings) -> str:
    """Return what the run is called on disk, such as `cifar10-ar_adals-0`."""
    parts = [own.short_name(config.dataset), config.method]
    if config.finetune:
        parts.insert(1, Path(config.model).stem)
    if config.as_given:
        return "-".join([*parts[:2], "as_given"])
    if config.own_levels:
        parts.append("own_levels")
    elif config.levels_from not in (None, "robustness"):
        parts.append(f"by_{config.levels_from}")
    if config.adversarial_training not in (None, config.method):
        parts.append(str(config.adversarial_training))
    if config.noise_sigma:
        parts.append(f"noise{config.noise_sigma:g}")
    if config.refresh_epochs and not config.own_levels:
        parts.append("on_the_fly")
    if config.ensemble_size > 1 and not config.kind.joint:
        parts.append(f"ensemble{config.ensemble_size}")
    return "-".join([*parts, str(config.seed)])


def vanilla_name(dataset: str) -> str:
    """Return what a dataset's vanilla run is called, where nothing else is said.

    Example:
        >>> vanilla_name("cifar10")
        'cifar10-vanilla-0'
    """
    return f"{own.short_name(dataset)}-vanilla-0"


def member_name(number: int) -> str:
    """Return what the folder of an ensemble's member is called.

    Example:
        >>> member_name(0)
        'member_0'
    """
    return f"member_{number}"


def title(config: Settings) -> str:
    """Return what people call the run."""
    if config.as_given:
        return f"{Path(config.model).name}, as given"
    title = config.kind.title + completion.LEVELS_FROM.get(str(config.levels_from), "")
    if config.refresh_epochs and not config.own_levels:
        title += " on-the-fly"
    if config.adversarial_training not in (None, config.method):
        title += f" + {METHODS[str(config.adversarial_training)].title}"
    if config.noise_sigma:
        title += f" + noise {config.noise_sigma:g}"
    if config.ensemble_size > 1 and not config.kind.joint:
        title = f"Ensemble of {title}"
    if config.finetune:
        title += f", fine-tuned from {Path(config.model).name}"
    return title
