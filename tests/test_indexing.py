"""An index as a job: killed and taken up again, refused, shared, and estimated."""

import os
import signal

import keras
import numpy as np
import pytest

from ar_adals_tf import attacks
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import as_examples
from ar_adals_tf.index.distances import describe
from ar_adals_tf.index.shards import Shards
from ar_adals_tf.indexing import (
    check_place,
    compute_and_save,
    compute_once,
    estimate_cost,
)
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import assert_same_but_for_rounding, held, told

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

    def __getattr__(self, name):
        return getattr(self.runner, name)


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
    assert_same_but_for_rounding(index.distances, whole.distances)
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


# Two processes, and what is there already.


@pytest.fixture
def examples(images):
    return as_examples(images)


@pytest.fixture
def once(model, examples, tmp_path):
    """A function that computes an index once; and the lines that it said."""

    def once(say, attack="ddn", **settings):
        settings = settings or {k: DDN[k] for k in ("steps", "batch_size")}
        path = tmp_path / "index.npz"
        return compute_once(path, model, examples, attack, say, **settings)

    return once


def snapshot(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refuse_to_compute(*_, **__):
    raise AssertionError("computed")


def test_an_index_that_is_there_is_found(once, tmp_path, monkeypatch):
    lines = []
    first = once(lines.append)
    assert lines == [f"{first}\nwritten to {tmp_path / 'index.npz'}"]
    before = snapshot(tmp_path)
    monkeypatch.setattr(RobustnessIndex, "compute", refuse_to_compute)
    second = once(lines.append)
    assert second.metadata == first.metadata
    np.testing.assert_array_equal(second.distances, first.distances)
    assert lines[1].endswith(
        f"found in {tmp_path / 'index.npz'}; remove it to compute it again"
    )
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m | {"attack": "margin"}, "an index of another attack"),
        (lambda m: m | {"settings": {"steps": 5}}, "of other settings of the attack"),
        (lambda m: m | {"model_digest": "0" * 64}, "an index of another model"),
        (lambda m: m | {"digest": "0" * 64}, "an index of other images or labels"),
        (lambda m: {}, "an index of other images or labels"),
        (None, "no robustness index"),
    ],
)
def test_what_is_not_this_index_is_not_overwritten(
    change, words, once, tmp_path, monkeypatch
):
    path = tmp_path / "index.npz"
    np.savez(path, images=np.zeros(3))
    if change:
        path.unlink()
        index = once(str)
        changed = change(dict(index.metadata))
        RobustnessIndex(index.ids, index.distances, index.found, changed).save(path)
    before = snapshot(tmp_path)
    monkeypatch.setattr(RobustnessIndex, "compute", refuse_to_compute)
    with pytest.raises(InputError, match=f"is there already and is .*{words}; give"):
        once(str)
    assert snapshot(tmp_path) == before


def test_the_second_process_waits_and_finds_the_index(once, tmp_path, monkeypatch):
    ready = once(str)
    (tmp_path / "index.npz").rename(tmp_path / "ready.npz")
    monkeypatch.setattr(RobustnessIndex, "compute", refuse_to_compute)
    copy = (
        f"shutil.copy({str(tmp_path / 'ready.npz')!r}, {str(tmp_path / 'index.npz')!r})"
    )
    with held(tmp_path / ".index.npz.lock", copy) as holder:
        lines = []
        index = once(told(holder, lines))
    assert lines[0].startswith(f"waiting for process {holder.pid} on ")
    assert "found in" in lines[1]
    np.testing.assert_array_equal(index.distances, ready.distances)
    assert names(tmp_path) == ["index.npz", "ready.npz"]


