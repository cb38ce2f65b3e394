"""Several replicas and several workers give what one gives.

Logical devices and clusters have to be set before TensorFlow runs, so these tests start
processes: two halves of the processor, and two real workers that talk over TCP.
"""

import csv
import functools
import json
import signal
import socket
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import datasets, files
from ar_adals_tf.distribution.replicas import (
    Replicas,
    everyones,
    map_rows,
    num_workers,
    share_of,
)
from ar_adals_tf.distribution.strategy import (
    check_batch_size,
    choose,
    together,
    unsynchronised,
)
from ar_adals_tf.errors import InputError
from ar_adals_tf.methods import losses
from ar_adals_tf.methods.losses import GlobalMean
from ar_adals_tf.robustness import RobustnessIndex
from benchmarks.breaking import processes
from benchmarks.breaking.processes import Command
from tests.helpers import have_a_thin_network_and_no_pictures, start_source

ATTACKS = {
    "cw": {"iterations": 40, "search_steps": 2},
    "ddn": {"steps": 20},
    "cleverhans_cw_l2": {"iterations": 20, "search_steps": 2, "learning_rate": 0.05},
}
TRAIN = [
    "--dataset=fashion_mnist_small",
    "--limit_examples=150",
    "--epochs=2",
    "--batch_size=50",
    "--attack=margin",
    "--learning_rate=0.02",
    "--notensorboard",
]
MIRRORED = ["--strategy=mirrored", "--cpu_replicas=2"]
WORKERS = ["--strategy=multi_worker"]


def start_workers(start):
    """Start two workers, as on two machines with one disk, by what starts one.

    `start` takes the variables of a worker's environment.
    """
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    hosts = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    return [
        start({"TF_CONFIG": json.dumps({"cluster": {"worker": hosts}, "task": task})})
        for task in tasks
    ]


def start_training(folder, *arguments, env=None):
    """Start the command that trains; its run is below the folder."""
    folder.mkdir(exist_ok=True)
    command = Command("train", (*TRAIN, *arguments))
    light = have_a_thin_network_and_no_pictures
    return processes.start(command, folder, light, env=env)


def finish(*running):
    """Wait for all, and return what each printed."""
    ends = [process.end() for process in running]
    assert [ended.status for ended in ends] == [0] * len(ends), ends
    return [ended.out for ended in ends]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Return a small trained network's file."""
    train = datasets.load("fashion_mnist_small", splits=("train",))["train"]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 5, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(train.images / 255, train.labels, epochs=3, verbose=0)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


INDEXES = """
import json, os
os.environ |= json.loads(environment)
from ar_adals_tf import datasets
from ar_adals_tf.distribution.strategy import choose, together
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.robustness import RobustnessIndex

name, cpu_replicas, model_file, folder, attacks = json.loads(arguments)
choose(name, cpu_replicas)
with together():
    model = load_model(model_file)
    images = datasets.load("fashion_mnist_small", limit_examples=150)["test"]
    for attack, settings in attacks.items():
        index = RobustnessIndex.compute(model, images, attack=attack, **settings)
        index.save(f"{folder}/{attack}.npz")
        print(attack, len(index), "images")
"""


@pytest.mark.parametrize(
    "names",
    [("cw", "ddn"), pytest.param(("cleverhans_cw_l2",), marks=pytest.mark.slow)],
    ids=" and ".join,
)
def test_the_index_of_two_replicas_and_of_two_workers_is_that_of_one(
    names, model_file, tmp_path
):
    def start(name, cpu_replicas, env=None):
        (tmp_path / name).mkdir(exist_ok=True)
        where = str(tmp_path / name)
        chosen = {attack: ATTACKS[attack] for attack in names}
        given = json.dumps([name, cpu_replicas, str(model_file), where, chosen])
        values = f"environment, arguments = {json.dumps(env or {})!r}, {given!r}\n"
        return start_source(values + INDEXES, tmp_path / name)

    finish(start("none", None))
    finish(start("mirrored", 2))
    finish(*start_workers(lambda env: start("multi_worker", None, env)))
    for attack in names:
        one, replicas, workers = (
            RobustnessIndex.load(tmp_path / folder / f"{attack}.npz")
            for folder in ("none", "mirrored", "multi_worker")
        )
        assert one.found.mean() > 0.6
        for other in (replicas, workers):
            np.testing.assert_array_equal(other.ids, one.ids)
            np.testing.assert_array_equal(other.found, one.found)
            a, b = other.distances[one.found], one.distances[one.found]
            assert np.median(np.abs(a / b - 1)) <= 1e-5, attack
            assert (other.levels(10) == one.levels(10)).mean() >= 0.999, attack


