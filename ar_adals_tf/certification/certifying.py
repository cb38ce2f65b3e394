"""How to certify: what `evaluate --certify` and a study can ask for."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ar_adals_tf.bounds import Bound
from ar_adals_tf.certification.radius import largest_radius, parse_sigmas
from ar_adals_tf.errors import InputError

_COUNT = Bound(least=1, most=10_000_000)

#: The flags of `evaluate`, by what they set.
NAMES = {
    "sigma": "--sigma",
    "selection_samples": "--certify_selection_samples",
    "samples": "--certify_samples",
    "alpha": "--certify_alpha",
    "images": "--certify_images",
    "attack": "--certify_attack",
}

_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "sigma": lambda text: text.split(","),
    "selection_samples": int,
    "samples": int,
    "alpha": float,
    "images": int,
    "attack": lambda text: text == "true",
}


@dataclass(frozen=True)
class Certifying:
    """How to certify.

    Attributes:
        sigmas: Standard deviations of the noise, in the unit of inputs in [0, 1].
        selection_samples: Noisy copies of an image that choose its class.
        samples: Further ones, whose votes bound the class's probability.
        alpha: The chance, at most, that a certificate is wrong.
        images: How many test images are certified at most, at equal steps.
        attack: Whether to attack the smoothed classifier as well.
    """

    sigmas: Sequence[float] = (0.25,)
    selection_samples: int = 100
    samples: int = 1000
    alpha: float = 0.001
    images: int = 500
    attack: bool = False

    @classmethod
    def from_texts(cls, flags: Mapping[str, str]) -> "Certifying | None":
        """Return what flags of `evaluate`, as texts by their names, ask for.

        Raises:
            InputError: See `make`.

        Example:
            >>> Certifying.from_texts({"certify": "true", "sigma": "0.25,0.5"}).sigmas
            (0.25, 0.5)
        """
        given: dict[str, Any] = {}
        for name, flag in NAMES.items():
            if text := flags.get(flag.removeprefix("--")):
                given[name] = _FROM_TEXT[name](text)
        return cls.make(flags.get("certify") == "true", **given)

    @classmethod
    def make(cls, wanted: bool, **given: Any) -> "Certifying | None":
        """Check the values of the flags; None means that one was not given.

        Args:
            wanted: Whether to certify at all.
            **given: `sigma` and the attributes after the first.

        Raises:
            InputError: On numbers that cannot be used, or on any if none is wanted.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if not wanted:
            if flags := [NAMES[name] for name, value in given.items() if value]:
                raise InputError(f"{flags[0]} is for --certify; give both, or neither")
            return None
        sigma = given.pop("sigma", None)
        if sigma is not None:
            several = [sigma] if isinstance(sigma, (int, float, str)) else sigma
            given["sigmas"] = tuple(parse_sigmas(several))
        found = cls(**given)
        found._check()
        return found

    def _check(self) -> None:
        for name in ("selection_samples", "samples", "images"):
            if not _COUNT.allows(value := getattr(self, name)):
                needs = _COUNT.needs(value)
                raise InputError(f"{NAMES[name]} must be {needs}; received {value}")
        if self.samples < self.selection_samples:
            raise InputError(
                f"{NAMES['samples']} must be at least "
                f"{NAMES['selection_samples']}, {self.selection_samples}; received "
                f"{self.samples}; give more of the former"
            )
        if not 0 < self.alpha < 0.5:
            raise InputError(
                f"{NAMES['alpha']} must be above 0 and below 0.5; received "
                f"{self.alpha:g}"
            )
        if not largest_radius(1.0, self.samples, self.alpha):
            enough = math.floor(math.log(self.alpha, 0.5)) + 1
            raise InputError(
                f"{self.samples} votes certify nothing at --certify_alpha="
                f"{self.alpha:g}, even if all agree; give --certify_samples="
                f"{enough} or more"
            )
