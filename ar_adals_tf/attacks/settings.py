"""The settings that all attacks share, and the check of a setting."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ar_adals_tf.attacks.program import Estimate, Logits, Program
from ar_adals_tf.errors import InputError

_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """What every attack can be told; each attack's own class adds its settings.

    Attributes:
        batch_size: How many images are attacked at once; None: chosen for the model
            and the device.
        from_logits: Whether the model returns logits; None: see
            `ar_adals_tf.outputs.is_softmax`.
        keep_adversarial: Whether to return the adversarial images. Without them the
            memory holds one array less of the images' size.
        compute_dtype: `bfloat16`: the network's inner layers compute in it under
            attack; distances and the final flip are the model's own. `float32`: all is
            as the model's layers say.

    Raises:
        InputError: On a value of the wrong kind or size.
    """

    title: ClassVar[str]

    batch_size: int | None = None
    from_logits: bool | None = None
    keep_adversarial: bool = True
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_setting(field.name, field.default, getattr(self, field.name))

    def program(self, logits: Logits, shape: tuple[int, ...]) -> Program | Estimate:
        """Return the attack on a batch, before compilation.

        Args:
            logits: From images `(B, *shape)` to logits `(B, Z)`.
            shape: Of one image.
        """
        raise NotImplementedError

    def passes(self, num_classes: int) -> int:
        """Return the forward-backward passes that an image costs at most.

        Steps beyond those asked for, which only images not found yet take, do not
        count.
        """
        raise NotImplementedError


def _check_setting(name: str, default: Any, value: Any) -> None:
    """Refuse a value that is not of its default's kind; numbers must be positive."""
    if default is None and value is None:
        return
    if name == "compute_dtype":
        needs, fits = " or ".join(_DTYPES), value in _DTYPES
    elif name == "from_logits" or isinstance(default, bool):
        needs, fits = "True or False", isinstance(value, (bool, np.bool_))
    elif isinstance(default, float):
        number = isinstance(value, (int, float, np.number)) and value is not True
        needs, fits = "a positive number", number and 0 < value < math.inf
    else:
        least = 0 if name.startswith("extra_") else 1
        number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        needs, fits = f"a whole number from {least} on", number and value >= least
    if not fits:
        raise InputError(f"{name} must be {needs}; received {value!r}")
