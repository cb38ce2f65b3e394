"""The process that all cases are forked from."""

import pytest

from tests.bad_inputs.runner import Parent


@pytest.fixture(scope="session")
def parent():
    """Return the process, which imports TensorFlow once."""
    with Parent() as process:
        yield process
