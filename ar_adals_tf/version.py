"""The version, alone in a file so that packaging reads it without TensorFlow."""

from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    names = ("ar_adals_tf", "tensorflow", "keras", "tensorflow-datasets", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__version__ = "0.1.0"
