"""The model in training ranks its own examples: against NumPy, AdaLS and itself."""

import inspect
import shutil
import textwrap
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from ar_adals_tf.attacks import linearised
from ar_adals_tf.automatic import auto_alpha, auto_refresh
from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.callbacks.own_levels import OwnLevels
from ar_adals_tf.errors import InputError
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.helpers import run_on_two_cpus, softmax, some_quick

Z, R, ALPHA, START = 10, 4, 0.3, 0.7


class Part:
    """Real images in [0, 1] with integer ids in no order."""

    def __init__(self, images, labels, seed):
        self.x = images.astype(np.float32) / 255
        self.y = labels.astype(np.int64)
        self.ids = np.random.default_rng(seed).permutation(9999)[: len(labels)]

    def data(self, size=50, order=slice(None)):
        parts = self.ids[order], self.x[order], self.y[order]
        return tf.data.Dataset.from_tensor_slices(parts).batch(size)

    def undivided(self):
        return RobustnessLevels.undivided(self.ids, R, self.y)

    def index(self, distances):
        return RobustnessIndex(
            self.ids, distances.astype(np.float32), np.ones(len(self.ids), bool)
        )


@pytest.fixture(scope="module")
def train(fashion_small):
    images, labels = fashion_small["train"]
    return Part(images[:300], labels[:300], 1)


@pytest.fixture(scope="module")
def validation(fashion_small):
    images, labels = fashion_small["validation"]
    return Part(images[:160], labels[:160], 2)


def network(*before, hidden=(16,)):
    """Return a model that is soon overconfident."""
    keras.utils.set_random_seed(0)
    inner = [layers.Dense(width, activation="relu") for width in hidden]
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *before,
            layers.Flatten(),
            *inner,
            layers.Dense(Z),
        ]
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


class Watch(keras.callbacks.Callback):
    """Keep the levels and the weights that each epoch begins with."""

    def __init__(self, levels, parts):
        super().__init__()
        self.of, self.parts = levels, parts
        self.levels, self.weights = [], []

    def on_epoch_begin(self, epoch, logs=None):
        pairs = zip(self.of, self.parts, strict=True)
        self.levels.append(
            [own.lookup(tf.constant(part.ids)).numpy() for own, part in pairs]
        )
        self.weights.append(self.model.get_weights())


class Outcome:
    """A training with own levels, and what it left."""

    def __init__(
        self,
        train,
        validation,
        model=None,
        *,
        epochs=6,
        refresh_every=2,
        size=50,
        order=slice(None),
        levels=None,
        callbacks=(),
        alpha=ALPHA,
        **settings,
    ):
        self.model = model or network()
        self.levels = levels or (train.undivided(), validation.undivided())
        self.smoothing = AdaptiveLabelSmoothing(Z, R, alpha)
        self.smoothing.p = np.full(R, START)
        self.watch = Watch(self.levels, (train, validation))
        self.callback = ARAdaLS(
            self.smoothing,
            validation.data(size, order),
            self.levels[1],
            refresh_every=refresh_every,
            refresh_data=train.data(size, order),
            refresh_levels=self.levels[0],
            **settings,
        )
        soft = soft_labels(train.data(30), self.smoothing, self.levels[0])
        self.history = self.model.fit(
            soft,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[self.callback, self.watch, *callbacks],
        ).history

    def by_level(self, name):
        return np.array([self.history[f"{name}/{r}"] for r in range(R)]).T


def ranked(model, parts, data=None, levels=None, **settings):
    """Return the levels of both parts after a model has ranked them."""
    data = data or [part.data() for part in parts]
    levels = levels or [part.undivided() for part in parts]
    callback = ARAdaLS(
        AdaptiveLabelSmoothing(Z, R),
        data[1],
        levels[1],
        refresh_every=1,
        refresh_data=data[0],
        refresh_levels=levels[0],
        **settings,
    )
    callback.set_model(model)
    callback.set_params({"epochs": 2})
    callback.on_train_begin()
    callback.on_epoch_begin(1)
    return [
        own.lookup(tf.constant(part.ids)).numpy()
        for own, part in zip(levels, parts, strict=True)
    ]


@pytest.fixture(scope="module")
def whole(train, validation):
    """Return a training that ranks before its epochs 2 and 4."""
    return Outcome(train, validation)


def cut(distances, ids):
    """Sort by distance and id, cut into R equal parts; by position."""
    rank = np.argsort(np.lexsort((ids, distances)))
    return rank * R // len(ids)


