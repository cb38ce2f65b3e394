"""The numbers that others printed: the paper's, and those of the companion study."""

import functools
import json
from importlib import resources
from typing import Any


@functools.cache
def paper() -> dict[str, Any]:
    """Return the numbers that the paper printed, by table, dataset and method."""
    return _read("paper.json")


@functools.cache
def adversarial_study() -> dict[str, Any]:
    """Return the companion study of adversarial training: what it used and printed.

    Under `networks` it has, by network and method, the numbers of its table
    (`printed`) and the settings that are not ours (`settings`).
    """
    return _read("adversarial_study.json")


def _read(name: str) -> dict[str, Any]:
    return json.loads((resources.files("ar_adals_tf") / "data" / name).read_text())
