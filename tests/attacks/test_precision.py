"""Attacks in bfloat16 rank alike and flip the model itself."""

from contextlib import nullcontext

import numpy as np
import pytest
from scipy.stats import spearmanr

from ar_adals_tf import attacks
from ar_adals_tf.attacks import runner
from tests.attacks.helpers import l2, predict
from tests.helpers import some_quick


@pytest.mark.parametrize(
    "name", some_quick(["cw", "ddn", "deepfool", "margin"], "ddn", "margin")
)
def test_bfloat16_ranks_alike_and_flips_the_model_itself(trained, name):
    model, images = trained
    images = images[:96]
    settings = {"cw": {"iterations": 60}}.get(name, {})
    full = attacks.prepare(name, model, **settings)(images)
    attack = attacks.prepare(name, model, compute_dtype="bfloat16", **settings)
    half = attack(images)
    # It did compute in another format, and put the layers back.
    assert not np.array_equal(half.distances, full.distances)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    np.testing.assert_array_equal(half.found, full.found)
    found = full.found
    assert spearmanr(half.distances[found], full.distances[found])[0] > 0.99
    ratio = half.distances[found] / full.distances[found]
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    if name != "margin":
        flipped = predict(model, half.adversarial) != predict(model, images)
        np.testing.assert_array_equal(flipped, found)
        length = l2(half.adversarial - images)[found]
        np.testing.assert_allclose(length, half.distances[found], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_slow_number_format_is_said_before_the_attack(dtype, trained, monkeypatch):
    said = {"bfloat16": "this processor is slow"}
    monkeypatch.setattr(runner, "slow_format", said.get)
    with (
        pytest.warns(UserWarning, match="bfloat16.*this processor is slow")
        if dtype in said
        else nullcontext()
    ):
        attacks.prepare("ddn", trained[0], compute_dtype=dtype)
