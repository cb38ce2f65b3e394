"""Settings of a run that cannot go together."""

from ar_adals_tf.bounds import SEEDS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment import completion, start
from ar_adals_tf.experiment.settings import Settings


def check(config: Settings) -> None:
    """Refuse settings that cannot go together.

    Raises:
        InputError: Naming the settings and which of them to leave out.
    """
    start.check(vars(config))
    if config.kind.joint and config.ensemble_size < 2:
        raise InputError(
            f"--ensemble_size must be at least 2; received {config.ensemble_size}"
        )
    if config.seed + config.ensemble_size - 1 > SEEDS.most:
        raise InputError(
            f"the seeds of {config.ensemble_size} members count up from --seed, to "
            f"at most {SEEDS.most}; received {config.seed}; give a smaller one"
        )
    if config.validation_examples == 0 and config.kind.learns:
        raise InputError(
            f"--method={config.method} learns {config.kind.learns} from validation "
            "images, so --validation_examples=0 cannot be; leave it out"
        )
    if config.own_levels and config.vanilla_dir:
        raise InputError(
            "with --vanilla=none there is no vanilla model; received --vanilla_dir="
            f"{config.vanilla_dir} as well; leave out one of them"
        )
    if config.own_levels and config.kind.joint:
        raise InputError(
            "with --vanilla=none a model ranks by its own distances; the members "
            f"of --method={config.method} have common levels: leave it out"
        )
    if not config.refresh_epochs:
        return
    if not config.kind.by_robustness or config.kind.joint:
        raise InputError(
            f"--refresh_epochs attacks the one model that is trained by its own "
            f"robustness levels; --method={config.method} has none such: leave it out"
        )
    if config.levels_from not in ("robustness", completion.OWN):
        raise InputError(
            "--refresh_epochs means --levels_from=robustness; received "
            f"{config.levels_from!r}; leave one of them out"
        )
    if not 1 <= config.refresh_epochs[0] <= config.refresh_epochs[-1] < config.epochs:
        raise InputError(
            f"--refresh_epochs must lie between 1 and {config.epochs - 1}, the last "
            f"epoch counted from 0; received {config.refresh_epochs}"
        )
