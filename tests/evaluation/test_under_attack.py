"""Calibration under FGSM and PGD: the attacks, what is kept, what is measured."""

import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import (
    projected_gradient_descent,
)

from ar_adals_tf import calibration, datasets
from ar_adals_tf.attacks import bounded
from ar_adals_tf.attacks.auto import autoattack
from ar_adals_tf.attacks.bounded import attack_step, image_seeds
from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import in_parts, under_attack
from ar_adals_tf.evaluation.measures import SET_DRAWS
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.under_attack import evaluate_attacks
from ar_adals_tf.experiment.runs import own_test_index
from ar_adals_tf.outputs import ensemble_logits_fn, logits_fn
from ar_adals_tf.robustness import RobustnessIndex

EPSILON = 8 / 255


@pytest.fixture(scope="module")
def split():
    return datasets.load("fashion_mnist_small", splits=("test",), limit_examples=70)[
        "test"
    ]


@pytest.fixture(scope="module")
def batch(split):
    """Forty images as floats, their labels and seeds."""
    ids, images, labels = next(iter(split.batches(40)))
    return images, labels, image_seeds(ids)


def network(seed=0, **head):
    """A small convolutional classifier, a little trained."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, **head),
        ]
    )
    train = datasets.load("fashion_mnist_small", limit_examples=500)["train"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not head)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    images = train.images / np.float32(255)
    model.fit(images, train.labels, batch_size=50, epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def model():
    return network()


def run_step(name, logits, batch, epsilon=EPSILON):
    return attack_step(name, logits, epsilon)(*batch).numpy()


# The attacks.


def assert_alike(ours, theirs):
    """All but the pixels whose gradient's sign is lost in rounding."""
    assert (np.abs(ours - theirs) > 1e-6).mean() < 1e-3


def test_fgsm_is_cleverhans_called_plainly(model, batch):
    images, labels, _ = batch
    theirs = fast_gradient_method(
        model, images, EPSILON, np.inf, clip_min=0, clip_max=1, y=labels
    ).numpy()
    assert_alike(run_step("fgsm", logits_fn(model), batch), theirs)
    assert np.abs(theirs - images).mean() > EPSILON / 4


def test_pgd_is_cleverhans_called_plainly(model, batch, monkeypatch):
    """From the same start: there its draw is replaced, here its name for it."""
    images, labels, seeds = batch
    start = bounded.random_start(seeds, (28, 28, 1), EPSILON)
    module = sys.modules[projected_gradient_descent.__module__]
    monkeypatch.setattr(module, "random_lp_vector", lambda *_, **__: start)
    arguments = (model, images, EPSILON, EPSILON / 4, 10, np.inf)
    more = {"clip_min": 0, "clip_max": 1, "y": labels}
    theirs = projected_gradient_descent(*arguments, **more, rand_init=True).numpy()
    monkeypatch.undo()
    assert module.random_lp_vector.__module__ == "cleverhans.tf2.utils"
    ours = run_step("pgd", logits_fn(model), batch)
    assert_alike(ours, theirs)
    still = projected_gradient_descent(*arguments, **more, rand_init=False).numpy()
    assert np.abs(ours - still).max() > EPSILON / 2  # the start matters


