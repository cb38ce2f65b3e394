"""The run that a sweep has trained already is copied: the same bits, no training."""

import dataclasses
import json

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.runs import has_begun, is_finished, saved_config
from ar_adals_tf.training import run as running
from ar_adals_tf.training.run import train
from ar_adals_tf.training.selection import sweep
from ar_adals_tf.training.swept import run_of_sweep, take_over
from tests.helpers import make_run
from tests.training.helpers import (
    assert_same,
    killed_at_each_write,
    make_config,
    names,
    snapshot,
)

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")


@pytest.fixture(scope="module")
def swept(thin_network, tmp_path_factory):
    """Return the folder of a sweep over alpha, in TensorBoard too."""
    folder = tmp_path_factory.mktemp("choice") / "choose"
    sweep(make_config(folder, tensorboard=True), "alpha", ["0.5", "1.0"], folder, [])
    return folder


def config_of(folder, alpha="1.0", **more):
    return make_config(folder, alpha=alpha, **{"tensorboard": True} | more)


@pytest.fixture
def untrained(monkeypatch):
    """Let a training be an error."""

    def fit(*arguments):
        raise AssertionError("something was trained")

    monkeypatch.setattr(running, "fit", fit)


def assert_copied(run, source, **differs):
    """Assert that two folders have the same files, but for some settings."""
    assert run != source
    found, expected = (
        {path.relative_to(folder): content for path, (content, _) in there.items()}
        for folder, there in ((run, snapshot(run)), (source, snapshot(source)))
    )
    ours, theirs = (
        json.loads((folder / "config.json").read_text()) for folder in (run, source)
    )
    assert ours == theirs | {"output_dir": str(run)} | differs
    for one in (found, expected):
        one.pop(next(path for path in one if str(path) == "config.json"))
    assert found == expected
    assert any("tensorboard" in path.parts for path in found)


@pytest.mark.slow
def test_the_run_of_the_same_settings_is_copied(swept, tmp_path, untrained, capsys):
    before = snapshot(swept)
    run = train(config_of(tmp_path / "run", verbose=True), swept=swept)
    assert_copied(run, swept / "alpha=1.0", verbose=True)
    assert f"{run} is a copy of {swept / 'alpha=1.0'}, which" in capsys.readouterr().out
    assert snapshot(swept) == before
    train(config_of(tmp_path / "run"), swept=swept)  # it is finished


def test_the_copy_is_the_run_that_a_training_makes(swept, tmp_path):
    copied = train(config_of(tmp_path / "copied"), swept=swept)
    trained = train(config_of(tmp_path / "trained"))
    assert_same(copied, trained)
    ours, theirs = (
        json.loads((run / "config.json").read_text()) for run in (copied, trained)
    )
    assert ours == theirs | {"output_dir": str(copied)}


def test_a_copy_that_is_interrupted_is_made_again(
    swept, tmp_path, untrained, monkeypatch
):
    run, finished = tmp_path / "run", []

    def work():
        finished.append((run / "metrics.json").exists())
        train(config_of(run), swept=swept)

    assert 5 < killed_at_each_write(monkeypatch, work, most=39) < 39
    assert not finished[-1]
    assert_copied(run, swept / "alpha=1.0")


def test_what_a_killed_copy_had_aside_is_removed(swept, tmp_path, untrained):
    aside = tmp_path / "run" / "tensorboard"
    aside.mkdir(parents=True)
    (event,) = (swept / "alpha=1.0" / "tensorboard").iterdir()
    (aside / f".0123abcd-{event.name}").touch()
    assert_copied(train(config_of(tmp_path / "run"), swept=swept), swept / "alpha=1.0")


def test_an_ensemble_is_copied_with_the_places_of_its_members(
    tmp_path, untrained, monkeypatch
):
    base = {"ensemble_size": 2, "alpha": "1.0"}
    source = make_run(tmp_path / "choose" / "alpha=1.0", "adals", types=(), **base)
    for number in range(2):
        member = make_run(source / f"member_{number}", "adals", seed=number, types=())
        (member / "model.keras").write_bytes(b"a model")
    (tmp_path / "choose" / "sweep.json").write_text("{}")
    config = json.loads((source / "config.json").read_text())
    run = tmp_path / "run"
    given = {name: config[name] for name in config if name != "output_dir"}
    monkeypatch.setattr(running, "_doubts", lambda *_: [])
    train(type(config_of(run))(**given, output_dir=str(run)), swept=tmp_path / "choose")
    for number in range(2):
        member = json.loads((run / f"member_{number}" / "config.json").read_text())
        assert member["output_dir"] == str(run / f"member_{number}")
        assert (run / f"member_{number}" / "model.keras").read_bytes() == b"a model"


def test_a_copy_of_an_ensemble_has_begun_when_all_but_its_measures_is_there(
    tmp_path, monkeypatch
):
    """Or else its members would be trained where a copy was interrupted."""
    base = {"ensemble_size": 2, "alpha": "1.0"}
    source = make_run(tmp_path / "source", "adals", types=(), **base)
    for number in range(2):
        member = make_run(source / f"member_{number}", "adals", seed=number, types=())
        (member / "model.keras").write_bytes(b"a model")
    config = dataclasses.replace(saved_config(source), output_dir=str(tmp_path / "run"))
    run, begun = tmp_path / "run", []
    run.mkdir()

    def work():
        begun.append(has_begun(run))
        if begun[-1]:
            assert set(names(source)) - set(names(run)) <= {"metrics.json"}
            members = [run / "member_0", run / "member_1"]
            assert all(is_finished(saved_config(one), one) for one in members)
        take_over(config, source)

    assert 10 < killed_at_each_write(monkeypatch, work, most=39) < 39
    assert not begun[-4]
    assert names(run) == names(source)


def test_a_run_that_has_begun_goes_on(swept, tmp_path, stop_after):
    config = config_of(tmp_path / "run")
    stop_after(1, train, config)
    trained = train(config, swept=swept)
    assert_same(trained, swept / "alpha=1.0")
    model = (trained / "model.keras").read_bytes()
    assert model != (swept / "alpha=1.0" / "model.keras").read_bytes()  # its time


def test_only_a_finished_run_of_the_same_settings_is_taken(tmp_path):
    levels = {"alpha": "0.5", "vanilla_dir": "v"}
    run = make_run(tmp_path / "s" / "alpha=0.5", "ar_adals", types=(), **levels)
    saved = json.loads((run / "config.json").read_text())

    def found(**other):
        there = type(config_of(run))(**saved | {"output_dir": "elsewhere"} | other)
        return run_of_sweep(there, tmp_path / "s")

    assert found() == found(verbose=not saved["verbose"]) == run
    for other in ({"alpha": "0.4"}, {"seed": 1}, {"vanilla_dir": "w"}, {"epochs": 7}):
        assert found(**other) is None
    (run / "metrics.json").unlink()
    assert found() is None


def test_another_run_than_those_of_the_sweep_is_trained(swept, tmp_path, capsys):
    """One epoch moves no label, which is said before it."""
    config = config_of(tmp_path / "run", alpha="0.7", epochs=1, verbose=True)
    assert (train(config, swept=swept) / "metrics.json").exists()
    words = "with one epoch AdaLS trains with hard labels"
    assert capsys.readouterr().out.startswith(words)


@pytest.mark.parametrize("folder", ["absent", "."])
def test_a_folder_without_a_sweep_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="has no sweep.json; give the --output_dir of"):
        train(config_of(tmp_path / "run"), swept=tmp_path / folder)
    assert not any(tmp_path.iterdir())
