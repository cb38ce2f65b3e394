"""Names that are imported when they are first used."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, **homes: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return a package's `__getattr__`, `__dir__` and `__all__`.

    `import ar_adals_tf` and `--help` then load neither TensorFlow nor Matplotlib.

    Args:
        package: The package's `__name__`.
        **homes: For each submodule the public names that it defines, in one text. Its
            own name among them stands for the submodule itself.

    Example:
        >>> get, names, _ = lazy_names("ar_adals_tf", smoothing="soften")
        >>> names()
        ['soften']
        >>> get("soften").__module__
        'ar_adals_tf.smoothing'
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{home[name]}")
        return module if name == home[name] else getattr(module, name)

    return get, lambda: sorted(home), sorted(home)


def load(reference: str) -> Any:
    """Import what a reference names. Tables refer to functions without loading them.

    Args:
        reference: `"module:name"`.

    Example:
        >>> load("math:hypot")(3, 4)
        5.0
    """
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
