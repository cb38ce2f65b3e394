"""Votes of noisy copies: counted right, and each image's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from ar_adals_tf import datasets
from ar_adals_tf.attacks.bounded import image_seeds
from ar_adals_tf.certification import drawing
from ar_adals_tf.certification.drawing import BLOCK, NoisyCopies, block_noise
from ar_adals_tf.certification.radius import certify
from ar_adals_tf.finite import NotFiniteError
from tests.certification.helpers import linear
from tests.helpers import run_on_two_cpus, softmax


@pytest.fixture(scope="module")
def fashion():
    """A little trained network, and thirty real images with their ids and labels."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    splits = datasets.load("fashion_mnist_small", limit_examples=500)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    train = splits["train"]
    images = train.images / np.float32(255)
    model.fit(images, train.labels, batch_size=50, epochs=4, verbose=0)
    test = splits["test"]
    return model, test.ids[:30], test.images[:30] / np.float32(255), test.labels[:30]


def noise_of(ids, stage, count, shape, seed=0):
    """The noise of an image's copies, drawn one image and one block after another."""
    found = []
    for one in image_seeds(ids, seed).numpy():
        blocks = [
            tf.random.stateless_normal(
                [BLOCK, *shape],
                tf.random.experimental.stateless_fold_in(
                    tf.constant(one), tf.constant(2 * b + stage, tf.int32), "philox"
                ),
                alg="philox",
            ).numpy()
            for b in range(-(-count // BLOCK))
        ]
        found.append(np.concatenate(blocks)[:count])
    return np.array(found)


def test_votes_are_those_of_copies_made_and_predicted_plainly(fashion):
    model, ids, images, labels = fashion
    found = NoisyCopies([model], 10)(ids, images, labels, 0.5, (30, 90))
    assert found.ids.tolist() == ids.tolist()
    np.testing.assert_array_equal(found.labels, labels)
    for stage, (votes, count) in enumerate([(found.selection, 30), (found.votes, 90)]):
        noise = noise_of(ids, stage, count, (28, 28, 1))
        copies = images[:, None] + np.float32(0.5) * noise
        logits = model.predict(copies.reshape(-1, 28, 28, 1), verbose=0)
        classes = logits.argmax(axis=1).reshape(30, count)
        expected = [np.bincount(own, minlength=10) for own in classes]
        np.testing.assert_array_equal(votes, expected)
        means = softmax(logits).reshape(30, count, 10).mean(axis=1)
    np.testing.assert_allclose(found.probabilities, means, atol=1e-6)
    assert (found.votes.max(axis=1) < 90).any()  # the noise changes predictions
    found.check()


def test_the_shares_of_a_linear_model_are_the_normal_distributions():
    """The count lies within five standard deviations of its closed form."""
    case, sigma, count = linear(), 0.5, 20_000
    votes = NoisyCopies([case.model], 2)(
        case.ids, case.images, case.classes, sigma, (100, count)
    )
    share = case.share(sigma)
    own = votes.votes[np.arange(len(share)), case.classes]
    deviation = np.sqrt(count * share * (1 - share))
    assert (np.abs(own - count * share) < 5 * deviation + 1).all()
    assert np.unique(np.round(share, 2)).size > 6
    found = certify(votes.selection, votes.votes, sigma, 0.001)
    sure = found.classes >= 0
    np.testing.assert_array_equal(found.classes[sure], case.classes[sure])
    assert (found.radii <= case.distances).all()
    # With so many votes the bound is near: the binomial's error, by the delta method.
    loss = sigma * 5 * deviation / count / stats.norm.pdf(case.distances / sigma)
    assert (found.radii >= case.distances - loss)[sure].all()


def test_an_image_has_the_same_votes_in_any_batch_and_any_company(fashion):
    model, ids, images, labels = fashion
    alone = NoisyCopies([model], 10, batch_size=2 * BLOCK)
    some = [21, 3, 11]
    whole = NoisyCopies([model], 10)(ids, images, labels, 0.5, (20, 70))
    part = alone(ids[some], images[some], labels[some], 0.5, (20, 70))
    for name in ("selection", "votes", "labels"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[some])
    np.testing.assert_allclose(part.probabilities, whole.probabilities[some], atol=1e-6)


def test_more_copies_are_the_same_copies_and_further_ones(fashion):
    model, ids, images, labels = fashion
    copies = NoisyCopies([model], 10)
    few = copies(ids, images, labels, 0.5, (20, 35))
    more = copies(ids, images, labels, 0.5, (40, 100))
    for name in ("selection", "votes"):
        difference = getattr(more, name) - getattr(few, name)
        assert (difference >= 0).all() and difference.sum(axis=1).tolist() == [
            20 if name == "selection" else 65
        ] * 30


def test_another_seed_and_another_id_draw_other_noise(fashion):
    model, ids, images, labels = fashion
    copies = NoisyCopies([model], 10)
    same = np.repeat(images[:1], 8, axis=0)
    found = copies(ids[:8], same, labels[:8], 1.0, (20, 200))
    assert len(np.unique(found.votes, axis=0)) > 1
    other = copies(ids[:8], same, labels[:8], 1.0, (20, 200), seed=1)
    assert (found.votes != other.votes).any()


def test_noise_is_normal_and_independent():
    seeds = image_seeds([b"a", b"a", b"b"])
    noise = block_noise(seeds, tf.constant([0, 2, 0]), (50, 50)).numpy()
    flat = noise.reshape(3, -1)
    assert stats.kstest(flat[0], "norm").pvalue > 0.001
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.03
    copies = noise[0].reshape(BLOCK, -1)
    assert np.abs(np.corrcoef(copies) - np.eye(BLOCK)).max() < 0.1


def test_an_ensemble_votes_by_its_averaged_probabilities(fashion):
    model, ids, images, labels = fashion
    keras.utils.set_random_seed(5)
    other = keras.models.clone_model(model)
    found = NoisyCopies([model, other], 10)(ids, images, labels, 0.3, (20, 40))
    noise = noise_of(ids, 1, 40, (28, 28, 1))
    copies = (images[:, None] + np.float32(0.3) * noise).reshape(-1, 28, 28, 1)
    mean = sum(softmax(m.predict(copies, verbose=0)) for m in (model, other)) / 2
    classes = mean.argmax(axis=1).reshape(30, 40)
    expected = [np.bincount(own, minlength=10) for own in classes]
    np.testing.assert_array_equal(found.votes, expected)


def test_a_function_of_arrays_votes_as_its_model_does(fashion):
    model, ids, images, labels = fashion

    def served(rows):
        assert isinstance(rows, np.ndarray)
        return model.predict(rows, verbose=0)

    arguments = (ids, images, labels, 0.3, (20, 40))
    expected = NoisyCopies([model], 10)(*arguments)
    found = NoisyCopies([], 10, served)(*arguments)
    np.testing.assert_array_equal(found.votes, expected.votes)


def test_vectors_are_certified_as_images_are():
    case = linear(shape=(9,))
    copies = NoisyCopies([case.model], 2)
    votes = copies(case.ids, case.images, case.classes, 0.25, (20, 400))
    share = votes.votes[np.arange(12), case.classes] / 400
    assert np.abs(share - case.share(0.25)).max() < 0.1


def test_progress_counts_every_copy_once(fashion):
    model, ids, images, labels = fashion
    told = []
    NoisyCopies([model], 10)(ids, images, labels, 0.5, (13, 50), progress=told.append)
    assert sum(told) == 30 * 63 and len(told) > 10


def test_a_model_that_diverged_is_refused():
    case = linear()
    case.model.layers[-1].bias.assign([np.nan, 0.0])
    with pytest.raises(NotFiniteError, match="for 12 of 12 images; 1 of its 2 arrays"):
        NoisyCopies([case.model], 2)(case.ids, case.images, case.classes, 0.5, (20, 20))


def test_two_replicas_count_the_same_votes():
    printed = run_on_two_cpus(
        """
from ar_adals_tf.certification.drawing import NoisyCopies
from tests.certification.helpers import linear

both, found = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), []
for strategy in (tf.distribute.get_strategy(), both):
    with strategy.scope():
        case = linear(7)
    assert case.model.distribute_strategy.num_replicas_in_sync == 1 + len(found)
    copies = NoisyCopies([case.model], 2)
    found.append(copies(case.ids, case.images, case.classes, 0.5, (30, 70)).votes)
print((found[0] == found[1]).all(), found[0].sum())
"""
    )
    assert printed.split() == ["True", "490"]


def test_a_plan_has_every_copy_of_every_image_once():
    image, stage, number, used = drawing._plan(3, (BLOCK, 2 * BLOCK + 1))
    for i in range(3):
        assert used[(image == i) & (stage == 0)].sum() == BLOCK
        assert used[(image == i) & (stage == 1)].tolist() == [BLOCK, BLOCK, 1]
        assert number[(image == i) & (stage == 1)].tolist() == [0, 1, 2]
