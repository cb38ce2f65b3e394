"""Settings where no recipe of the paper says them: alpha, R, the attack, when to rank.

All but the attack follow from the size of the training; the paper's are for 200 epochs.
BUILD_NOTES.md has the measurements behind the numbers.
"""

from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.whole_numbers import whole_number

#: What alpha times the epochs is, and the largest alpha.
ALPHA_TIMES_EPOCHS, MOST_ALPHA = 5.0, 0.5

#: How a vanilla model is attacked to rank the examples: faster than the paper's CW-L2,
#: and its distances are shorter.
AUTO_ATTACK = "ddn"

#: The number of levels of the paper, and the validation examples that keep the gap of
#: each from being mostly chance.
MOST_LEVELS, LEAST_EXAMPLES = 10, 50

#: The first ranking comes before this epoch, counted from 0, and then one before every
#: tenth epoch. A ranking by `margin` costs half an epoch to a whole one.
FIRST_RANKING, RANKING_EVERY = 4, 10


def auto_alpha(epochs: int) -> float:
    """Return a learning rate of the smoothing for a training of some epochs.

    p moves once an epoch, so how far it gets depends on alpha times the epochs. That is
    5 here, between the paper's 1 (AR-AdaLS) and 10 (AdaLS) on CIFAR-10. In a short
    training alpha stays at 0.5: a larger one moves p before the model has answered to
    the last move, and p swings.

    Args:
        epochs: Number of epochs, at least 1.

    Raises:
        InputError: If there is no epoch.

    Example:
        >>> auto_alpha(200), auto_alpha(20), auto_alpha(5)
        (0.025, 0.25, 0.5)
    """
    epochs = whole_number("epochs", epochs)
    return min(MOST_ALPHA, ALPHA_TIMES_EPOCHS / epochs)


def auto_num_levels(num_validation: int) -> int:
    """Return a number of levels R for a validation set of some size.

    It is at most 10. Each level has at least 50 validation examples, so that the
    standard error of its accuracy is at most 0.07. Where there are fewer than 100,
    there is one level for all, which is AdaLS.

    Args:
        num_validation: Number of validation examples, at least 1.

    Raises:
        InputError: If there is no validation example.

    Example:
        >>> auto_num_levels(5000), auto_num_levels(320), auto_num_levels(60)
        (10, 6, 1)
    """
    num_validation = whole_number("num_validation", num_validation)
    return max(1, min(MOST_LEVELS, num_validation // LEAST_EXAMPLES))


def auto_refresh(epochs: int) -> list[int]:
    """Return the epochs before which a model in training ranks its examples.

    The first is epoch 4, counted from 0, or the middle of a shorter training. Then
    comes every tenth. None comes so late that few epochs would profit.

    Args:
        epochs: Number of epochs, at least 1. A single one leaves no room to rank.

    Raises:
        InputError: If there is no epoch.

    Example:
        >>> auto_refresh(40), auto_refresh(20), auto_refresh(3), auto_refresh(1)
        ([4, 14, 24, 34], [4, 14], [1], [])
    """
    epochs = whole_number("epochs", epochs)
    first = min(FIRST_RANKING, epochs // 2)
    return list(range(first, epochs - first + 1, RANKING_EVERY)) if first else []


def rankings(every: int | str, epochs: int) -> list[int]:
    """Return the epochs before which a model ranks its examples, as a user asks for.

    Args:
        every: N for the epochs N, 2 N, ..., or `auto`.
        epochs: Number of epochs of the training.

    Raises:
        InputError: If nothing would ever be ranked.

    Example:
        >>> rankings(5, 20), rankings("auto", 20)
        ([5, 10, 15], [4, 14])
    """
    if every == "auto":
        return auto_refresh(epochs)
    check_every(every)
    if int(every) >= epochs:
        raise InputError(
            f"refresh_every must be below the {epochs} epochs, or nothing is ranked; "
            f"received {every}; give a smaller number, or 'auto'"
        )
    return list(range(int(every), epochs, int(every)))


def check_every(every: Any) -> None:
    """Refuse what says no time to rank: it is neither a number of epochs nor `auto`."""
    if not (isinstance(every, str) and every == "auto"):
        whole_number("refresh_every", every, hint="give a number of epochs, or 'auto'")
