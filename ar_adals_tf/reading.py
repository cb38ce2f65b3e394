"""JSON and NumPy files, read so that damage is one sentence and nothing is executed."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError

#: Larger or deeper JSON is none of this package's.
_LARGEST, _DEEPEST = 64 * 1024**2, 50


def read_json(path: str | Path) -> Any:
    """Read a JSON file; see `parse_json`. What it must hold is said in `forms`.

    Raises:
        InputError: If the file cannot be read or is not valid JSON.
        FileNotFoundError: If there is none.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST // 1024**2} MiB")
        return parse_json(content.decode("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path} cannot be read ({reason}); a file must be there: remove what is"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}); it is damaged or not a file of this "
            "package: remove it and run the command again"
        ) from error


def parse_json(text: str) -> Any:
    """Return the content of JSON text, as Python reads it: NaN is a number.

    Raises:
        ValueError: If it is no JSON, is nested too deeply, or has a name twice.

    Example:
        >>> parse_json('{"p": [1, 0.5]}')
        {'p': [1, 0.5]}
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    inner = [content]
    for _ in range(_DEEPEST):
        lists = [v.values() if isinstance(v, dict) else v for v in inner if _holds(v)]
        inner = [value for values in lists for value in values]
    if inner:
        raise ValueError("it is nested too deeply")
    return content


def _holds(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {twice!r} twice")
    return content


def read_npz(
    path: str | Path, names: Sequence[str], what: str, remedy: str
) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` file. Nothing in the file is executed.

    Args:
        path: The file.
        names: Arrays that the file must have.
        what: What the file is, such as `"robustness index"`, for the error sentence.
        remedy: What to do about a file that cannot be used, such as `"remove it"`.

    Raises:
        InputError: If the file is absent, damaged, of another kind, or lacks an array.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "lengths.npz")
        >>> np.savez(path, metres=np.array([1.5]))
        >>> read_npz(path, ["metres"], "list of lengths", "measure again")
        {'metres': array([1.5])}
    """
    if not Path(path).exists():
        raise InputError(f"there is no {what} {path}; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                name.removesuffix(".npy"): _read_member(file.zip, name)
                for name in file.zip.namelist()
            }
    except Exception as error:  # one wrong byte can make NumPy raise nearly anything
        raise not_whole(path, what, error, remedy) from error
    for name in names:
        if name not in arrays:
            only = ", ".join(arrays) or "nothing"
            lack = InputError(f"it has no `{name}`, only {only}")
            raise not_whole(path, what, lack, remedy)
    return arrays


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array, and on to the end of its member: there is the checksum.

    NumPy stops after the last value, so that it misses some of the damage.
    """
    with archive.open(name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read():
            raise InputError(f"`{name}` goes on after its last value")
    return array


def not_whole(path: str | Path, what: str, error: Exception, remedy: str) -> InputError:
    """Return the error for a file whose content cannot be used; see `read_npz`."""
    reason = str(error)[:80]
    if not isinstance(error, InputError):
        reason = f"{type(error).__name__}: {reason}"
    return InputError(
        f"{path} is no whole {what} and cannot be read ({reason}); {remedy}"
    )
