"""Controls of what the levels are cut from, on real images."""

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training.controls import control_index, sureness
from ar_adals_tf.training.fitting import fit
from ar_adals_tf.training.run import load_splits
from tests.helpers import plan_in


@pytest.fixture(scope="module")
def vanilla(thin_network, tmp_path_factory):
    """Return splits, a model trained too long on few images, and what it predicts."""
    config = Config.make(
        "fashion_mnist_small",
        "vanilla",
        epochs=12,
        learning_rate=0.01,
        batch_size=50,
        verbose=False,
        tensorboard=False,
    )
    splits = dict(load_splits(config))
    splits["train"] = splits["train"].divided(400)[0]
    model = fit(plan_in(tmp_path_factory.mktemp("run"), config, splits), {}).models[0]
    return splits, model, Predictor(model)(splits["validation"], verbose=False)


def gaps(index, predictions):
    """Return confidence minus accuracy, image by image, and each image's level."""
    probabilities = predictions.probabilities.astype(np.float64)
    correct = probabilities.argmax(axis=1) == predictions.labels
    level = dict(zip(index.ids, index.levels(4), strict=True))
    levels = np.array([level[i] for i in predictions.ids])
    return probabilities.max(axis=1), correct, levels


def p_after_an_update(confidence, correct, levels):
    smoothing = AdaptiveLabelSmoothing(10, 4, alpha=0.5)
    smoothing.p = np.full(4, 0.8)
    by_level = [
        [values[levels == r].mean() for r in range(4)]
        for values in (confidence, correct)
    ]
    smoothing.update(*by_level, epoch=0)
    return smoothing.p


def test_random_levels_give_equal_p_up_to_noise(vanilla):
    """And levels by loss do not: they put the wrong predictions together."""
    splits, model, predictions = vanilla
    spread = {}
    for kind in ("random", "loss"):
        index = control_index(kind, splits["validation"], model, seed=3, verbose=False)
        confidence, correct, levels = gaps(index, predictions)
        p = p_after_an_update(confidence, correct, levels)
        noise = 0.5 * (confidence - correct).std() / np.sqrt(len(levels) / 4)
        spread[kind] = np.abs(p - p.mean()).max() / noise
    assert spread["random"] < 4 < spread["loss"]


def test_confidence_and_loss_order_as_they_should(vanilla):
    splits, model, predictions = vanilla
    logits = predictions.logits.astype(np.longdouble)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    rows = np.arange(len(logits))
    expected = {
        "confidence": probabilities.max(axis=1),
        "loss": probabilities[rows, predictions.labels],
    }
    for kind, p in expected.items():
        index = control_index(kind, splits["validation"], model, verbose=False)
        np.testing.assert_array_equal(index.ids, splits["validation"].ids)
        np.testing.assert_allclose(
            index.distances.astype(float), (-np.log1p(-p)).astype(float), rtol=1e-5
        )
        level = index.levels(10)
        assert [p[level == r].max() for r in range(9)] <= [
            p[level == r].min() for r in range(1, 10)
        ]
        assert index.metadata["attack"] == kind and index.found.all()


def test_sureness_keeps_apart_what_rounds_to_certainty():
    logits = np.array([[0.0, 50.0, 0.0], [0.0, 60.0, 0.0], [0.0, 900.0, 0.0]])
    expected = [50 - np.log(2), 60 - np.log(2), 900 - np.log(2)]
    np.testing.assert_allclose(sureness(logits, np.array([1, 1, 1])), expected)
    tiny = sureness(logits, np.array([0, 0, 0]))  # about e^-50, e^-60, e^-900
    np.testing.assert_allclose(tiny, [np.exp(-50), np.exp(-60), 0], rtol=1e-12)


def test_random_levels_follow_the_seed_and_the_split(vanilla):
    splits = vanilla[0]
    one = control_index("random", splits["validation"], seed=1)
    again = control_index("random", splits["validation"], seed=1)
    other = control_index("random", splits["validation"], seed=2)
    np.testing.assert_array_equal(one.distances, again.distances)
    assert not np.array_equal(one.distances, other.distances)
    assert one.metadata["digest"] == splits["validation"].digest()


def test_unknown_kinds_are_refused(vanilla):
    with pytest.raises(InputError, match="received 'entropy'"):
        control_index("entropy", vanilla[0]["validation"], vanilla[1])
    with pytest.raises(InputError, match="received 'loss' without a model"):
        control_index("loss", vanilla[0]["validation"])
