"""The settings of every attack, each declared once: type, default, help and bounds.

Flags, checks and printed commands follow from the fields below. A field's `metadata`
may hold these keys:

    help        what the setting does, one sentence
    least       the smallest whole number that is allowed
    above       a number that the setting must exceed
    choices     the values that are allowed
    flag        the command-line flag that sets it; attacks may share a flag
    decides     False: the setting changes how an attack runs, not what it finds

This module loads no TensorFlow. An attack's program is imported when it is used.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np

from ar_adals_tf.attacks.box import DataBounds, check_mask, check_pair
from ar_adals_tf.errors import InputError
from ar_adals_tf.lazy import load

if TYPE_CHECKING:
    from ar_adals_tf.attacks.program import Estimate, Logits, Program


#: What no setting exceeds, so that counters and float32 hold it.
MOST_STEPS, MOST = 1_000_000, 1e30

ADAM_EPSILON = 1e-8
"""Epsilon of CW-L2's Adam: TensorFlow 1's, with which the paper's code ran."""


def setting(
    default: Any,
    help: str,
    *,
    least: int | None = None,
    above: float | None = None,
    choices: Sequence[Any] | None = None,
    flag: str | None = None,
    decides: bool = True,
) -> Any:
    """Declare a field of a settings class; see the module for the arguments."""
    given = {"least": least, "above": above, "choices": choices, "flag": flag}
    given = {name: value for name, value in given.items() if value is not None}
    metadata = {"help": help, "decides": decides, **given}
    return dataclasses.field(default=default, metadata=metadata)


