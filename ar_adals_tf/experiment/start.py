"""What a run's model starts from: a network of a name, or a model of one's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ar_adals_tf.bounds import Range
from ar_adals_tf.digests import digest_file
from ar_adals_tf.errors import InputError
from ar_adals_tf.models.variants import ATTENTIONS, NORMS

#: The value of `--model_range` that means the numbers as the data have them.
OF_DATA = "data"

#: Settings that mean nothing to a model as it is given.
OF_TRAINING = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "augmentation",
    "dropout",
)

#: Settings of a network of a name, and what each is where it is left out.
_OF_NAMES = {
    "weights_file": None,
    "dropout": 0,
    "norm": NORMS[0],
    "attention": ATTENTIONS[0],
    "mixed_precision": "none",
}


def is_file(model: str) -> bool:
    """Tell whether `--model` names a file and not a network.

    Example:
        >>> is_file("photos/my.keras"), is_file("MobileNetV2")
        (True, False)
    """
    return model.endswith(".keras")


def model_range(
    text: str | None, low: Sequence[float] = (), high: Sequence[float] = ()
) -> Range:
    """Return the range of inputs that a text such as `0,255` names.

    Args:
        text: Two numbers, or `data`: the numbers as the data have them.
        low: What became 0 in the data, a number or one for each column of a table.
            Defaults to the 0 of 8-bit pictures.
        high: What became 1. Defaults to their 255.

    Raises:
        InputError: If it names none.

    Example:
        >>> model_range("-1,1"), model_range(None)
        ((-1.0, 1.0), (0.0, 1.0))
        >>> model_range("data", low=(2, 0), high=(3, 9))
        ((2, 0), (3, 9))
    """
    if text == OF_DATA:
        if len(low) > 1:
            return tuple(low), tuple(high)
        return (low[0], high[0]) if low else (0.0, 255.0)
    try:
        least, most = (float(part) for part in (text or "0,1").split(","))
    except ValueError:
        least, most = 0.0, 0.0
    if not -float("inf") < least < most < float("inf"):
        raise InputError(
            "--model_range must be two numbers such as 0,255, the smaller one first, "
            f"or data; received {text!r}"
        )
    return least, most


def complete(values: dict[str, Any], changed: bool) -> None:
    """Check the name of the network, and find out the digest of a file, in place.

    Args:
        values: The value of every field of `Config`.
        changed: Whether the network is another one than the recipe's.

    Raises:
        InputError: If there is no such network, variant of it, or file.
    """
    model, weights = values["model"], values["weights_file"]
    if changed and not is_file(model):
        _check_name(model)
    if not is_file(model):
        _check_variant(model, values["norm"], values["attention"])
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


def _check_variant(model: str, norm: str, attention: str) -> None:
    if (norm, attention) != (NORMS[0], ATTENTIONS[0]):
        from ar_adals_tf.models import check_variant

        check_variant(model, norm, attention)


def _digest(path: str, what: str, other: str) -> str:
    if not Path(path).is_file():
        raise InputError(f"there is no {what} {path}; give {other}")
    return digest_file(path)[:16]


def check(settings: Mapping[str, Any]) -> None:
    """Refuse settings that a model cannot have.

    Args:
        settings: The value of every field of `Config`.

    Raises:
        InputError: If there are some. The sentence names the first one.
    """
    model, finetune = settings["model"], settings["finetune"]
    model_range(settings["model_range"])
    as_given = finetune and settings["method"] == "vanilla" and not settings["epochs"]
    if not settings["epochs"] and not as_given:
        raise InputError("--epochs must be at least 1; received 0")
    if not is_file(model):
        if finetune:
            raise InputError(
                "--finetune calibrates the trained model of a .keras file; received "
                f"--model={model}; give --model=my.keras"
            )
        if settings["model_range"] is not None:
            raise InputError(
                f"--model_range is for a .keras file; {model} takes [0, 1]; leave it "
                "out"
            )
        return
    for name, none in _OF_NAMES.items():
        if settings[name] != none:
            raise InputError(
                f"--{name} is for a network of a name; the model of {model} has its "
                "own: leave it out"
            )
    if as_given and settings["noise_sigma"]:
        raise InputError(
            f"--noise_sigma is for training, and {model} stays as it is; leave it out"
        )
    if as_given and settings["ensemble_size"] > 1:
        raise InputError(
            f"an ensemble of {model} as it is would have equal members; leave "
            "--ensemble_size out"
        )


def words(setting: str) -> str:
    """Return what people call a setting that is compared.

    Example:
        >>> words("epochs")
        'epochs'
    """
    return "the digest of the model's file" if setting == "model_digest" else setting
