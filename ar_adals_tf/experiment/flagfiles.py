"""Files of flags, a flag in each line, and the files that these name in turn.

absl looks for a file that another one names from the working folder alone. So a
project's flagfiles could be used from the project's folder only. This module loads no
TensorFlow and knows nothing of absl.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ar_adals_tf.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]


def flags_folder() -> Path:
    """Return the folder `flags`, of an installed package or of a checkout.

    Where links are plain files, a checkout has it only beside the package.
    """
    inside = _PACKAGE / "flags"
    return inside if inside.is_dir() else _PACKAGE.parent / "flags"


def with_flagfiles(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with flagfiles replaced by their lines.

    Raises:
        InputError: If a flagfile is absent or cannot be read; see `flag_lines`.

    Example:
        >>> with_flagfiles(["train", "--seed=1", "--", "--flagfile=a.cfg"])
        ['train', '--seed=1', '--', '--flagfile=a.cfg']
    """
    found: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        file = _named_by(argument)
        if argument == "--":
            return [*found, argument, *rest]
        if file is None:
            found.append(argument)
            continue
        if "=" not in argument:  # the file is the next argument
            if not rest:
                raise InputError("--flagfile needs a file: --flagfile=my.cfg")
            file = rest.pop(0)
        found += flag_lines(file)
    return found


def flag_lines(
    name: str | Path, start: str | Path = "", named_in: tuple[Path, ...] = ()
) -> list[str]:
    """Return the flags of a flagfile and of those that it names, in their order.

    Empty lines are left out, and comments, which begin with `#` or `//`.

    Args:
        name: The file, as it is named.
        start: Where relative names begin. Defaults to the working folder.
        named_in: The flagfiles that lead to it; the last one names it.

    Raises:
        InputError: If a file is absent or no text, or if one names itself.
    """
    path = _find(name, start, named_in)
    if path in named_in:
        way = f", by way of {named_in[-1]}" if named_in[-1] != path else ""
        raise InputError(
            f"the flagfile {path} names itself{way}; take that --flagfile out"
        )
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the flagfile {path} cannot be read ({error}); give a file of text, with "
            "a flag in each line"
        ) from error
    found = []
    for line in lines:
        if not line or line.startswith(("#", "//")):
            continue
        file = _named_by(line)
        found += [line] if file is None else flag_lines(file, start, (*named_in, path))
    return found


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


def _named_by(argument: str) -> str | None:
    """Return the file that an argument names, or None if it is no --flagfile.

    Example:
        >>> _named_by("--flagfile=a.cfg"), _named_by("--seed=1")
        ('a.cfg', None)
    """
    name, _, value = argument.partition("=")
    return value.strip() if name in ("--flagfile", "-flagfile") else None


def _find(name: str | Path, start: str | Path, named_in: tuple[Path, ...]) -> Path:
    """Return where a flagfile is.

    A relative name begins at the start. If nothing is there, and a flagfile names it,
    it begins in the folder of that file, or in the nearest folder above that has it.
    The flagfiles of this package, `flags/...`, are found last, from anywhere.
    """
    folders = [Path(start), *(named_in[-1].parents if named_in else ())]
    name = os.path.expanduser(name)
    if Path(name).parts[:1] == ("flags",):
        folders.append(flags_folder().parent)
    for folder in folders:
        path = folder / name
        if os.path.exists(path) and not os.path.isdir(path):
            return path.parent.resolve() / path.name
    if named_in and not os.path.isabs(name):
        looked = (
            f"{named_in[-1]} names it, and it is neither in {folders[0].resolve()} nor "
            "in the folder of that file, nor in one above"
        )
    else:
        looked = f"{os.path.abspath(folders[0] / name)} is no file"
    raise InputError(f"there is no flagfile {name!r}: {looked}; give one that is there")