def test_starts_are_uniform_and_each_images_own(split):
    ids = next(iter(split.batches(40)))[0]
    seeds = image_seeds(ids)
    start = bounded.random_start(seeds, (28, 28, 1), 0.5).numpy()
    assert start.min() < -0.49 and start.max() > 0.49
    assert start.mean() == pytest.approx(0, abs=0.01)
    assert start.std() == pytest.approx(0.5 / np.sqrt(3), rel=0.01)
    assert len(np.unique(start[:, 0, 0, 0])) == 40
    np.testing.assert_allclose(
        bounded.random_start(seeds, (28, 28, 1), 0.1), start / 5, rtol=1e-5
    )
    order = np.arange(40)[::-1]
    shuffled = bounded.random_start(image_seeds(ids.numpy()[order]), (28, 28, 1), 0.5)
    np.testing.assert_array_equal(shuffled, start[order])
    other = bounded.random_start(image_seeds(ids, 1), (28, 28, 1), 0.5).numpy()
    assert np.corrcoef(other.ravel(), start.ravel())[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_a_linear_model_loses_epsilon_times_the_l1_norm(name):
    """Away from the box the margin falls by exactly eps * ||w_y - w_other||_1."""
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    kernel = rng.normal(size=(36, 2)).astype(np.float32)
    model.set_weights([kernel, np.zeros(2, np.float32)])
    images = tf.constant(rng.uniform(0.3, 0.7, (9, 6, 6, 1)).astype(np.float32))
    labels = rng.integers(0, 2, 9)
    seeds = image_seeds(np.array([b"%d" % i for i in range(9)]))
    moved = run_step(name, logits_fn(model), (images, tf.constant(labels), seeds))

    def margin(x):
        logits = x.reshape(9, 36).astype(np.float64) @ kernel
        return logits[np.arange(9), labels] - logits[np.arange(9), 1 - labels]

    loss = margin(images.numpy()) - margin(moved)
    expected = EPSILON * np.abs(kernel[:, 0] - kernel[:, 1]).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_no_pixel_moves_further_or_leaves_the_range(model, batch, name):
    images = batch[0].numpy()
    logits = logits_fn(model)
    losses = []
    for epsilon in (0.0, 4 / 255, 64 / 255):
        moved = run_step(name, logits, batch, epsilon)
        assert moved.min() >= 0 and moved.max() <= 1
        assert np.abs(moved - images).max() <= epsilon + 1e-7
        loss = tf.keras.losses.sparse_categorical_crossentropy(
            batch[1], logits(moved), from_logits=True
        )
        losses.append(float(tf.reduce_mean(loss)))
    assert losses[0] < losses[1] < losses[2]
    np.testing.assert_array_equal(run_step(name, logits, batch, 0.0), images)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_a_softmax_head_is_attacked_through_its_logits(model, batch, name):
    """Also where its probabilities are 0 and 1 in float32 and have no gradient."""
    sharp = keras.models.clone_model(model)
    sharp.set_weights([*model.get_weights()[:2], *(200 * w for w in _head(model))])
    inputs = keras.Input((28, 28, 1))
    softmax = keras.Model(inputs, keras.layers.Softmax()(sharp(inputs)))
    moved = run_step(name, logits_fn(sharp), batch)
    np.testing.assert_array_equal(run_step(name, logits_fn(softmax), batch), moved)
    assert (np.abs(moved - batch[0].numpy()).max(axis=(1, 2, 3)) > 0).all()


def _head(model):
    return model.get_weights()[2:]


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_an_image_does_not_see_its_batch(model, batch, name):
    """Position changes no bit; the batch size, at most what rounding flips."""
    logits = logits_fn(model)
    step = attack_step(name, logits, EPSILON)
    moved = step(*batch).numpy()
    order = np.random.default_rng(1).permutation(40)
    shuffled = step(*(tf.gather(column, order) for column in batch)).numpy()
    np.testing.assert_array_equal(shuffled, moved[order])
    parts = [step(*(c[i : i + 8] for c in batch)).numpy() for i in range(0, 40, 8)]
    assert_alike(np.concatenate(parts), moved)


def test_an_ensembles_average_is_attacked(model, batch):
    """FGSM's direction is that of the mean probability, not of any member's logits."""
    members = [model, network(1)]
    images, labels, _ = batch
    with tf.GradientTape() as tape:
        tape.watch(images)
        mean = sum(tf.nn.softmax(m(images)) for m in members) / 2
        own = tf.gather(mean, labels, batch_dims=1)
    away = -np.sign(tape.gradient(own, images).numpy())
    moved = run_step("fgsm", ensemble_logits_fn(members), batch)
    expected = np.clip(images.numpy() + np.float32(EPSILON) * away, 0, 1)
    assert_alike(moved, expected)
    one = run_step("fgsm", logits_fn(members[0]), batch)
    assert (np.abs(moved - one) > 1e-6).mean() > 0.05
    np.testing.assert_allclose(
        tf.exp(ensemble_logits_fn(members)(images)), mean, rtol=1e-4, atol=1e-7
    )


# What is kept and measured.


@pytest.fixture(scope="module")
def clean(model, split):
    return Predictor(model)(split, verbose=False)


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Compile each attack once; the tests evaluate one and the same model."""
    steps = {}

    def step(name, logits, epsilon):
        if (name, epsilon) not in steps:
            steps[name, epsilon] = attack_step(name, logits, epsilon)
        return steps[name, epsilon]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_attack, "attack_step", step)
        yield


def evaluated(model, split, clean, folder, attacks=("fgsm", "pgd"), **more):
    more = {"epsilons": (0, 8), "batch_size": 32, "verbose": False} | more
    return evaluate_attacks([model], split, clean, folder, attacks, **more)


def plain(labels, logits, temperature=1.0, bins=15):
    """Accuracy, ECE, NLL, Brier and confidence, written plainly."""
    e = np.exp(logits.astype(np.float64) / temperature)
    p = e / e.sum(axis=1, keepdims=True)
    right, confidence = p.argmax(axis=1) == labels, p.max(axis=1)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    ece = sum(abs((right - confidence)[index == b].sum()) for b in range(bins))
    return {
        "accuracy": right.mean(),
        "ece": ece / len(labels),
        "nll": -np.log(p[np.arange(len(labels)), labels]).mean(),
        "brier": ((p - np.eye(10)[labels]) ** 2).sum(axis=1).mean(),
        "mean_confidence": confidence.mean(),
    }


def test_figures_before_and_after_temperature(model, split, clean, tmp_path):
    """Oracle: the model on CleverHans's images, and plain NumPy."""
    found = evaluated(model, split, clean, tmp_path, temperature=1.7)
    images = tf.constant(split.images / np.float32(255))
    theirs = fast_gradient_method(
        model, images, EPSILON, np.inf, clip_min=0, clip_max=1, y=split.labels
    )
    logits = model(theirs).numpy()
    for of, t in ((found, 1.0), (found["temperature_scaled"], 1.7)):
        measures = of["by_attack"]["fgsm"]["8"]
        for name, value in plain(split.labels, logits, t).items():
            assert measures[name] == pytest.approx(value, rel=5e-3, abs=2e-3), name
        bins = measures["reliability"]
        counts = np.array(bins["counts"])
        assert counts.sum() == 70 and len(counts) == 15
        gap = np.abs(np.subtract(bins["accuracy"], bins["confidence"]))
        assert counts @ gap / 70 == pytest.approx(measures["ece"])
        stored = Predictions.load(tmp_path / "pgd_8.npz")
        pgd = of["by_attack"]["pgd"]["8"]
        for name, value in plain(split.labels, stored.logits, t).items():
            assert pgd[name] == pytest.approx(value, rel=1e-4), name
    assert (
        found["by_attack"]["pgd"]["8"]["nll"] > found["by_attack"]["fgsm"]["8"]["nll"]
    )
    assert found["temperature_scaled"]["temperature"] == 1.7
    assert found["epsilons"] == [0, 8]


def test_every_ece_under_attack_has_its_floor_and_its_interval(
    model, split, clean, tmp_path
):
    """Oracle: the functions of calibration on the stored predictions."""
    of = evaluated(model, split, clean, tmp_path, ["fgsm"], temperature=1.7)
    for found, t in ((of, None), (of["temperature_scaled"], 1.7)):
        stored = Predictions.load(tmp_path / "fgsm_8.npz").at(t)
        for epsilon, own, draws in (("8", stored, SET_DRAWS), ("0", clean.at(t), 1000)):
            measures = found["by_attack"]["fgsm"][epsilon]
            p = own.probabilities
            floor = calibration.calibration_floor(p.max(axis=1), draws=draws)
            assert measures["floor"] == pytest.approx(floor._asdict())
            intervals = calibration.bootstrap_intervals(own.labels, p, draws=draws)
            for name, interval in intervals.items():
                found_ends = measures["interval"][name]
                assert found_ends == pytest.approx(interval[1:], abs=1e-7)
            assert measures["smece"] > 0


def test_strength_0_is_the_clean_test_set(model, split, clean, tmp_path):
    from ar_adals_tf.evaluation.measures import measure

    found = evaluated(model, split, clean, tmp_path, epsilons=(0,), temperature=2.0)
    metrics = measure(clean, 15, temperature=2.0)
    for name in ("fgsm", "pgd"):
        measures = found["by_attack"][name]["0"]
        assert {k: measures[k] for k in metrics["clean"]} == metrics["clean"]
        measures = found["temperature_scaled"]["by_attack"][name]["0"]
        scaled = metrics["temperature_scaled"]["clean"]
        assert {k: measures[k] for k in scaled} == scaled
    assert not list(tmp_path.glob("*.npz"))


def test_without_a_temperature_there_is_no_second_half(model, split, clean, tmp_path):
    found = evaluated(model, split, clean, tmp_path, ("fgsm",))
    assert "temperature_scaled" not in found and list(found["by_attack"]) == ["fgsm"]
    assert "l2_success" not in found


def test_levels_average_to_the_whole(model, split, clean, tmp_path):
    order = np.random.default_rng(0).permutation(len(split))
    distances = np.random.default_rng(1).random(len(split)).astype(np.float32)
    index = RobustnessIndex(split.ids[order], distances, np.ones(len(split), bool))
    found = evaluated(model, split, clean, tmp_path, index=index, num_levels=7)
    measures = found["by_attack"]["pgd"]["8"]
    by_level = measures["by_level"]
    assert by_level["counts"] == [10] * 7
    assert np.mean(by_level["accuracy"]) == pytest.approx(measures["accuracy"])
    assert np.mean(by_level["confidence"]) == pytest.approx(measures["mean_confidence"])
    least = order[np.argsort(distances)[:10]]
    stored = Predictions.load(tmp_path / "pgd_8.npz")
    right = stored.logits.argmax(axis=1) == split.labels
    assert by_level["accuracy"][0] == pytest.approx(right[least].mean())


def test_an_interrupted_evaluation_goes_on(model, split, clean, tmp_path, monkeypatch):
    whole = evaluated(model, split, clean, tmp_path / "whole")
    made, step = [], under_attack.attack_step

    def counted(name, logits, epsilon):
        made.append((name, round(255 * epsilon)))
        if len(made) == 2:
            raise KeyboardInterrupt
        return step(name, logits, epsilon)

    monkeypatch.setattr(under_attack, "attack_step", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluated(model, split, clean, tmp_path)
    assert evaluated(model, split, clean, tmp_path) == whole
    assert made == [("fgsm", 8), ("pgd", 8), ("pgd", 8)]
    again = evaluated(model, split, clean, tmp_path, ("pgd",), epsilons=(0,))
    assert again == whole and len(made) == 3  # all that is there is measured
    (tmp_path / "pgd_8.npz").write_bytes(b"damaged")
    assert evaluated(model, split, clean, tmp_path) == whole
    assert made[3:] == [("pgd", 8)]
    evaluated(model, split, clean, tmp_path, ("pgd",), identity="another model")
    assert made[4:] == [("pgd", 8)]
    assert not (tmp_path / "fgsm_8.npz").exists()  # of the other model


def test_the_l2_curve_counts_distances(model, split, clean, tmp_path):
    rng = np.random.default_rng(0)
    distances = rng.choice(under_attack.L2_BUDGETS, 70).astype(np.float32)  # ties
    distances[:5] = np.inf
    budgets = under_attack.L2_BUDGETS.astype(np.float32)
    success = under_attack.l2_success(distances, budgets)
    expected = [np.mean(distances <= budget) for budget in budgets]
    np.testing.assert_allclose(success, expected, rtol=1e-12)
    metadata = {"attack": "cw", "model_digest": digest_model(model)}
    index = RobustnessIndex(split.ids, distances, np.isfinite(distances), metadata)
    found = evaluated(model, split, clean, tmp_path, epsilons=(0,), own_index=index)
    curve = found["l2_success"]
    np.testing.assert_allclose(
        curve["success"], [np.mean(distances <= b) for b in curve["budgets"]]
    )
    assert curve["attack"] == "cw" and json.dumps(found)


def test_a_runs_own_index_is_of_its_own_model(model, split, tmp_path):
    others = keras.models.clone_model(model)
    ones = np.ones(len(split), np.float32)
    for attack, of in (("ddn", model), ("cw", others), ("cw,steps=2", model)):
        folder = tmp_path / "robustness" / attack
        folder.mkdir(parents=True)
        metadata = {"attack": attack, "model_digest": digest_model(of)}
        index = RobustnessIndex(split.ids, ones, ones > 0, metadata)
        index.save(folder / "test.npz")
    assert own_test_index(tmp_path, model).metadata["attack"] == "cw,steps=2"
    assert own_test_index(tmp_path, others).metadata["attack"] == "cw"
    assert own_test_index(tmp_path, keras.models.clone_model(model)) is None
    # A damaged one, CW-L2's, is passed over, as `choose_index` does.
    (tmp_path / "robustness" / "cw" / "test.npz").write_bytes(b"no archive")
    assert own_test_index(tmp_path, model).metadata["attack"] == "cw,steps=2"


@pytest.mark.parametrize(
    ("attacks", "epsilons", "message"),
    [
        (
            ["cw"],
            ["8"],
            "--attacks takes fgsm, pgd, pgd_conf, .*received 'cw'",
        ),
        (["fgsm"], ["-1"], "from 0 to 255; received -1"),
        (["square"], ["256"], "from 0 to 255; received 256"),
        (["square_l2"], ["25501"], "from 0 to 25500; received 25501"),
        (["square_l2", "pgd"], ["256"], "from 0 to 255; received 256"),
        (["fgsm"], ["0", "256"], "received 0, 256"),
        (["fgsm"], ["nan"], "received nan"),
        (["fgsm"], [], "received none"),
        (["fgsm"], ["8/255"], "numbers over 255; received 8/255"),
    ],
)
def test_wrong_requests_are_refused(attacks, epsilons, message):
    with pytest.raises(InputError, match=message):
        under_attack.parse_epsilons(epsilons, attacks)


def test_the_norm_chooses_the_attack():
    norm = under_attack.attacks_in_norm
    assert norm(["fgsm", "square"], "linf") == ["fgsm", "square"]
    assert norm(["square", "underconfidence"], "l2") == [
        "square_l2",
        "underconfidence_l2",
    ]
    assert norm(["autoattack_l2"], "linf") == norm(["autoattack_l2"], "l2")
    assert norm(["cw"], "l2") == ["cw"]  # refused by its own sentence
    with pytest.raises(InputError, match="l2 is for apgd_ce, .*; received 'pgd'"):
        norm(["square", "pgd"], "l2")
    with pytest.raises(InputError, match="--attack_norm takes linf, l2; received 'l1'"):
        norm(["square"], "l1")


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(autoattack, "AUTO_STEPS", 10)
    monkeypatch.setattr(autoattack, "AUTO_TARGETS", 2)
    monkeypatch.setattr(autoattack, "AUTO_QUERIES", 30)


@pytest.mark.slow
def test_autoattack_leaves_no_more_right_than_its_first_part(
    model, split, clean, tmp_path, few_steps
):
    found = evaluated(model, split, clean, tmp_path, ["apgd_ce", "autoattack"])
    accuracy = {name: own["8"]["accuracy"] for name, own in found["by_attack"].items()}
    assert 0 < accuracy["autoattack"] <= accuracy["apgd_ce"] < 0.9
    whole = Predictions.load(tmp_path / "autoattack_8.npz")
    right = whole.logits.argmax(axis=1) == split.labels
    assert accuracy["autoattack"] == pytest.approx(right.mean())
    assert json.dumps(found) and not (tmp_path / "parts").exists()


def test_attacks_on_confidence_keep_the_accuracy_and_spoil_the_ece(
    model, split, clean, tmp_path
):
    names = ["underconfidence", "overconfidence", "miscalibration"]
    found = evaluated(model, split, clean, tmp_path, names, temperature=1.3)
    for of in (found, found["temperature_scaled"]):
        by_attack = of["by_attack"]
        means = {}
        for name in names:
            before, after = by_attack[name]["0"], by_attack[name]["8"]
            assert after["accuracy"] == before["accuracy"]
            means[name] = after["mean_confidence"] - before["mean_confidence"]
        assert means["underconfidence"] < -0.05 < 0.05 < means["overconfidence"]
        worst = by_attack["miscalibration"]["8"]["ece"]
        assert worst > by_attack["miscalibration"]["0"]["ece"] + 0.05
    classes = clean.logits.argmax(axis=1)
    apart = {}
    for name in names:
        stored = Predictions.load(tmp_path / f"{name}_8.npz")
        np.testing.assert_array_equal(stored.logits.argmax(axis=1), classes)
        confidence = stored.probabilities.max(axis=1)
        apart[name] = np.abs(confidence - (classes == clean.labels)).mean()
    # Image by image it is the worst. The ECE's bins may let right and wrong cancel out.
    assert apart["miscalibration"] > max(apart[name] for name in names[:2])


def test_an_interrupted_set_goes_on_part_by_part(
    model, split, clean, tmp_path, monkeypatch, few_steps
):
    monkeypatch.setattr(in_parts, "PART", 30)
    attacked, real = [], autoattack.Prepared.__call__

    def counted(self, images, *others):
        attacked.append(len(images))
        if len(attacked) == 5:
            raise KeyboardInterrupt
        return real(self, images, *others)

    monkeypatch.setattr(autoattack.Prepared, "__call__", counted)
    whole = evaluated(model, split, clean, tmp_path / "whole", ["apgd_ce"])
    assert attacked == [30, 30, 10]
    with pytest.raises(KeyboardInterrupt):
        evaluated(model, split, clean, tmp_path / "cut", ["apgd_ce"])
    assert attacked[3:] == [30, 30]
    for path in (tmp_path / "cut").rglob("settings.json"):  # of an older version
        settings = json.loads(path.read_text())
        fewer = {"apgd_ce": settings["attacks"]["apgd_ce"]}
        path.write_text(json.dumps(settings | {"attacks": fewer}))
    assert evaluated(model, split, clean, tmp_path / "cut", ["apgd_ce"]) == whole
    assert attacked[5:] == [30, 10]  # the first part was there
    one, other = (
        (tmp_path / name / "apgd_ce_8.npz").read_bytes() for name in ("whole", "cut")
    )
    assert one == other
    assert [path.name for path in sorted((tmp_path / "cut").iterdir())] == [
        "apgd_ce_8.npz",
        "settings.json",
    ]


def test_a_folder_that_knows_fewer_attacks_keeps_its_sets(
    model, split, clean, tmp_path
):
    evaluated(model, split, clean, tmp_path, ["fgsm"])
    path, kept = tmp_path / "settings.json", (tmp_path / "fgsm_8.npz").read_bytes()
    settings = json.loads(path.read_text())
    older = {name: settings["attacks"][name] for name in ("fgsm", "pgd")}
    path.write_text(json.dumps(settings | {"attacks": older}))
    (tmp_path / "mark.npz").write_bytes(b"")  # removed with void sets
    evaluated(model, split, clean, tmp_path, ["fgsm"])
    assert (tmp_path / "mark.npz").exists()
    assert (tmp_path / "fgsm_8.npz").read_bytes() == kept
    assert json.loads(path.read_text()) == settings
    other = older | {"pgd": older["pgd"] | {"steps": 20}}
    path.write_text(json.dumps(settings | {"attacks": other}))
    with pytest.warns(UserWarning, match=r"other settings \(attacks\)"):
        evaluated(model, split, clean, tmp_path, ["fgsm"])
    assert not (tmp_path / "mark.npz").exists()


def test_strengths_are_those_that_files_are_named_by():
    """Others would never be found again, as by a study that waits for them."""
    assert under_attack.parse_epsilons(["1.2345678", "1.234571", "8"], ["fgsm"]) == [
        1.23457,
        8.0,
    ]