def test_the_example_of_the_docstring_runs():
    """Both parts of it, one after the other, as a reader would paste them."""
    _, first, second = inspect.getdoc(ARAdaLS).split("```python\n")
    names = {}
    for part in (first, second):
        exec(textwrap.dedent(part.partition("```")[0]), names)
    history = names["model"].history.history
    assert history["new_levels"] == [e in auto_refresh(10) for e in range(10)]
    assert names["smoothing"].alpha(0) == auto_alpha(10)
    assert len(set(names["levels"]["train"].lookup(tf.range(200)).numpy())) == 10


# What the levels are


def test_levels_are_those_of_an_index_of_the_model_at_that_epoch(
    whole, train, validation
):
    assert not any(part.any() for levels in whole.watch.levels[:2] for part in levels)
    model = network()
    for epoch in (2, 4):
        model.set_weights(whole.watch.weights[epoch])
        for part, levels, next_levels in zip(
            (train, validation),
            whole.watch.levels[epoch],
            whole.watch.levels[epoch + 1],
            strict=True,
        ):
            index = RobustnessIndex.compute(
                model, part.x, part.y, ids=part.ids, attack="margin", top_k=2
            )
            np.testing.assert_array_equal(levels, index.levels(R))
            np.testing.assert_array_equal(next_levels, index.levels(R))
    moved = whole.watch.levels[3][0] != whole.watch.levels[4][0]
    assert 0.05 < moved.mean() < 0.95


@pytest.mark.slow
def test_with_averaged_weights_the_model_ranks_that_fit_delivers(train, validation):
    """A twin that stops there ends with the averaged weights (`use_ema`)."""

    def averaging():
        model = network(hidden=())
        optimizer = keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9)
        model.compile(optimizer, model.loss)
        return model

    run = Outcome(train, validation, averaging(), epochs=3, alpha=0)
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    smoothing.p = [START]
    twin, raw = averaging(), network(hidden=())
    soft = soft_labels(train.data(30).map(lambda _, x, y: (x, y)), smoothing)
    twin.fit(soft, epochs=2, shuffle=False, verbose=0)
    raw.set_weights(run.watch.weights[2])
    for part, levels in zip((train, validation), run.watch.levels[2], strict=True):
        found = [
            RobustnessIndex.compute(
                model, part.x, part.y, ids=part.ids, attack="margin", top_k=2
            ).levels(R)
            for model in (twin, raw)
        ]
        np.testing.assert_array_equal(levels, found[0])
        assert (found[0] != found[1]).any()


def test_a_linear_models_levels_are_those_of_its_closed_form(train, validation):
    """The nearest of the two best rivals' boundaries; no bounds."""
    model = network(hidden=())
    run = Outcome(train, validation, model, epochs=2, refresh_every=1, bounds=None)
    kernel, bias = (value.astype(np.float64) for value in run.watch.weights[1])
    for part, levels in zip((train, validation), run.watch.levels[1], strict=True):
        logits = part.x.reshape(len(part.x), -1) @ kernel + bias
        distances = []
        for row in logits:
            own, *rivals = np.argsort(-row)[:3]
            distances.append(
                min(
                    (row[own] - row[k]) / np.linalg.norm(kernel[:, own] - kernel[:, k])
                    for k in rivals
                )
            )
        np.testing.assert_array_equal(levels, cut(np.array(distances), part.ids))


@pytest.mark.parametrize(("size", "reverse"), [(7, False), (300, False), (50, True)])
def test_levels_depend_on_neither_batches_nor_order(
    size, reverse, whole, train, validation
):
    order = slice(None, None, -1) if reverse else slice(None)
    model = network()
    model.set_weights(whole.watch.weights[2])
    data = [part.data(size, order) for part in (train, validation)]
    found = ranked(model, (train, validation), data)
    for got, expected in zip(found, whole.watch.levels[2], strict=True):
        np.testing.assert_array_equal(got, expected)


