"""What a run's model starts from: a network of a name, or a model of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ar_adals_tf.digests import digest_file
from ar_adals_tf.errors import InputError

if TYPE_CHECKING:
    from ar_adals_tf.experiment.config import Config

#: Settings that mean nothing to a model as it is given.
OF_TRAINING = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "augmentation",
    "dropout",
)


def is_file(model: str) -> bool:
    """Tell whether `--model` names a file and not a network.

    Example:
        >>> is_file("photos/my.keras"), is_file("MobileNetV2")
        (True, False)
    """
    return model.endswith(".keras")


def input_range(text: str | None) -> tuple[float, float]:
    """Return the range of inputs that a text such as `0,255` names.

    Raises:
        InputError: If it names none.

    Example:
        >>> input_range("-1,1"), input_range(None)
        ((-1.0, 1.0), (0.0, 1.0))
    """
    try:
        low, high = (float(part) for part in (text or "0,1").split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -float("inf") < low < high < float("inf"):
        raise InputError(
            "--input_range must be two numbers such as 0,255, the smaller one first; "
            f"received {text!r}"
        )
    return low, high


def complete(values: dict[str, Any], changed: bool) -> None:
    """Check the name of the network, and find out the digest of a file, in place.

    Args:
        values: The value of every field of `Config`.
        changed: Whether the network is another one than the recipe's.

    Raises:
        InputError: If there is no such network or file.
    """
    model, weights = values["model"], values["weights_file"]
    if changed and not is_file(model):
        _check_name(model)
    if values["model_digest"] is not None:
        return
    if is_file(model):
        values["model_digest"] = _digest(model, "model file", "a .keras file")
    elif weights:
        values["model_digest"] = _digest(weights, "file of weights", "another one")


def _check_name(model: str) -> None:
    from ar_adals_tf.models import MODELS, application_names

    if model not in MODELS and model not in application_names():
        raise InputError(
            f"--model must be one of {', '.join(MODELS)}, the name of a network of "
            "keras.applications such as MobileNetV2, or a .keras file; received "
            f"{model!r}"
        )


def _digest(path: str, what: str, other: str) -> str:
    if not Path(path).is_file():
        raise InputError(f"there is no {what} {path}; give {other}")
    return digest_file(path)[:16]


def check(config: "Config") -> None:
    """Refuse settings that a model cannot have.

    Raises:
        InputError: If there are some. The sentence names the first one.
    """
    input_range(config.input_range)
    if config.epochs == 0 and not (config.finetune and config.method == "vanilla"):
        raise InputError("--epochs must be at least 1; received 0")
    if not is_file(config.model):
        if config.finetune:
            raise InputError(
                "--finetune calibrates the trained model of a .keras file; received "
                f"--model={config.model}; give --model=my.keras"
            )
        if config.input_range is not None:
            raise InputError(
                f"--input_range is for a .keras file; {config.model} takes [0, 1]; "
                "leave it out"
            )
        return
    for name, value, none in (
        ("weights_file", config.weights_file, None),
        ("dropout", config.dropout, 0),
        ("mixed_precision", config.mixed_precision, "none"),
    ):
        if value != none:
            raise InputError(
                f"--{name} is for a network of a name; the model of {config.model} has "
                "its own: leave it out"
            )
    if config.as_given and config.ensemble_size > 1:
        raise InputError(
            f"an ensemble of {config.model} as it is would have equal members; leave "
            "--ensemble_size out"
        )


def words(setting: str) -> str:
    """Return what people call a setting that is compared.

    Example:
        >>> words("epochs")
        'epochs'
    """
    return "the digest of the model's file" if setting == "model_digest" else setting
