"""Commands of this package as a person can copy them."""

import shlex
from collections.abc import Mapping
from typing import Any


def shell_command(module: str, flags: Mapping[str, Any]) -> str:
    """Return a command line, which a shell takes apart into these flags again.

    Example:
        >>> shell_command("report", {"runs": "my runs/a", "output_dir": "page"})
        "python -m ar_adals_tf.report --runs='my runs/a' --output_dir=page"
    """
    parts = [f"--{_quoted(name)}={_quoted(value)}" for name, value in flags.items()]
    return " ".join([f"python -m ar_adals_tf.{module}", *parts])


def _quoted(value: Any) -> str:
    return shlex.quote(str(value))
