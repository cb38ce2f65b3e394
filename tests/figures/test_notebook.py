"""A reliability diagram that shows itself in a notebook."""

import keras
import numpy as np
import pytest

import ar_adals_tf
from ar_adals_tf.errors import InputError
from tests.helpers import plain_ece, softmax

RNG = np.random.default_rng(1)
LOGITS = RNG.normal(size=(300, 4)) * 3
P = softmax(LOGITS)
Y = np.array([RNG.choice(4, p=p) for p in softmax(LOGITS / 2)])


def test_it_shows_itself_and_says_its_measures(tmp_path):
    found = ar_adals_tf.reliability_diagram(Y, P, title="mine")
    assert found._repr_png_()[:4] == b"\x89PNG"
    ece = plain_ece(Y, P)
    assert found.measures["ece"] == pytest.approx(ece)
    assert f"ECE {100 * ece:.2f} % (15 bins)" in repr(found)
    assert found.bins.counts.sum() == 300
    found.save(tmp_path / "mine.pdf")
    assert (tmp_path / "mine.pdf").read_bytes()[:4] == b"%PDF"
    with pytest.raises(InputError, match=r"must end in .png, .pdf or .svg"):
        found.save(tmp_path / "mine.gif")
    found.save(tmp_path / "new" / "folder" / "mine.png")
    assert (tmp_path / "new" / "folder" / "mine.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the folder of the diagram must be a folder"):
        found.save(tmp_path / "file" / "mine.png")


def test_a_model_with_its_examples_gives_the_same_as_its_predictions():
    head = keras.layers.Dense(4, kernel_initializer="identity", use_bias=False)
    model = keras.Sequential([keras.Input((4,)), head])
    one_hot = np.eye(4)[Y]
    by_model = ar_adals_tf.reliability_diagram(model, LOGITS.astype("float32"), one_hot)
    by_logits = ar_adals_tf.reliability_diagram(Y, LOGITS, from_logits=True)
    for found in (by_model, by_logits):
        assert found.measures["ece"] == pytest.approx(plain_ece(Y, P), abs=1e-6)


def test_single_logits_between_0_and_1_are_believed():
    z = np.linspace(0.1, 0.9, 200)
    labels = np.arange(200) % 2
    found = ar_adals_tf.reliability_diagram(labels, z, from_logits=True)
    second = 1 / (1 + np.exp(-z))
    expected = plain_ece(labels, np.column_stack([1 - second, second]))
    assert found.measures["ece"] == pytest.approx(expected, abs=1e-6)


def test_wrong_kinds_and_shapes_are_refused():
    diagram = ar_adals_tf.reliability_diagram
    with pytest.raises(InputError, match="apply a softmax to logits first"):
        diagram(Y, LOGITS)
    with pytest.raises(InputError, match="so they are probabilities"):
        diagram(Y, P, from_logits=True)
    with pytest.raises(InputError, match="the first is no model but ndarray"):
        diagram(Y, P, Y)
    with pytest.raises(InputError, match="the order is labels, probabilities"):
        diagram(P, Y)
    with pytest.raises(InputError, match=r"labels must be integers of shape \(300,\)"):
        diagram(Y[:3], P)
