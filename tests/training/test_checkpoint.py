"""Checkpoints: training goes on bit for bit; damaged files are refused. 15 seconds."""

import pickle

import keras
import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.training import checkpoint


def make_model(optimizer="adam", width=8, dropout=0.5):
    """Return a compiled model with everything that has a state: Dropout, batch norm."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout, seed=1),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def values(variables):
    return [np.array(v) for v in variables]


@pytest.fixture(scope="module")
def pixels(fashion_small):
    images, labels = fashion_small["train"]
    return images[:128].astype(np.float32) / 255, labels[:128]


def train(model, pixels):
    return model.fit(*pixels, batch_size=32, shuffle=False, verbose=0).history


@pytest.fixture(scope="module")
def saved(pixels, tmp_path_factory):
    """Return a model trained for one epoch and its checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    model = make_model()
    train(model, pixels)
    checkpoint.save(path, model, {"epoch": 1, "p": [1.0, 0.1 + 0.2, float("nan")]})
    return model, path


@pytest.mark.parametrize("optimizer", ["adam", "sgd_momentum"])
def test_training_goes_on_as_if_never_interrupted(optimizer, pixels, tmp_path):
    """Weights, moments, step count, moving means and Dropout's generator go on."""

    def new():
        if optimizer == "adam":
            return make_model()
        return make_model(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True))

    one, path = new(), tmp_path / "checkpoint.npz"
    train(one, pixels)
    checkpoint.save(path, one, {})
    expected = train(one, pixels)
    other = new()
    checkpoint.restore(path, other)
    assert train(other, pixels) == expected
    for a, b in zip(values(one.variables), values(other.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        values(one.optimizer.variables), values(other.optimizer.variables), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_state_comes_back_to_the_last_bit(saved):
    state = checkpoint.restore(saved[1], make_model())
    assert state["epoch"] == 1
    np.testing.assert_array_equal(state["p"], [1.0, 0.1 + 0.2, np.nan])


def test_dropout_draws_what_it_would_have_drawn(saved, pixels):
    model, path = saved
    fresh, again = make_model(), make_model()
    checkpoint.restore(path, again)
    seeds = [
        [v.numpy().tolist() for v in m.variables if "seed" in v.path]
        for m in (model, fresh, again)
    ]
    assert seeds[0] == seeds[2] != seeds[1]


def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(saved):
    others = {
        "wider": make_model(width=9),
        "without dropout": make_model(dropout=0),
        "another optimizer": make_model("sgd"),
        "larger": make_model(keras.optimizers.Adam(amsgrad=True)),
    }
    for name, other in others.items():
        before = values(other.variables)
        with pytest.raises(InputError, match="of (another|this) model.*remove it"):
            checkpoint.restore(saved[1], other)
        after = values(other.variables)
        assert all(map(np.array_equal, before, after)), name


def test_damaged_files_are_refused_or_harmless(saved, tmp_path):
    """Cut anywhere, or any one byte changed: refused, or restored to the same bits."""
    model, path = saved
    whole, bad = path.read_bytes(), tmp_path / "bad.npz"
    other = make_model()
    other.optimizer.build(other.trainable_variables)
    expected = values(other.variables)
    for size in np.linspace(0, len(whole) - 1, 40, dtype=int):
        bad.write_bytes(whole[:size])
        with pytest.raises(InputError, match="bad.npz is no whole checkpoint"):
            checkpoint.restore(bad, other)
    assert all(map(np.array_equal, expected, values(other.variables)))
    wanted, refused = values(model.variables), 0
    structure = np.r_[0:600, len(whole) - 3000 : len(whole)]  # where zip keeps its own
    rng = np.random.default_rng(0)
    positions = np.r_[rng.choice(structure, 300, replace=False), 2000:40000:2000]
    for position in positions:
        changed = bytearray(whole)
        changed[position] ^= int(rng.integers(1, 256))
        bad.write_bytes(changed)
        try:
            checkpoint.restore(bad, other)
        except InputError:
            refused += 1
        else:
            now = values(other.variables)[: len(wanted)]
            metrics = {id(v) for v in other.metrics_variables}
            for variable, a, b in zip(other.variables, wanted, now, strict=True):
                assert id(variable) in metrics or np.array_equal(a, b), position
    assert refused > len(positions) / 3


class Payload:
    """Something whose unpickling would leave a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_nothing_in_a_file_is_executed(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "checkpoint.npz"
    payload = np.array([Payload(trace)], dtype=object)
    np.savez(path, variable_0=payload, state=payload)
    with pytest.raises(InputError, match="no whole checkpoint of this model"):
        checkpoint.restore(path, make_model())
    path.write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(InputError, match="no whole checkpoint of this model"):
        checkpoint.restore(path, make_model())
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(InputError, match="no whole checkpoint of this model"):
        checkpoint.restore(tmp_path / "plain.npy", make_model())
    assert not trace.exists()


def test_the_file_is_whole_or_absent(saved, tmp_path, monkeypatch):
    """A write that fails leaves the old checkpoint and no other file."""
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(saved[1].read_bytes())

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, saved[0], {})
    assert path.read_bytes() == saved[1].read_bytes()
    assert list(tmp_path.iterdir()) == [path]
