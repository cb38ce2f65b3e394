"""What an evaluation is asked to measure beside the clean test images."""

from collections.abc import Sequence
from dataclasses import dataclass

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.corruptions.apply import SEVERITIES
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.subject import Subject


@dataclass(frozen=True)
class Wanted:
    """What is to be measured beside the clean test set; see `evaluate`."""

    shift: bool
    ood: Sequence[str]
    attacks: Sequence[str]
    footprint: bool
    posthoc: Sequence[str]
    certifying: Certifying | None

    @property
    def folders(self) -> list[str]:
        """Kinds of predictions whose stored settings must be readable."""
        kinds = {"shift": self.shift, "ood": self.ood, "attacked": self.attacks}
        kinds["certified"] = self.certifying
        return [kind for kind, wanted in kinds.items() if wanted]

    def check_served(self, subject: Subject) -> None:
        """Refuse what cannot be measured of a model that has no gradient.

        Raises:
            InputError: If something of the kind is wanted.
        """
        by_gradient = [a for a in self.attacks if BOUNDED_ATTACKS[a].needs_gradient]
        flags = {
            "--attacks": by_gradient,
            "--footprint": self.footprint,
            "--posthoc": self.posthoc,
            "--certify_attack": self.certifying and self.certifying.attack,
        }
        if refused := [flag for flag, wanted in flags.items() if wanted]:
            raise InputError(
                f"{subject.path} is for inference alone, so {', '.join(refused)} "
                "cannot be measured; give the .keras file, or leave that out"
                + " (--attacks=square needs no gradient)"
                * bool(by_gradient)
            )


def parse_severities(values: Sequence[int | str]) -> list[int]:
    """Return severities of corruptions as numbers, each once.

    Raises:
        InputError: If one is none, or if there are none.

    Example:
        >>> parse_severities(["1", "3"])
        [1, 3]
    """
    try:
        found = list(dict.fromkeys(int(value) for value in values))
    except ValueError:
        found = []
    if not found or not set(found) <= set(SEVERITIES):
        raise InputError(
            "--severities must be among 1, 2, 3, 4 and 5; received "
            f"{','.join(map(str, values)) or 'none'}; such as --severities=1,3,5"
        )
    return found
