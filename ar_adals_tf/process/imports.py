"""Modules of a user's own, which register the layers that a model needs.

A folder may come from somebody else, so no folder says what is imported: the flag
`--import` does. What it named is known here, for the commands that are printed.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from ar_adals_tf.errors import InputError

_NAMED: list[str] = []


def imported() -> list[str]:
    """Return the names of the modules that `import_modules` has imported."""
    return list(dict.fromkeys(_NAMED))


def import_modules(names: Sequence[str]) -> None:
    """Import modules of one's own, from the working folder or the PYTHONPATH.

    Raises:
        InputError: If there is no such module, or if it raises an error or exits.
    """
    here = os.getcwd()
    if names and here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        parts = name.split(".")
        if parts[-1] == "py" or not all(part.isidentifier() for part in parts):
            raise InputError(
                "--import takes the names of modules, such as my_layers; received "
                f"{name!r}; leave folders and .py out"
            )
        try:
            importlib.import_module(name)
            _NAMED.append(name)
        # Whatever the user's own code raises: sys.exit(0) would end this as if done.
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                raise InputError(
                    f"--import={name}: there is no such module; start the command in "
                    "its folder, or add the folder to PYTHONPATH"
                ) from error
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"--import={name} raised {type(error).__name__}: {error} "
                f"({last.filename}, line {last.lineno}); mend the module"
            ) from error
