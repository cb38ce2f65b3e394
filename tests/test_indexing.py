"""An index as a job: killed and taken up again, refused, and estimated."""

import keras
import numpy as np
import pytest

from ar_adals_tf import attacks
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples import as_examples
from ar_adals_tf.indexing import compute_and_save, estimate_cost
from ar_adals_tf.robustness import RobustnessIndex

DDN = {"attack": "ddn", "steps": 4, "batch_size": 8, "verbose": False}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )


@pytest.fixture
def images(rng):
    return rng.uniform(size=(20, 6, 6, 1)).astype(np.float32)


class Failing:
    """A runner that fails at its third call."""

    def __init__(self, model, error):
        self.calls, self.error = 0, error
        self.runner = attacks.prepare(
            "ddn", model, steps=4, batch_size=8, keep_adversarial=False
        )

    def __call__(self, images, progress=None):
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return self.runner(images, progress=progress)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("lost")])
def test_a_computation_that_ends_early_goes_on_and_leaves_the_index_alone(
    error, model, images, tmp_path
):
    path = tmp_path / "new" / "index.npz"
    whole = RobustnessIndex.compute(model, images, **DDN)
    failing = Failing(model, error)
    with pytest.raises(type(error)):
        compute_and_save(path, model, images, **DDN, shard_size=6, runner=failing)
    assert names(path.parent) == ["index.shards"]
    failing.calls = 10
    index = compute_and_save(path, model, images, **DDN, shard_size=6, runner=failing)
    assert failing.calls == 12  # the last two shards of four
    np.testing.assert_array_equal(index.distances, whole.distances)
    assert names(path.parent) == ["index.npz"]
    assert RobustnessIndex.load(path).metadata == index.metadata


def test_what_is_refused_leaves_nothing_behind(model, images, tmp_path):
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        compute_and_save(tmp_path / "index.npz", model, images + 1, **DDN)
    with pytest.raises(InputError, match="there is no attack"):
        compute_and_save(tmp_path / "index.npz", model, images, attack="fgsm")
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="the folder of the index must be a folder"):
        compute_and_save(tmp_path / "file" / "index.npz", model, images, **DDN)


def test_the_estimate_counts_passes_and_images(model, images):
    estimate = estimate_cost(model, as_examples(images), "ddn", steps=4)
    assert (estimate.attack, estimate.passes) == ("ddn", 4)
    assert (estimate.tried, estimate.total) == (20, 20)
    assert estimate.seconds > 0
    many = as_examples(np.repeat(images, 20, axis=0))
    estimate = estimate_cost(model, many, "margin")
    assert (estimate.tried, estimate.total, estimate.passes) == (256, 400, 2)
    text = str(estimate._replace(seconds=64.0))
    assert text == (
        "margin takes at most 2 forward-backward passes an image; 256 images took "
        "64.0 s, so 400 will take about 1.7 minutes."
    )