def history(run):
    with open(run / "history.csv") as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def test_two_replicas_and_two_workers_train_like_one(tmp_path):
    runs = {
        name: tmp_path / name / "fashion_mnist_small-ar_adals-0"
        for name in ("one", "replicas", "workers")
    }
    # One vanilla model for all: rounding in another one could move an image to another
    # level, which would then have another mean.
    vanilla = f"--vanilla_dir={tmp_path / 'one' / 'fashion_mnist_small-vanilla-0'}"
    into = {name: (f"--output_dir={run}", vanilla) for name, run in runs.items()}
    finish(start_training(tmp_path / "one", *into["one"]))
    finish(start_training(tmp_path / "replicas", *MIRRORED, *into["replicas"]))
    workers = functools.partial(
        start_training, tmp_path / "workers", *WORKERS, *into["workers"]
    )
    printed = finish(*start_workers(lambda env: workers(env=env)))
    # The chief speaks for all.
    assert "accuracy" in printed[0] and "accuracy" not in printed[1]
    one = history(runs["one"])
    assert one[0]["loss"] > 1.2 * one[1]["loss"]  # it learns
    for name, replicas, workers in (("replicas", 2, 1), ("workers", 2, 2)):
        other = history(runs[name])
        for own, theirs in zip(one, other, strict=True):
            for key in ("loss", "val_loss", "p/0", "eps/0", "conf/3"):
                assert theirs[key] == pytest.approx(own[key], rel=1e-3), key
        config = json.loads((runs[name] / "config.json").read_text())
        assert config["strategy"]["replicas"] == replicas
        assert config["strategy"]["workers"] == workers
        metrics = json.loads((runs[name] / "metrics.json").read_text())
        own = json.loads((runs["one"] / "metrics.json").read_text())
        assert metrics["clean"]["nll"] == pytest.approx(own["clean"]["nll"], rel=1e-3)
        assert not list(runs[name].glob(".*"))  # nothing half-written is left


@pytest.mark.slow
def test_members_spread_over_devices_train_as_on_one(tmp_path):
    tables = []
    for name, more in (("one", []), ("two", MIRRORED)):
        run = tmp_path / name / "run"
        flags = ["--method=ar_adals_of_ensemble", "--ensemble_size=3", *more]
        # One vanilla model for both, so that nothing but the members' devices differs.
        flags.append(f"--vanilla_dir={tmp_path / 'one' / 'vanilla'}")
        finish(start_training(tmp_path / name, *flags, f"--output_dir={run}"))
        tables.append((run / "history.csv").read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_worker_stops_the_other_and_the_run_goes_on(tmp_path, lost):
    def start(name, env):
        flags = [*WORKERS, "--method=vanilla", "--epochs=30"]
        flags.append(f"--output_dir={runs[name]}")
        return start_training(tmp_path / name, *flags, env=env)

    runs = {name: tmp_path / name / "fashion_mnist_small-vanilla-0" for name in "ab"}
    workers = start_workers(functools.partial(start, "a"))
    table = runs["a"] / "history.csv"
    deadline = time.monotonic() + 200
    while not table.exists() or len(history(runs["a"])) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers[lost].send(signal.SIGKILL)
    ended = workers[1 - lost].wait(200)
    workers[lost].end()
    assert ended.status == 2
    printed = ended.out + ended.err
    assert "another worker is lost" in printed and "Traceback" not in printed
    assert 3 <= len(history(runs["a"])) < 30
    for name in runs:
        finish(*start_workers(functools.partial(start, name)))
    assert table.read_bytes() == (runs["b"] / "history.csv").read_bytes()


# Seven images for two replicas: 4 and 3, then 1 and none.
UNEVEN = """
import json
import numpy as np
import tensorflow as tf
from ar_adals_tf.distribution.replicas import map_rows
from ar_adals_tf.distribution.strategy import by_device, choose, member_devices
from ar_adals_tf.methods import losses

strategy = choose("mirrored", cpu_replicas=2)
rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3)).astype("float32")
y = np.eye(4, dtype="float32")[rng.integers(0, 4, 8)]
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
loss = losses.GlobalMean(losses.cross_entropy)
with strategy.scope():
    weights = tf.Variable(np.ones((3, 4), "float32"))

@tf.function
def step(batch):
    def of_replica(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, x @ weights)
        return value, tape.gradient(value, weights)
    return [
        strategy.reduce("SUM", part, axis=None)
        for part in strategy.run(of_replica, batch)
    ]

found = [
    [part.numpy().tolist() for part in step(batch)]
    for batch in strategy.experimental_distribute_dataset(data)
]
spread = map_rows(strategy, lambda x: x @ weights + 1)
rows = {n: spread(x[:n]).tolist() for n in (8, 7, 1)}
makers = [lambda i=i: (i, tf.Variable(1.0)) for i in range(3)]
members = by_device(makers, member_devices(3))
where = [(i, v.device[-5:]) for i, v in members]
split = [member_devices(count) for count in (0, 1)]
print(json.dumps([x.tolist(), y.tolist(), found, rows, where, split]))
"""


def test_uneven_parts_and_members(tmp_path):
    (output,) = finish(start_source(UNEVEN, tmp_path))
    x, y, found, rows, where, split = json.loads(output.splitlines()[-1])
    # The members of an ensemble take the devices in turn; one member has all of them.
    assert where == [[0, "CPU:0"], [1, "CPU:1"], [2, "CPU:0"]]
    assert split == [[], []]
    x, y = np.array(x), np.array(y)
    for part, (value, gradient) in zip((slice(0, 7), slice(7, 8)), found, strict=True):
        # Equal weights: every class has probability 1/4.
        assert value == pytest.approx(np.log(4), rel=1e-5)
        slope = x[part].T @ (np.full_like(y[part], 0.25) - y[part])
        np.testing.assert_allclose(gradient, slope / len(x[part]), atol=1e-6)
    for count, result in rows.items():
        expected = np.repeat(x[: int(count)].sum(1, keepdims=True), 4, axis=1) + 1
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_global_mean_of_one_replica_is_the_mean():
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    logits = np.arange(12, dtype="float32").reshape(4, 3) % 5
    expected = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, logits)
    found = GlobalMean(losses.cross_entropy)(labels, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_device_needs_no_strategy():
    strategy = tf.distribute.get_strategy()
    rows = np.arange(6.0).reshape(3, 2)
    assert everyones(strategy, rows) is rows
    np.testing.assert_array_equal(map_rows(strategy, lambda x: 2 * x)(rows), 2 * rows)
    assert Replicas(strategy).share(5) == slice(0, 5)
    assert num_workers(strategy) == 1


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shares_of_workers_cover_all_images_once(workers):
    shares = [np.arange(13)[share_of(13, rank, workers)] for rank in range(workers)]
    assert np.concatenate(shares).tolist() == list(range(13))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_batch_normalisation_of_one_replica_is_named():
    def model(synchronized):
        return keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.BatchNormalization(synchronized=synchronized, name="norm"),
            ]
        )

    assert unsynchronised(model(False)) == ["norm"]
    assert unsynchronised(model(True)) == []


