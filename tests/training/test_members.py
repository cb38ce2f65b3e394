"""Ensembles of runs that are there: the same as if they trained their members."""

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.training import members
from ar_adals_tf.training.run import train
from tests.training.helpers import make_config, weights

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return two runs of label smoothing, seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("singles")
    return [train(make_config(folder / f"{s}", "ls", seed=s)) for s in (0, 1)]


def ensemble(folder, **more):
    return make_config(folder / "ensemble", "ls", ensemble_size=2, **more)


def test_an_ensemble_of_runs_is_the_one_that_trains_its_members(runs, tmp_path):
    taken = train(ensemble(tmp_path / "taken"), members=runs)
    trained = train(ensemble(tmp_path / "trained"))
    for one, other in zip(weights(taken), weights(trained), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("metrics.json", "temperature.json"):
        assert (taken / name).read_text() == (trained / name).read_text()


def test_an_ensemble_that_was_killed_takes_the_rest(runs, tmp_path, monkeypatch):
    config = ensemble(tmp_path)
    take = members.take
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def die_at_the_second(member, run):
            if member.seed:
                raise KeyboardInterrupt
            take(member, run)

        patch.setattr("ar_adals_tf.training.run.take", die_at_the_second)
        train(config, members=runs)
    train(config, members=runs)
    expected = [one for run in runs for one in weights(run)]
    found = weights(tmp_path / "ensemble")
    count = len(expected)
    for one, other in zip(found[-count:], expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_are_not_the_members_is_refused(runs, tmp_path):
    config = ensemble(tmp_path)
    for given, says in [
        (runs[:1], "takes a run for each member .*, here 2; received 1"),
        (runs[::-1], "is not the member of seed 0 .seed is 0 here, 1 there"),
        ([runs[0], tmp_path], "names .*, which is no finished run"),
    ]:
        with pytest.raises(InputError, match=says):
            train(config, members=given)
    other = ensemble(tmp_path, epochs=4)
    with pytest.raises(InputError, match="epochs is 4 here, 3 there"):
        train(other, members=runs)
    single = make_config(tmp_path / "single", "ls")
    with pytest.raises(InputError, match="here 0; received 2"):
        train(single, members=runs)
    joint = make_config(tmp_path / "joint", "ar_adals_of_ensemble", ensemble_size=2)
    with pytest.raises(InputError, match="trained one by one"):
        train(joint, members=runs)
    assert not any(tmp_path.iterdir())  # nothing was left behind
