"""What an evaluation is asked to measure beside the clean test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.corruptions.apply import CORRUPTIONS, GREY, SEVERITIES, STANDARD
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo
from ar_adals_tf.errors import InputError

if TYPE_CHECKING:
    from ar_adals_tf.evaluation.subject import Subject

#: The types of the paper's means: 19, 17 and 15 of them.
PAPER_TYPES: dict[str, tuple[str, ...]] = {
    "cifar10": CORRUPTIONS,
    "cifar100": tuple(n for n in CORRUPTIONS if n not in ("motion_blur", "snow")),
    "imagenet2012": STANDARD,
}


#: Calibrations fitted to validation images, as `evaluate --posthoc` names them.
POSTHOC = ("temperature", "vector", "margin", "by_level")


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

    def check_served(self, subject: "Subject") -> None:
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


def types_of(dataset: str, info: DatasetInfo | None = None) -> tuple[str, ...]:
    """Return the corruptions that a dataset is evaluated on.

    The paper's datasets have those of `PAPER_TYPES`. Other datasets have all 19, or the
    18 that change something if their images have one channel.

    Args:
        dataset: The dataset's name.
        info: What it is. Defaults to the entry of `DATASETS`.

    Example:
        >>> len(types_of("cifar100")), "snow" in types_of("cifar100")
        (17, False)
    """
    info = info or DATASETS[dataset]
    return PAPER_TYPES.get(dataset, CORRUPTIONS if info.image_shape[-1] > 1 else GREY)


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
