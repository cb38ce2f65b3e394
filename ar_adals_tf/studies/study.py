"""A study: a named set of experiments, read from one file and checked.

The studies are the files of `flags/studies`. A file names the dataset, the seeds, how
every run is evaluated, and the methods. A method is a flagfile, the settings that
differ from it, and how its runs are made:

    like = "ar_adals"               the settings of another method, and its choice
    choose = { alpha = [0.1, 0.2] } chosen once, by validation images, as by `sweep`
    each = { num_levels = [1, 4] }  a run for each value
    members = "vanilla"             an ensemble of the runs of a method at all seeds
    seeds = [0]                     some of the study's seeds

Every other name in a method's table is a flag of `python -m ar_adals_tf.train`.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.bounds import SEEDS, Bound
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.corruptions.apply import CORRUPTIONS, SEVERITIES
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.wanted import refuse_idle_measures
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flagfiles import flags_folder, read_flagfile
from ar_adals_tf.experiment.flags import as_text, config_of_texts
from ar_adals_tf.forms.form import (
    Form,
    Misfit,
    list_of,
    mapping,
    number,
    record,
    text,
    truth,
    where,
)

#: The settings that validation images can choose; see `python -m ar_adals_tf.sweep`.
CHOSEN = ("alpha", "label_smoothing", "num_levels")

#: What does not go together in a method's table.
_APART = {
    "members": ("like", "flagfile", "choose", "each", "seeds"),
    "like": ("flagfile",),
}

#: Flags that a study sets by itself.
_ITS_OWN = ("seed", "output_dir", "vanilla_dir", "ensemble_size", "verbose")


@dataclass(frozen=True)
class Varied:
    """A setting and the values that it takes, as texts."""

    param: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """One method of a study, and the runs that are made of it.

    Attributes:
        name: Its name in the study, and in the folders of its runs.
        flags: Flags of `train`, as texts; all of them, the flagfile's included.
        own: Those of them that it does not share with the method that it is `like`.
        seeds: The seeds of its runs.
        choose: A setting that validation images choose among some values.
        choice_of: The method whose choice holds for this one; None if nothing is
            chosen.
        each: A setting of which every value is a run.
        members: The method whose runs are the members of this ensemble.
    """

    name: str
    flags: dict[str, str]
    own: dict[str, str]
    seeds: tuple[int, ...]
    choose: Varied | None = None
    choice_of: str | None = None
    each: Varied | None = None
    members: str | None = None

    def config(self, **more: str) -> Config:
        """Return its settings, with more flags as texts, before anything is chosen."""
        return config_of_texts(self.flags | more)


@dataclass(frozen=True)
class Study:
    """A named set of experiments; see the module.

    Attributes:
        name: Its name, such as `cifar10`.
        title: Its name for people.
        dataset: A key of `DATASETS`.
        seeds: The seeds, the one that comes first first.
        own_vanilla: Whether each seed's levels come from the vanilla model of that
            seed. If not, all come from that of the first seed, as in the paper.
        images: The number of images of each split, to estimate the time.
        evaluate: Flags of `evaluate` for every run, as texts.
        methods: The methods by name, in the order in which they run.
    """

    name: str
    title: str
    dataset: str
    seeds: tuple[int, ...]
    own_vanilla: bool
    images: Mapping[str, int]
    evaluate: dict[str, str]
    methods: dict[str, Method] = field(repr=False)

    def method(self, name: str) -> Method:
        """Return a method, or raise an `InputError` that names them all."""
        if name not in self.methods:
            raise InputError(
                f"the study {self.name} has no method {name!r}; choose from "
                f"{', '.join(self.methods)}"
            )
        return self.methods[name]


def study_names() -> list[str]:
    """Return the names of the studies that come with the package."""
    return sorted(path.stem for path in (flags_folder() / "studies").glob("*.toml"))


def load_study(name: str) -> Study:
    """Read a study that comes with the package, or a `.toml` file.

    Raises:
        InputError: If there is none, or if something in the file cannot be.

    Example:
        >>> load_study("smoke").dataset
        'fashion_mnist_small'
    """
    path = flags_folder() / "studies" / f"{name}.toml"
    if name.endswith(".toml"):
        path = Path(name)
    elif name not in study_names():
        raise InputError(
            f"there is no study {name!r}; choose from {', '.join(study_names())}, or "
            "give a .toml file of your own"
        )
    if not path.exists():
        raise InputError(f"there is no file {path}; give the .toml file of a study")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the study {path} cannot be read ({reason}); give a file in TOML such as "
            "those of flags/studies"
        ) from error
    try:
        _FORM(content, "")
        return _study(path.stem, content)
    except InputError as error:
        raise InputError(
            f"the study {path} cannot be: {error}; compare it with those of "
            f"{flags_folder() / 'studies'}"
        ) from error


# The form of a file.


def _only(known: Mapping[str, Form], needed: Sequence[str] = ()) -> Form:
    """Return the form of a table that has no other names, where a slip would hide."""
    whole = record({name: known[name] for name in needed}, known)

    def form(value: Any, place: str) -> None:
        whole(value, place)
        for name in value:
            if name not in known:
                choices = ", ".join(known)
                raise Misfit(place, f"has {name!r}; it may have {choices}")

    return form


_SOME_SEEDS = list_of(number(SEEDS, whole=True), least=1)
_VALUE = where(lambda v: isinstance(v, (str, int, float)), "a text or a number")
_VARIED = where(
    lambda v: (
        isinstance(v, dict)
        and len(v) == 1
        and all(isinstance(values, list) and len(values) > 1 for values in v.values())
    ),
    "one setting with two or more values, such as { alpha = [0.1, 0.2] }",
)

_EVALUATE = {
    "shift": truth,
    "shift_types": list_of(text(CORRUPTIONS), least=1),
    "severities": list_of(
        number(Bound(least=1, most=max(SEVERITIES)), whole=True), least=1
    ),
    "shift_source": text(("auto", "tfds", "published", "generated")),
    "ood": list_of(text(DATASETS), least=1),
    "attacks": list_of(text(BOUNDED_ATTACKS), least=1),
    "epsilons": list_of(number(Bound(least=0, most=255)), least=1),
    "certify": truth,
    "sigma": list_of(number(), least=1),
    "certify_samples": number(whole=True),
    "certify_selection_samples": number(whole=True),
    "certify_alpha": number(),
    "certify_images": number(whole=True),
    "certify_attack": truth,
}

_METHOD = {
    "flagfile": text(),
    "like": text(),
    "seeds": _SOME_SEEDS,
    "choose": _VARIED,
    "each": _VARIED,
    "members": text(),
}

_FORM = _only(
    {
        "title": text(),
        "dataset": text(DATASETS),
        "seeds": _SOME_SEEDS,
        "own_vanilla": truth,
        "images": _only(
            {
                name: number(Bound(least=least), whole=True)
                for name, least in (("train", 0), ("validation", 0), ("test", 1))
            },
            needed=("train", "validation", "test"),
        ),
        "settings": mapping(_VALUE),
        "evaluate": _only(_EVALUATE),
        "methods": mapping(record({}, _METHOD)),
    },
    needed=("title", "dataset", "seeds", "images", "methods"),
)


# From the content of a file to a study.


def _study(name: str, content: Mapping[str, Any]) -> Study:
    seeds = tuple(content["seeds"])
    methods: dict[str, Method] = {}
    _check_its_own("settings", content.get("settings", ()))
    for key, table in content["methods"].items():
        methods[key] = _method(key, table, content, methods)
    study = Study(
        name,
        content["title"],
        content["dataset"],
        seeds,
        content.get("own_vanilla", False),
        content["images"],
        {k: as_text(v) for k, v in content.get("evaluate", {}).items()},
        methods,
    )
    _check_vanilla(study)
    _check_different(study)
    Certifying.from_texts(study.evaluate)  # refuses numbers that cannot be used
    refuse_idle_measures(content.get("evaluate", {}))
    return study


def _method(
    name: str,
    table: Mapping[str, Any],
    content: Mapping[str, Any],
    before: Mapping[str, Method],
) -> Method:
    """Return a method; those before it can be referred to."""

    def other(key: str) -> Method | None:
        referred = table.get(key)
        if referred is not None and referred not in before:
            raise InputError(
                f"methods.{name}.{key} must be a method before it; received "
                f"{referred!r}"
            )
        return before[referred] if referred is not None else None

    _check_together(name, table)
    like, members = other("like"), other("members")
    base = members or like
    own = {k: as_text(v) for k, v in table.items() if k not in _METHOD}
    _check_its_own(f"methods.{name}", own)
    if base:
        flags = dict(base.flags)
    else:
        flags = {"dataset": content["dataset"]}
        if "flagfile" in table:
            flags |= read_flagfile(Path("flags", table["flagfile"]))
        flags.pop("output_dir", None)
        flags |= {k: as_text(v) for k, v in content.get("settings", {}).items()}
    seeds = tuple(
        table.get("seeds", content["seeds"][:1] if members else content["seeds"])
    )
    if lost := set(seeds) - set(content["seeds"]):
        raise InputError(f"methods.{name}.seeds has {min(lost)}, which seeds has not")
    choose, each = _varied(table.get("choose")), _varied(table.get("each"))
    found = Method(
        name,
        flags | own,
        own,
        seeds,
        choose,
        name if choose else base.choice_of if base else None,
        each,
        members.name if members else None,
    )
    _check_method(found, content["dataset"])
    return found


def _check_its_own(place: str, flags: Iterable[str]) -> None:
    """Refuse flags that a study sets by itself."""
    for flag in flags:
        if flag in _ITS_OWN:
            raise InputError(f"{place}.{flag} is the study's own; leave it out")


def _check_together(name: str, table: Mapping[str, Any]) -> None:
    """Refuse names of a method's table of which one would be ignored."""
    for one, others in _APART.items():
        for other in others:
            if one in table and other in table:
                raise InputError(
                    f"methods.{name} has both {one} and {other}; leave one of them out"
                )
    for key in ("choose", "each"):
        _check_its_own(f"methods.{name}.{key}", table.get(key, ()))
        for param in table.get(key, ()):
            if param in table:
                raise InputError(
                    f"methods.{name} has {param} and varies it by {key}; leave one of "
                    "them out"
                )
    if both := set(table.get("choose", ())) & set(table.get("each", ())):
        raise InputError(
            f"methods.{name} has {min(both)} both in choose and in each; leave one of "
            "them out"
        )