def _top_k() -> Any:
    """Declare the field that all attacks by linearisation have."""
    return setting(
        None,
        "How many rival classes are looked at, those with the largest logits after the "
        "predicted class; the default is all.",
        least=1,
        flag="attack_top_k",
    )


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """The settings that all attacks share. Each attack's own class adds more.

    Raises:
        InputError: If a value has the wrong type or is out of its bounds.
    """

    PROGRAM: ClassVar[str]

    #: Whether it can attack inputs without bounds.
    UNBOUNDED: ClassVar[bool] = True
    RUNNER: ClassVar[str] = "ar_adals_tf.attacks.search:SearchRunner"

    #: What is no setting but decides too, and was another in an earlier version.
    FIXED: ClassVar[Mapping[str, Any]] = {}

    batch_size: int | None = setting(
        None,
        "How many images are attacked at once; the default suits model and device.",
        least=1,
        flag="attack_batch_size",
        decides=False,
    )
    from_logits: bool | None = setting(
        None,
        "Whether the model returns logits; the default finds out from the model.",
        flag="attack_from_logits",
        decides=False,
    )
    keep_adversarial: bool = setting(
        True,
        "Whether to return the adversarial images, one more array of the images' size.",
        decides=False,
    )
    bounds: Any = setting(
        (0.0, 1.0),
        "Where inputs may lie: (low, high), two numbers or two arrays of the input's "
        "shape, data_bounds(x_train), or None for no bounds, which only margin, ddn "
        "and deepfool know, and which is the default with at=. Distances are in the "
        "unit of the inputs.",
        decides=False,
    )
    at: str | None = setting(
        None,
        "The layer whose output is moved in the place of the input.",
        decides=False,
    )
    attack_input: str | None = setting(
        None,
        "Which one of several inputs is moved; the others are held.",
        decides=False,
    )
    mask: Any = setting(
        None,
        "What must stay as it is: booleans, True for the values of an example that no "
        "attack may move, broadcast against one example.",
        decides=False,
    )
    compute_dtype: str = setting(
        "float32",
        "Number format in which the network's inner layers compute under attack. "
        "bfloat16 is faster on accelerators; distances and the final flip are still "
        "the model's own.",
        choices=("float32", "bfloat16"),
        flag="attack_dtype",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name not in ("bounds", "mask"):
                check_setting(field, getattr(self, field.name))
        check_pair(self.bounds)
        if self.mask is not None:
            check_mask(self.mask)
        elsewhere = self.at is not None or self.attack_input is not None
        if elsewhere and self.compute_dtype != "float32":
            raise InputError(
                "compute_dtype='bfloat16' is for models whose one input is moved; "
                "leave it out with at= or attack_input="
            )
        if self.bounds is None and not self.UNBOUNDED:
            raise InputError(
                "this attack works in tanh space and needs bounds; received None; give "
                "bounds=(low, high), or take margin, ddn or deepfool"
            )

    @property
    def lenient(self) -> bool:
        """Whether inputs may lie outside of the bounds, which are other data's."""
        return isinstance(self.bounds, DataBounds)

    def program(
        self, logits: "Logits", shape: tuple[int, ...], width: Any = 1.0
    ) -> "Program | Estimate":
        """Return the attack on a batch, before compilation.

        `logits` maps images `(B, *shape)` to logits `(B, Z)`. The images lie between 0
        and `width`, a number or `(D,)`; None is for images without bounds.
        """
        return load(self.PROGRAM)(self, logits, shape, width)

    def passes(self, num_classes: int) -> int:
        """Return the forward-backward passes that an image costs at most.

        Extra steps, which only images not found yet take, do not count.
        """
        raise NotImplementedError

    def deciding(self) -> dict[str, Any]:
        """Return what decides what is found: settings, defaults included, and `FIXED`.

        Example:
            >>> MarginSettings(batch_size=8).deciding()
            {'compute_dtype': 'float32', 'top_k': None}
        """
        return (
            {
                field.name: getattr(self, field.name)
                for field in dataclasses.fields(self)
                if field.metadata["decides"]
            }
            | dict(self.FIXED)
            | self._deciding_space()
        )

    def _deciding_space(self) -> dict[str, Any]:
        """Return what moves and how far, ready for JSON, unless it is the default."""
        space: dict[str, Any] = {"at": self.at, "attack_input": self.attack_input}
        if self.mask is not None:
            space["mask"] = np.asarray(self.mask).tolist()
        space = {name: value for name, value in space.items() if value is not None}
        if self.bounds is None:
            return {"bounds": None, **space}
        bounds = [np.asarray(end, np.float32).tolist() for end in self.bounds]
        return space if bounds == [0.0, 1.0] else {"bounds": bounds, **space}


def check_setting(field: dataclasses.Field, value: Any) -> None:
    """Raise an `InputError` if a value does not fit its field's type and bounds."""
    kinds = get_args(field.type) or (field.type,)
    bounds = field.metadata
    is_bool = isinstance(value, (bool, np.bool_))
    if "choices" in bounds:
        needs, fits = " or ".join(bounds["choices"]), value in bounds["choices"]
    elif str in kinds:
        needs, fits = "a name", isinstance(value, str)
    elif bool in kinds:
        needs, fits = "True or False", is_bool
    elif float in kinds:
        needs = f"a number above {bounds['above']:g} and below {MOST:g}"
        number = isinstance(value, (int, float, np.number)) and not is_bool
        fits = number and bounds["above"] < value < MOST
    else:
        needs = f"a whole number from {bounds['least']} on, up to {MOST_STEPS:,}"
        number = isinstance(value, (int, np.integer)) and not is_bool
        fits = number and bounds["least"] <= value <= MOST_STEPS
    fits |= value is None and NoneType in kinds
    if not fits:
        raise InputError(f"{field.name} must be {needs}; received {value!r}")


@dataclass(frozen=True, kw_only=True)
class CarliniWagnerSettings(AttackSettings):
    """CW-L2 (Carlini and Wagner, 2017), the paper's measure of robustness."""

    PROGRAM = "ar_adals_tf.attacks.carlini_wagner:CarliniWagner"
    UNBOUNDED = False
    FIXED = {"adam_epsilon": ADAM_EPSILON}  # Keras's 1e-7 in version 0.1.0

    iterations: int = setting(
        500, "Steps of Adam in each search step.", least=1, flag="attack_iterations"
    )
    search_steps: int = setting(
        3, "Binary search steps for the constant.", least=1, flag="attack_search_steps"
    )
    learning_rate: float = setting(
        0.005,
        "Adam's learning rate, in tanh space.",
        above=0,
        flag="attack_learning_rate",
    )
    initial_constant: float = setting(
        0.01,
        "The first constant, which weighs the flip against the distance.",
        above=0,
        flag="attack_initial_constant",
    )
    extra_steps: int = setting(
        6,
        "Further search steps for an image that the first ones did not flip, each "
        "with ten times the constant.",
        least=0,
        flag="attack_extra_steps",
    )
    early_stopping: bool = setting(
        True,
        "Whether an image's search step ends when it gains no more.",
        flag="attack_early_stopping",
    )

    def passes(self, num_classes: int) -> int:
        """See `AttackSettings`."""
        return self.iterations * self.search_steps


@dataclass(frozen=True, kw_only=True)
class CleverHansSettings(CarliniWagnerSettings):
    """CW-L2 by CleverHans, repaired: the slower, independent reference."""

    PROGRAM = "ar_adals_tf.attacks.cleverhans_reference:CleverHansProgram"


@dataclass(frozen=True, kw_only=True)
class DDNSettings(AttackSettings):
    """DDN (Rony et al., 2019): near CW-L2's distances in fewer passes."""

    PROGRAM = "ar_adals_tf.attacks.decoupled:DecoupledDirectionNorm"
    FIXED = {"raises": "log odds"}  # the cross-entropy in version 0.1.0

    steps: int = setting(100, "Gradient steps.", least=1, flag="attack_iterations")
    initial_norm: float = setting(
        1.0,
        "The first length of the perturbation, in [0, 1] pixels; without bounds, "
        "as a multiple of the image's linear estimate.",
        above=0,
        flag="attack_initial_norm",
    )
    gamma: float = setting(
        0.05,
        "The share by which the length changes after each step.",
        above=0,
        flag="attack_gamma",
    )
    extra_rounds: int = setting(
        2,
        "How often an image that no step flipped gets the same number of steps again.",
        least=0,
        flag="attack_extra_rounds",
    )

    def passes(self, num_classes: int) -> int:
        """See `AttackSettings`."""
        return self.steps


@dataclass(frozen=True, kw_only=True)
class MarginSettings(AttackSettings):
    """The smallest logit gap over the norm of its gradient, from one Jacobian.

    It estimates the distance and has no adversarial image.
    """

    PROGRAM = "ar_adals_tf.attacks.linearised:Margin"
    RUNNER = "ar_adals_tf.attacks.runner:EstimateRunner"

    top_k: int | None = _top_k()

    def passes(self, num_classes: int) -> int:
        """See `AttackSettings`."""
        return num_rivals(self.top_k, num_classes)


@dataclass(frozen=True, kw_only=True)
class DeepFoolSettings(AttackSettings):
    """DeepFool (Moosavi-Dezfooli et al., 2016), a few linearisations."""

    PROGRAM = "ar_adals_tf.attacks.linearised:DeepFool"

    steps: int = setting(10, "Linearisations.", least=1, flag="attack_iterations")
    extra_steps: int = setting(
        10,
        "Further linearisations for an image that is not flipped yet, each with twice "
        "the overshoot.",
        least=0,
        flag="attack_extra_steps",
    )
    overshoot: float = setting(
        0.005,
        "How far beyond the boundary to go, as a share of the way.",
        above=0,
        flag="attack_overshoot",
    )
    top_k: int | None = _top_k()

    def passes(self, num_classes: int) -> int:
        """See `AttackSettings`."""
        return (self.steps + 1) * num_rivals(self.top_k, num_classes)


def num_rivals(top_k: int | None, num_classes: int) -> int:
    """Return how many rival classes are looked at.

    Example:
        >>> num_rivals(None, 10), num_rivals(3, 10), num_rivals(20, 10)
        (9, 3, 9)
    """
    return min(top_k or num_classes - 1, num_classes - 1)