class Sequence(keras.utils.PyDataset):
    """Batches of `(id, x, y)`."""

    def __init__(self, part):
        super().__init__()
        self.columns = part.ids, part.x, part.y

    def __len__(self):
        return -(-len(self.columns[0]) // 50)

    def __getitem__(self, number):
        rows = slice(50 * number, 50 * (number + 1))
        return tuple(column[rows] for column in self.columns)


@pytest.mark.parametrize(
    "form",
    [lambda part: part.data().concatenate(part.data().take(3)), Sequence],
    ids=["some twice", "PyDataset"],
)
def test_levels_are_the_same_from_other_forms(form, whole, train, validation):
    model = network()
    model.set_weights(whole.watch.weights[2])
    data = [form(part) for part in (train, validation)]
    found = ranked(model, (train, validation), data)
    for got, expected in zip(found, whole.watch.levels[2], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_arrays_are_ranked_by_their_positions(whole, train, validation):
    parts = []
    for part in (train, validation):
        numbered = Part(part.x, part.y, 0)
        numbered.ids = np.arange(len(part.x))
        parts.append(numbered)
    model = network()
    model.set_weights(whole.watch.weights[2])
    found = ranked(model, parts, [(part.x, part.y) for part in parts])
    wanted = ranked(model, parts, [part.data() for part in parts])
    for got, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_range_of_ones_own_gives_the_levels_of_its_twin(whole, train, validation):
    """The twin gets the same images in 0 to 255, and divides them by 255."""
    model = network(layers.Rescaling(1 / 255))
    model.set_weights(whole.watch.weights[2])
    data = [
        part.data().map(lambda i, x, y: (i, x * 255, y)) for part in (train, validation)
    ]
    found = ranked(model, (train, validation), data, bounds=(0, 255))
    for one, other in zip(found, whole.watch.levels[2], strict=True):
        assert (one == other).mean() > 0.98  # rounding may exchange neighbours
        assert np.abs(one - other).max() <= 1


def test_text_ids_in_dictionaries_do_too(whole, train, validation):
    """As TFDS has them; only the names of the examples differ."""
    parts, data = [], []
    for part in (train, validation):
        named = Part(part.x * 255, part.y, 0)
        named.ids = np.array([b"%04d" % i for i in part.ids])  # in the same order
        elements = {"tfds_id": named.ids, "image": part.x, "label": part.y}
        data.append(tf.data.Dataset.from_tensor_slices(elements).batch(40))
        parts.append(named)
    model = network()
    model.set_weights(whole.watch.weights[2])
    found = ranked(model, parts, data)
    for got, expected in zip(found, whole.watch.levels[2], strict=True):
        np.testing.assert_array_equal(got, expected)


# What they do


def test_it_is_adals_to_the_last_bit_until_the_first_ranking(whole, train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 1, ALPHA)
    smoothing.p = [START]
    model, plain = network(), lambda _, x, y: (x, y)
    adals = ARAdaLS(smoothing, validation.data().map(plain))
    watch = Watch((), ())
    history = model.fit(
        soft_labels(train.data(30).map(plain), smoothing),
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[adals, watch],
    ).history
    for epoch in range(3):
        for mine, its in zip(
            whole.watch.weights[epoch], watch.weights[epoch], strict=True
        ):
            np.testing.assert_array_equal(mine, its)
    assert abs(history["p/0"][2] - START) > 0.01
    for r in range(R):  # the first ranking finds the common p in every level
        assert whole.history[f"p/{r}"][:3] == history["p/0"]
        for name in ("conf", "acc"):
            assert whole.history[f"{name}/{r}"][:2] == history[f"{name}/0"][:2]


def test_then_each_level_goes_its_own_way_by_algorithm_1(whole, validation):
    p, confidence, accuracy = map(whole.by_level, ("p", "conf", "acc"))
    moved = np.clip(p - ALPHA * (confidence - accuracy), 1 / Z + 1e-6, 1)
    np.testing.assert_allclose(p[1:], moved[:-1], rtol=1e-12)
    assert np.ptp(p[2]) == 0 < np.ptp(p[3])
    logits = whole.model.predict(validation.x, verbose=0).astype(np.float64)
    probabilities, level = softmax(logits), whole.watch.levels[5][1]
    correct = probabilities.argmax(axis=1) == validation.y
    for r in range(R):
        mine = level == r
        expected = probabilities.max(axis=1)[mine].mean(), correct[mine].mean()
        got = confidence[5, r], accuracy[5, r]
        np.testing.assert_allclose(got, expected, atol=2e-6)


def test_the_epochs_labels_have_the_new_levels(train, validation):
    """The labels that reach the model, by the level that the image has by then."""
    seen = []

    class SetP(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            smoothing.p = [0.6, 0.7, 0.8, 0.9]
            seen.append([])

    def keep(x, y):
        seen[-1].append((x, y))
        return y

    def watched(x, y):
        return x, tf.ensure_shape(tf.numpy_function(keep, [x, y], y.dtype), y.shape)

    levels = train.undivided(), validation.undivided()
    smoothing = AdaptiveLabelSmoothing(Z, R)
    callback = ARAdaLS(
        smoothing,
        validation.data(),
        levels[1],
        refresh_every=1,
        refresh_data=train.data(),
        refresh_levels=levels[0],
    )
    watch = Watch(levels, (train, validation))
    network().fit(
        soft_labels(train.data(30).shuffle(99), smoothing, levels[0]).map(watched),
        epochs=2,
        verbose=0,
        callbacks=[callback, SetP(), watch],
    )
    position = {x.tobytes(): n for n, x in enumerate(train.x)}
    for epoch in range(2):
        x, y = map(np.concatenate, zip(*seen[epoch], strict=True))
        at = [position[one.tobytes()] for one in x]
        assert sorted(at) == list(range(len(train.x)))
        expected = np.array([0.6, 0.7, 0.8, 0.9])[watch.levels[epoch][0][at]]
        got = y[np.arange(len(at)), train.y[at]]
        np.testing.assert_allclose(got, expected, atol=1e-6)
        assert len(set(expected)) == (R if epoch else 1)


def test_given_indexes_hold_until_the_first_ranking(whole, train, validation):
    """On-the-fly AR-AdaLS."""
    levels = [
        RobustnessLevels(part.index(np.random.default_rng(0).random(len(part.ids))), R)
        for part in (train, validation)
    ]
    before = [
        own.lookup(p.ids) for own, p in zip(levels, (train, validation), strict=True)
    ]
    run = Outcome(train, validation, levels=tuple(levels), epochs=3)
    for epoch in range(2):
        for got, expected in zip(run.watch.levels[epoch], before, strict=True):
            np.testing.assert_array_equal(got, expected)
    model = network()
    model.set_weights(run.watch.weights[2])
    index = RobustnessIndex.compute(
        model, train.x, ids=train.ids, attack="margin", top_k=2
    )
    np.testing.assert_array_equal(run.watch.levels[2][0], index.levels(R))
    assert np.ptp(run.by_level("p")[1]) > 0


def test_the_history_shows_when_levels_were_new(whole):
    assert whole.history["new_levels"] == [0, 0, 1, 0, 1, 0]


@pytest.mark.slow
def test_the_attack_is_compiled_once(train, validation, monkeypatch):
    traced, look = [], linearised.nearest_boundary
    monkeypatch.setattr(
        linearised,
        "nearest_boundary",
        lambda *arguments, **more: traced.append(1) or look(*arguments, **more),
    )
    run = Outcome(train, validation, epochs=4, refresh_every=1)
    assert run.history["new_levels"] == [0, 1, 1, 1]
    assert len(traced) == 1


@pytest.mark.slow
def test_auto_ranks_and_moves_by_the_number_of_epochs(train, validation):
    run = Outcome(train, validation, epochs=10, refresh_every="auto", alpha="auto")
    assert run.history["new_levels"] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    p, confidence, accuracy = map(run.by_level, ("p", "conf", "acc"))
    moved = np.clip(p - auto_alpha(10) * (confidence - accuracy), 1 / Z + 1e-6, 1)
    np.testing.assert_allclose(p[1:], moved[:-1], rtol=1e-12)
    assert p.min() < 0.95


# Interruptions


class Interruption(Exception):
    """Stands for whatever ends a process."""


class Interrupt(keras.callbacks.Callback):
    """Fail in the middle of an epoch."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.when and batch == 2:
            raise Interruption


@pytest.mark.parametrize("when", some_quick([1, 2, 3, 5], 3))
def test_an_interrupted_training_ends_like_one_that_was_not(
    when, whole, train, validation, tmp_path
):
    """Before a ranking, in the epoch of one, and between two."""

    def start(*more):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "model")
        settings = {"backup_dir": tmp_path / "p", "callbacks": [backup, *more]}
        return Outcome(train, validation, **settings)

    with pytest.raises(Interruption):
        start(Interrupt(when))
    run = start()
    assert run.smoothing.p.tolist() == whole.smoothing.p.tolist()
    for mine, its in zip(
        run.model.get_weights(), whole.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, its)
    for epoch, levels in enumerate(run.watch.levels, start=when):
        for got, expected in zip(levels, whole.watch.levels[epoch], strict=True):
            np.testing.assert_array_equal(got, expected)
    kept = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("p/**/*.npz"))
    assert kept == [
        f"p/levels/epoch_{epoch}/{name}.npz"
        for epoch in (2, 4)
        for name in ("train", "validation")
    ]


@pytest.mark.slow
def test_indexes_of_an_earlier_training_are_not_taken(train, validation, tmp_path):
    """The same folder; but the model, or how it ranks, is another."""
    Outcome(train, validation, epochs=2, refresh_every=1, backup_dir=tmp_path)
    settings = {"bounds": None, "backup_dir": tmp_path}
    run = Outcome(train, validation, epochs=2, refresh_every=1, **settings)
    model = network()
    model.set_weights(run.watch.weights[1])
    for part, levels in zip((train, validation), run.watch.levels[1], strict=True):
        index = RobustnessIndex.compute(
            model, part.x, ids=part.ids, attack="margin", top_k=2, bounds=None
        )
        np.testing.assert_array_equal(levels, index.levels(R))
    kept = RobustnessIndex.load(tmp_path / "levels" / "epoch_1" / "train.npz")
    assert kept.metadata["settings"]["bounds"] is None


def going_on(folder, epochs, kept, fixed=False):
    """Return what ranks before some epochs, and the list of the indexes it takes."""
    taken = []
    for epoch in kept:
        (folder / f"epoch_{epoch}").mkdir(parents=True)
        index = RobustnessIndex(
            np.arange(1), np.array([float(epoch)]), np.ones(1, bool)
        )
        index.save(folder / f"epoch_{epoch}" / "train.npz")
    levels = SimpleNamespace(rank=lambda index: taken.append(index.distances.item()))
    own = OwnLevels({}, {"train": levels}, epochs, folder=folder, fixed=fixed)
    own.trained = SimpleNamespace()
    return own, taken


@pytest.mark.parametrize(
    ("epochs", "kept", "start"),
    [([4, 14, 24], [4], 15), ([2], [1], 3), ([4, 14], [1], 3), ([10], [2, 4], 6)],
)
def test_another_number_of_epochs_goes_on_with_the_newest_index(
    epochs, kept, start, tmp_path
):
    """As after fit(epochs=15), which ranks at 4, fit(epochs=30, initial_epoch=15)."""
    own, taken = going_on(tmp_path, epochs, kept)
    own.on_epoch_begin(start)
    assert taken == [max(kept)]
    if start + 1 not in epochs:
        own.on_epoch_begin(start + 1)
    assert taken == [max(kept)]


def test_a_training_that_goes_on_without_its_indexes_is_refused(tmp_path):
    own, _ = going_on(tmp_path, [2], [])
    with pytest.raises(InputError, match=r"goes on at epoch 3, .*epoch_2/train.npz"):
        own.on_epoch_begin(3)


@pytest.mark.parametrize("damage", ["all", "validation.npz"])
def test_older_levels_than_the_last_fixed_ranking_are_refused(damage, tmp_path):
    """A run's epochs are those of its settings, so one that is not there was lost."""
    own, taken = going_on(tmp_path, [2, 4], [2, 4], fixed=True)
    own.on_epoch_begin(6)
    own.on_epoch_begin(7)
    assert taken == [4]
    own, taken = going_on(tmp_path / "lost", [2, 4], [2, 4], fixed=True)
    if damage == "all":
        shutil.rmtree(tmp_path / "lost" / "epoch_4")
    else:
        own._levels["validation"] = own._levels["train"]
    lost = "train" if damage == "all" else "validation"
    with pytest.raises(
        InputError, match=f"not all .* lacks epoch_4/{lost}.npz; put the"
    ):
        own.on_epoch_begin(6)
    assert not taken


def test_before_the_first_fixed_ranking_nothing_is_lacking(tmp_path):
    own, taken = going_on(tmp_path, [8], [2], fixed=True)
    own.on_epoch_begin(6)
    assert not taken


def test_a_training_from_the_start_takes_nothing_of_an_earlier_one(tmp_path):
    own, taken = going_on(tmp_path, [4, 14], [1, 7])
    for epoch in range(3):
        own.on_epoch_begin(epoch)
    assert not taken
    assert not list(tmp_path.iterdir())  # else epoch 9 would take that of 7


# Several devices

_MIRRORED = """
tf.config.threading.set_intra_op_parallelism_threads(1)
from tests.callbacks import test_own_levels as t
from ar_adals_tf import datasets
import numpy as np

splits = datasets.load("fashion_mnist_small")
parts = [
    t.Part(splits[name].images[:count], splits[name].labels[:count], seed)
    for name, count, seed in (("train", 301, 1), ("validation", 97, 2))
]
found = []
for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope() if strategy else tf.device("CPU:0"):
        model = t.network()
    found.append(t.ranked(model, parts))
print(*[float((a == b).mean()) for a, b in zip(*found)])
"""


@pytest.mark.slow
def test_two_replicas_rank_like_one():
    *_, line = run_on_two_cpus(_MIRRORED).strip().splitlines()
    assert line == "1.0 1.0"


# What cannot be


def endless(part):
    return part.data().repeat()


def single(part):
    return part.data().unbatch()


def incomplete(part):
    return part.data(40).take(7)


def two_inputs(part):
    return part.data().map(lambda i, x, y: (i, {"a": x, "b": x}, y))


def relabelled(part):
    return part.data().map(lambda i, x, y: (i, x, (y + 1) % Z))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"refresh_every": 0}, "refresh_every must be .*at least 1.*received 0"),
        ({"refresh_every": 2.5}, "refresh_every must be .*received 2.5"),
        ({"refresh_every": True}, "refresh_every must be .*received True"),
        ({"refresh_every": "often"}, "refresh_every must be .*received 'often'"),
        ({"refresh_every": None}, "refresh_every, which is None"),
        ({"refresh_data": None}, "refresh_data must be .*received NoneType"),
        ({"refresh_data": endless}, "refresh_data repeats without end"),
        ({"refresh_data": single}, "refresh_data must yield batches"),
        ({"refresh_data": incomplete}, "received 280 examples, 280 different ones"),
        ({"refresh_data": two_inputs}, "perturbs one dense input; refresh_data has 2"),
        ({"refresh_data": relabelled}, "300 of 300 examples have another label"),
        ({"refresh_levels": None}, "refresh_levels must be the RobustnessLevels"),
        ({"validation_index": "ranked"}, "received an index of the validation"),
        ({"ensemble": [network]}, "received an ensemble as well"),
    ],
    ids=lambda value: (
        next(iter(value.values())).__class__.__name__ if isinstance(value, dict) else ""
    ),
)
def test_what_cannot_be_ranked_is_refused_at_once(given, message, train, validation):
    settings = {
        "validation_index": validation.undivided(),
        "refresh_every": 2,
        "refresh_data": train.data(),
        "refresh_levels": train.undivided(),
    } | given
    if callable(settings["refresh_data"]):
        settings["refresh_data"] = settings["refresh_data"](train)
    if settings["validation_index"] == "ranked":
        settings["validation_index"] = validation.index(np.arange(160.0))
    with pytest.raises(InputError, match=message):
        ARAdaLS(AdaptiveLabelSmoothing(Z, R), validation.data(), **settings)


