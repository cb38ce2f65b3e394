"""Whatever stands in the flags, a run is described or refused. About 5 seconds.

The flags are those that the declarations make. What a flag means to nobody is left out
in most examples, so that values are read and not only refused.
"""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flags import config_from, flags_from, group_flags
from ar_adals_tf.experiment.settings import DECLARATIONS
from ar_adals_tf.methods.table import METHODS

FLAGS = [flag for flag in group_flags() if flag.name not in ("dataset", "method")]

NUMBERS_AS_TEXT = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.fractions().map(str),
    st.sampled_from(["nan", "-inf", "1e400", "1e-400", "1/0", "1e999999999", "1_0"]),
    st.lists(st.integers(-2, 300), max_size=4).map(lambda x: ",".join(map(str, x))),
    st.from_regex(r"[0-9.]{1,4}(,[0-9]{1,3}:[0-9.]{1,4}){0,3}", fullmatch=True),
)


def values_of(flag):
    """What absl may hand over for a flag: of its kind, one of its choices."""
    if flag.choices:
        return st.sampled_from(flag.choices)
    return {
        bool: st.booleans(),
        int: st.integers() | st.integers(-1, 300),
        float: st.floats() | st.floats(0, 1),
        str: st.text() | NUMBERS_AS_TEXT,
    }[flag.kind]


@st.composite
def typed(draw):
    """Values of a few flags, by name."""
    few = draw(st.lists(st.sampled_from(FLAGS), max_size=4, unique_by=lambda f: f.name))
    values = {flag.name: draw(values_of(flag)) for flag in few}
    values["dataset"] = draw(st.sampled_from(["fashion_mnist_small", "imagenet2012"]))
    values["method"] = draw(st.sampled_from(list(METHODS)))
    return values


def described(values):
    """The settings, or None where they are refused with a sentence."""
    try:
        return config_from(values)
    except InputError as error:
        assert str(error).strip()
        return None


def check(values):
    """A run that is described lies within its bounds and can be described again."""
    config = described(values)
    if config is None:
        return
    for name, declared in DECLARATIONS.items():
        value = getattr(config, name)
        if declared.bound is not None and value is not None:
            assert declared.bound.least <= value <= declared.bound.most
            assert math.isfinite(value)
    for value in config.method_settings.values():
        assert math.isfinite(value)
    assert Config.make(**config.as_dict()) == config
    assert set(flags_from(config.as_dict())) >= {"dataset", "method"}
    assert config.vanilla().method == "vanilla"
    if config.ensemble_size > 1:
        assert config.members()[-1].seed <= 2**32 - 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(typed())
def test_several_flags_at_once(values):
    check(values)


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_each_flag(flag):
    """Every flag gets values by itself, with each method that it means something to."""
    owners = [m for m, kind in METHODS.items() if flag.name in kind.settings]

    @settings(max_examples=15, deadline=None)
    @given(values_of(flag), st.sampled_from(owners or ["ar_adals", "ls"]))
    def one(value, method):
        given = {"dataset": "fashion_mnist_small", "method": method, flag.name: value}
        check(given)

    one()
