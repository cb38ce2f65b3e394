"""What an evaluation is asked to measure beside the clean test images."""

import inspect
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

#: Flags that mean nothing without another one: of the first of these, or of the rest.
#: Those of `--certify` are checked in `Certifying.make`.
_OF_MEASURES = {
    "shift_types": ("shift",),
    "severities": ("shift",),
    "shift_source": ("shift",),
    "shift_cache_dir": ("shift", "posthoc"),
    "epsilons": ("attacks",),
    "attack_norm": ("attacks",),
}

#: The same of what is evaluated: a model's file, a run, or predictions.
_OF_SUBJECTS = {
    **dict.fromkeys(("output_dir", "title", "dataset"), ("model_file", "predictions")),
    "split_seed": ("model_file",),
    "validation_examples": ("model_file",),
    "validation": ("model_file",),
    "image_size": ("model_file",),
    "input_range": ("model_file",),
    "split_names": ("model_file",),
    "model_range": ("model_file",),
    "data_dir": ("model_file", "run_dir"),
    "limit_examples": ("model_file", "run_dir"),
    "robustness_index": ("model_file", "run_dir"),
    "shift": ("model_file", "run_dir"),
    "ood": ("model_file", "run_dir"),
    "attacks": ("model_file", "run_dir"),
    "footprint": ("model_file", "run_dir"),
    "posthoc": ("model_file", "run_dir"),
    "certify": ("model_file", "run_dir"),
}


def given_arguments(
    function: Callable[..., Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a function that are not its defaults.

    A default that was given all the same cannot be told; `command_line.given` can.

    Args:
        function: The function.
        values: All its arguments by name.

    Example:
        >>> given_arguments(sorted, {"iterable": [2], "key": None, "reverse": False})
        {'iterable': [2]}
    """
    parameters = inspect.signature(function).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return {
        name: value
        for name, value in values.items()
        if value is not defaults[name] and not _same(value, defaults[name])
    }


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(default, tuple):
        return tuple(value) == default
    return isinstance(value, (str, int)) and value == default


def refuse_idle_measures(given: Mapping[str, Any]) -> None:
    """Refuse flags that say how to measure what is not measured.

    Args:
        given: The flags that were given, by name; others than these are ignored.

    Raises:
        InputError: If there is one.

    Example:
        >>> refuse_idle_measures({"severities": ["3"], "shift": False})
        Traceback (most recent call last):
        ar_adals_tf.errors.InputError: --severities is for --shift; give both, or \
neither
    """
    if idle := _idle(given, _OF_MEASURES):
        raise InputError(
            f"--{idle[0]} is for --{_OF_MEASURES[idle[0]][0]}; give both, or neither"
        )


def check_flags(given: Mapping[str, Any]) -> None:
    """Refuse flags of `evaluate` that mean nothing beside the others.

    Args:
        given: The flags that were given, by name.

    Raises:
        InputError: If there are any, or if not one names what is evaluated.

    Example:
        >>> check_flags({"run_dir": "runs/a", "limit_examples": 9})
        >>> check_flags({"run_dir": "runs/a", "title": "A"})
        Traceback (most recent call last):
        ar_adals_tf.errors.InputError: --title is for --model_file; what --run_dir \
names has its own: leave it out
    """
    subjects = ("run_dir", "model_file", "predictions")
    named = [f"--{name}" for name in subjects if _is_given(given.get(name))]
    if len(named) != 1:
        raise InputError(
            "evaluate needs one of --run_dir=RUN, --model_file=FILE.keras and "
            f"--predictions=FILE.npz; received {' and '.join(named) or 'none of them'}"
        )
    idle = ", ".join(f"--{name}" for name in _idle(given, _OF_SUBJECTS))
    if idle and named == ["--predictions"]:
        raise InputError(
            f"--predictions has no model and no inputs; leave out {idle}, or give the "
            "model as --model_file"
        )
    if idle:
        raise InputError(
            f"{idle} is for --model_file; what --run_dir names has its own: leave it "
            "out"
        )
    refuse_idle_measures(given)


def _idle(given: Mapping[str, Any], owners: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the flags that were given, and none of their owners."""
    there = {name for name, value in given.items() if _is_given(value)}
    return [
        name
        for name in given
        if name in there and name in owners and not there & set(owners[name])
    ]


def _is_given(value: Any) -> bool:
    """Tell whether a flag's value asks for something: not None, False or empty."""
    if isinstance(value, Sized):
        return len(value) > 0
    return value is not None and value is not False


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