def test_inputs_without_a_gradient_are_refused_before_the_first_epoch(
    train, validation
):
    """An `Embedding` rounds them, as a layer that casts does."""
    model = network(layers.Lambda(lambda x: tf.cast(tf.cast(x, "int32"), "float32")))
    with pytest.raises(InputError, match="no gradient reaches.*or num_levels=1"):
        Outcome(train, validation, model)


def test_validation_examples_need_levels_too(train, validation):
    plain = validation.data().map(lambda _, x, y: (x, y))
    levels = RobustnessLevels.undivided(train.ids, 1)
    with pytest.raises(InputError, match="ranks the validation examples too"):
        ARAdaLS(
            AdaptiveLabelSmoothing(Z, 1),
            plain,
            refresh_every=2,
            refresh_data=train.data(),
            refresh_levels=levels,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refresh_every": 6}, "must be below the 6 epochs.*received 6"),
        ({"bounds": (0, 0.5)}, r"images must lie in \[0, 0.5\]"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_epoch(
    settings, message, train, validation
):
    model = network()
    before = model.get_weights()
    with pytest.raises(InputError, match=message):
        Outcome(train, validation, model, **settings)
    for mine, its in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_without_fit_the_number_of_epochs_must_be_told(train, validation):
    for alpha, every, what in (("auto", None, "alpha"), (0.1, 2, "refresh_every")):
        data = {"refresh_data": train.data(), "refresh_levels": train.undivided()}
        callback = ARAdaLS(
            AdaptiveLabelSmoothing(Z, R, alpha),
            validation.data(),
            validation.undivided(),
            refresh_every=every,
            **(data if every else {}),
        )
        callback.set_model(network())
        with pytest.raises(InputError, match=f"{what}.*set_params"):
            callback.on_train_begin()