def _varied(table: Mapping[str, Any] | None) -> Varied | None:
    if table is None:
        return None
    ((param, values),) = table.items()
    return Varied(param, tuple(map(as_text, values)))


def _check_method(method: Method, dataset: str) -> None:
    """Refuse settings that cannot work, each value of what is varied included."""
    if not re.fullmatch(r"\w[\w.,=+-]*", method.name, re.ASCII):
        raise InputError(
            f"a method's name must be letters, digits and any of _.,=+-, as it names "
            f"folders; received {method.name!r}"
        )
    varied = [v for v in (method.choose, method.each) if v]
    try:
        for one in varied:
            if len(set(one.values)) < len(one.values):
                raise InputError(f"{one.param} has a value twice")
        if method.choose and method.choose.param not in CHOSEN:
            raise InputError(f"choose takes one of {', '.join(CHOSEN)}")
        configs = [method.config()]
        configs += [method.config(**{v.param: x}) for v in varied for x in v.values]
    except InputError as error:
        raise InputError(f"methods.{method.name}: {error}") from error
    if configs[0].dataset != dataset:
        raise InputError(
            f"methods.{method.name} is of {configs[0].dataset}, the study of {dataset}"
        )


def _check_different(study: Study) -> None:
    """Refuse a method whose runs are all made for methods before it."""
    made: dict[str, str] = {}
    for method in study.methods.values():
        own = list(_runs_of(method, len(study.seeds)))
        if all(run in made for run in own):
            raise InputError(
                f"methods.{method.name} has no run that methods.{made[own[0]]} has "
                "not; give it a setting or a seed of its own, or leave it out"
            )
        made = dict.fromkeys(own, method.name) | made


def _runs_of(method: Method, size: int) -> Iterator[str]:
    """Yield what decides each run of a method; an ensemble is a run of `size`."""
    for seed in method.seeds:
        for value in method.each.values if method.each else [None]:
            more = {"seed": str(seed)}
            if method.each and value is not None:
                more[method.each.param] = value
            if method.members:
                more["ensemble_size"] = str(size)
            about = [method.config(**more).as_dict(), method.choice_of]
            yield json.dumps(about, sort_keys=True)


def _check_vanilla(study: Study) -> None:
    """Make sure that a study whose methods look at a vanilla model trains it."""
    for method in study.methods.values():
        config = method.config()
        if not config.vanilla_levels or config.levels_from == "random":
            continue
        vanilla = study.methods.get("vanilla")
        if vanilla is None or vanilla.config().method != "vanilla":
            raise InputError(
                f"methods.{method.name} looks at a vanilla model, so methods.vanilla "
                "must be there"
            )
        if set(study.seeds) - set(vanilla.seeds):
            raise InputError("methods.vanilla must have all seeds")
