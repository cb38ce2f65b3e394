"""The version, in a file of its own so that packaging reads it without TensorFlow."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that results depend on.

    Example:
        >>> sorted(versions())
        ['ar_adals_tf', 'keras', 'numpy', 'tensorflow', 'tensorflow-datasets']
    """
    names = ("ar_adals_tf", "tensorflow", "keras", "tensorflow-datasets", "numpy")
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


__version__ = "0.2.0.dev0"
