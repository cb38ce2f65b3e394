"""Which of many cases are tried every time, and which in the slow tests alone."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.bad_inputs.runner import Case


def of_each_kind(cases: Iterable[Case]) -> list[Any]:
    """Return cases as parameters of a test; those that repeat a kind are slow.

    Cases of one command that must answer the same words are of one kind.
    """
    kinds, parameters = set(), []
    for case in cases:
        kind = case.command, case.says
        marks = pytest.mark.slow if kind in kinds else ()
        kinds.add(kind)
        parameters.append(pytest.param(case, marks=marks, id=str(case)))
    return parameters