def test_another_index_is_refused_after_waiting(once, tmp_path, monkeypatch):
    ready = once(str, "margin", top_k=2)
    (tmp_path / "index.npz").rename(tmp_path / "ready.npz")
    monkeypatch.setattr(RobustnessIndex, "compute", refuse_to_compute)
    copy = (
        f"shutil.copy({str(tmp_path / 'ready.npz')!r}, {str(tmp_path / 'index.npz')!r})"
    )
    with (
        held(tmp_path / ".index.npz.lock", copy) as holder,
        pytest.raises(InputError, match="is an index of another attack; give another"),
    ):
        once(told(holder, []))
    index = RobustnessIndex.load(tmp_path / "index.npz")
    np.testing.assert_array_equal(index.distances, ready.distances)


def test_another_index_is_refused_before_waiting(once, model, examples, tmp_path):
    """What the first process has done so far stays."""
    plan = describe(model, examples, "margin", {})
    shards = Shards(tmp_path / "index.shards", plan | {"shard_size": 5})
    part = {"ids": np.arange(5), "distances": np.ones(5), "found": np.ones(5, bool)}
    shards.save(0, part | {"within": part["found"]})
    before = snapshot(tmp_path)
    with held(tmp_path / ".index.npz.lock") as holder:
        with pytest.raises(InputError, match="process computes .* of another attack"):
            once(pytest.fail)
        assert holder.poll() is None
        assert before.items() <= snapshot(tmp_path).items()


def test_a_killed_process_is_taken_over_from(once, tmp_path):
    with held(tmp_path / ".index.npz.lock") as holder:
        lines = []

        def say(line):
            lines.append(line)
            if line.startswith("waiting"):
                os.kill(holder.pid, signal.SIGKILL)

        once(say)
    assert len(lines) == 2 and "written to" in lines[1]
    assert names(tmp_path) == ["index.npz"]


def test_a_folder_of_that_name_keeps_what_is_not_ours(once, images, model, tmp_path):
    """When the command refuses, and when it ends."""
    folder = tmp_path / "index.shards"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        compute_and_save(tmp_path / "index.npz", model, images + 1, **DDN)
    assert names(folder) == ["thesis.txt"]
    once(str)
    assert names(folder) == ["thesis.txt"]
    (tmp_path / "index.npz").unlink()
    (folder / "plan.json").write_text('["mine"]')
    with pytest.raises(InputError, match="holds the shards of another computation"):
        once(str)
    assert (folder / "plan.json").read_text() == '["mine"]'
    assert names(folder) == ["plan.json", "thesis.txt"]


def test_what_a_killed_process_left_is_swept_when_the_index_is_found(
    once, model, examples, tmp_path
):
    index = once(str)
    shards = tmp_path / "index.shards"
    Shards(shards, {**index.metadata, "shard_size": 4096})
    for path in (
        *(shards / "shard-00000.npz", shards / ".3b1c2fd3-shard-00001.npz"),
        *(tmp_path / ".3b1c2fd3-index.npz", tmp_path / ".index.npz.lock"),
    ):
        path.touch()
    (tmp_path / ".3b1c2fd3-other.npz").touch()
    with held(tmp_path / ".index.npz.lock"):
        once(str)
        assert len(names(tmp_path)) == 6  # another process works there, and says so
    once(str)
    assert names(tmp_path) == [".3b1c2fd3-other.npz", "index.npz"]
    Shards(shards, {**index.metadata, "attack": "margin"})
    (shards / "shard-00000.npz").touch()
    once(str)
    assert names(shards) == ["plan.json", "shard-00000.npz"]


def test_inputs_are_no_place_for_an_index(tmp_path):
    shards = tmp_path / "index.shards"
    shards.mkdir()
    for name in ("model.keras", "shard-00000.npz"):
        (shards / name).touch()
    (tmp_path / "linked.npz").symlink_to(shards / "shard-00000.npz")
    check_place(tmp_path / "index.npz", [str(tmp_path / "model.keras"), None])
    for inputs in (
        [str(shards / "model.keras"), None],
        [str(tmp_path / "model.keras"), str(tmp_path / "linked.npz")],
        [str(tmp_path / "model.keras"), str(tmp_path / "index.npz")],
    ):
        with pytest.raises(InputError, match="is also read"):
            check_place(tmp_path / "index.npz", inputs)
