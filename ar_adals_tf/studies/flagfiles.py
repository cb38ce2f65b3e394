"""The flagfiles that come with the package, read without a command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flagfiles import flag_lines, flags_folder
from ar_adals_tf.experiment.flags import config_from, group_flags

_TRUTH = {"true": True, "false": False}


def read_flagfile(path: Path) -> dict[str, str]:
    """Return the flags of a flagfile and of those that it names, by their names.

    A path that begins with `flags/` means a file in `flags_folder`.

    Raises:
        InputError: If a file is absent or has a line that is no flag.

    Example:
        >>> read_flagfile(Path("flags/cifar10/ls.cfg"))
        {'dataset': 'cifar10', 'method': 'ls', 'label_smoothing': '0.02'}
    """
    found: dict[str, str] = {}
    ours = path.parts[:1] == ("flags",)
    for line in flag_lines(path, flags_folder().parent if ours else ""):
        name, sign, value = line.removeprefix("--").partition("=")
        if not line.startswith("--"):
            raise InputError(
                f"the flagfile {path} has the line {line!r}; a line must be a flag "
                "--name=value, or begin with #"
            )
        found[name] = value if sign else "true"
    return found


def config_of_texts(texts: Mapping[str, str]) -> Config:
    """Return the settings that flags of `train` describe, given as texts.

    Raises:
        InputError: On unknown flags, and on values that cannot work.

    Example:
        >>> config_of_texts({"dataset": "cifar10", "method": "ls", "seed": "2"}).name
        'cifar10-ls-2'
    """
    flags = {flag.name: flag for flag in group_flags()}
    given: dict[str, Any] = {n: flags[n].default for n in ("dataset", "method")}
    for name, text in texts.items():
        if name not in flags:
            raise InputError(f"{name} is no setting of python -m ar_adals_tf.train")
        if not text:
            raise InputError(f"--{name} must not be empty; leave it out")
        kind = flags[name].kind
        try:
            given[name] = _TRUTH[text] if kind is bool else kind(text)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"--{name} must be of the type {kind.__name__}; received {text!r}"
            ) from error
    return config_from(given)