@pytest.mark.parametrize(
    ("name", "settings", "config", "sentence"),
    [
        ("everywhere", {}, None, "must be one of none, mirrored"),
        ("none", {"cpu_replicas": 2}, None, "for --strategy=mirrored"),
        ("mirrored", {}, None, "finds no GPU"),
        ("multi_worker", {}, None, "needs the environment variable TF_CONFIG"),
        ("multi_worker", {}, "{", "TF_CONFIG"),
        ("multi_worker", {}, '{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG"),
        (
            "multi_worker",
            {},
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "TF_CONFIG",
        ),
    ],
)
def test_a_strategy_without_devices_is_refused(
    monkeypatch, name, settings, config, sentence
):
    if tf.config.list_physical_devices("GPU") and name == "mirrored":
        pytest.skip("this machine has a GPU")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match=sentence):
        choose(name, **settings)


@pytest.mark.parametrize(
    ("replicas", "batch_size", "count", "fits"),
    [
        (1, 50, 151, True),
        (2, 50, 150, True),
        (2, 50, 152, True),
        (2, 50, 151, False),
        (4, 50, 155, False),
        (4, 50, 157, True),
        (4, 3, 9, False),
        (2, 50, 1, False),
    ],
)
def test_a_batch_that_leaves_a_replica_empty_is_refused(
    replicas, batch_size, count, fits
):
    if fits:
        check_batch_size(batch_size, count, replicas)
    else:
        with pytest.raises(InputError, match="would get none"):
            check_batch_size(batch_size, count, replicas)


GONE = tf.errors.UnavailableError(None, None, "gone")


def test_lost_workers_are_only_named_among_several():
    with pytest.raises(tf.errors.UnavailableError), together():
        raise GONE


@pytest.fixture
def meetings():
    """Return what the meetings of this process do in turn: nothing, or an error."""
    left = []

    def meet():
        error = left.pop()
        if error:
            raise error

    files.share_disk(True, meet)
    yield left
    files.share_disk(True, lambda: None)


@pytest.mark.parametrize("end", [None, GONE], ids=["there", "gone"])
def test_workers_meet_before_they_end_and_one_may_be_gone_by_then(meetings, end):
    meetings.append(end)
    with together():
        assert len(meetings) == 1
    assert not meetings


def test_who_chooses_to_work_alone_meets_nobody_and_writes(meetings):
    """Also after this process was the second of several workers."""
    files.share_disk(False, meetings.pop)  # an error, since there is none
    choose("none")
    files.meet()
    assert files.writes()


def test_a_worker_that_fails_does_not_wait_for_the_others(meetings):
    meetings.append(None)
    with pytest.raises(InputError, match="wrong"), together():
        raise InputError("wrong")
    assert len(meetings) == 1
