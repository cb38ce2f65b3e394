"""`evaluate` from Python: what is checked first, said and kept. About 10 seconds."""

import json
import shutil

import keras
import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.datasets import corrupted
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import stages, under_attack
from ar_adals_tf.evaluation.predictions import Predictions, seen_images
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.evaluation.subject_file import EVALUATION_FILES
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import digest_run
from ar_adals_tf.process.locks import LOCK
from tests.helpers import held, told

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


@pytest.fixture
def run(model, tmp_path):
    """A run directory as training leaves it, but for its measures."""
    folder = tmp_path / "run"
    config = Config.make(
        "fashion_mnist_small",
        "vanilla",
        limit_examples=40,
        num_bins=7,
        output_dir=str(folder),
    )
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.as_dict()))
    (folder / "temperature.json").write_text(json.dumps({"temperature": 1.5}))
    model.save(folder / "model.keras")
    return folder


@pytest.fixture
def no_prediction(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("predicted before everything was checked")

    monkeypatch.setattr(stages, "Predictor", refuse)


def test_a_run_is_measured_and_what_else_was_measured_stays(run, model):
    """Oracle: Keras's own predictions. Old measures are kept, in the new form."""
    before = {"accuracy": 0.1, "ece": 0.5, "nll": 2.0, "brier": 0.9, "num_bins": 7}
    ood = {"auroc": 0.6, "aupr": 0.5, "fpr_at_95_recall": 0.9}
    ood |= {"mean_entropy": {"usual": 1.0, "foreign": 2.0}}
    old = {"clean": before, "validation": before, "ood": {"cifar10": ood}}
    old |= {"temperature_scaled": before | {"temperature": 9.0}}
    (run / "metrics.json").write_text(json.dumps(old))
    lines = []
    metrics = evaluate(run, say=lines.append)
    split = datasets.load("fashion_mnist_small", limit_examples=40)["test"]
    logits = model.predict(split.images / np.float32(255), verbose=0)
    accuracy = (logits.argmax(axis=1) == split.labels).mean()
    assert metrics["clean"]["accuracy"] == pytest.approx(accuracy)
    assert metrics["clean"]["num_bins"] == 7
    assert metrics["temperature_scaled"]["temperature"] == 1.5
    e = np.exp(logits / 1.5)
    confidence = (e / e.sum(axis=1, keepdims=True)).max(axis=1).mean()
    clean = metrics["temperature_scaled"]["clean"]
    assert clean["mean_confidence"] == pytest.approx(confidence, rel=1e-5)
    assert metrics["validation"] == before
    means = metrics["ood"]["cifar10"]["mean_entropy"]
    assert means == {"in_distribution": 1.0, "out_of_distribution": 2.0}
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert lines[0].startswith("Vanilla: accuracy ")
    assert lines[-1] == f"written to {run}"


def test_a_quick_look_lies_apart_and_takes_the_first_images(run):
    arguments = {"shift_types": ["contrast"], "severities": ["2"], "say": str}
    metrics = evaluate(run, shift=True, limit_examples=15, **arguments)
    assert metrics["clean"]["num_examples"] == 40
    assert metrics["shift-first-15"]["num_examples"] == 15
    assert "shift" not in metrics
    quick = Predictions.load(run / "shift-first-15" / "contrast_2.npz")
    metrics = evaluate(run, shift=True, **arguments)
    assert metrics["shift"]["num_examples"] == 40 and "shift-first-15" in metrics
    whole = Predictions.load(run / "shift" / "contrast_2.npz")
    np.testing.assert_array_equal(quick.ids, whole.ids[:15])


def test_runs_that_share_a_cache_are_measured_as_without_it(run, tmp_path, monkeypatch):
    """Predictions and measures are equal bit for bit; the second makes no set."""
    how = {"shift": True, "shift_types": ["contrast", "fog"], "severities": [1, 4]}
    how["say"] = str
    first, second = tmp_path / "first", tmp_path / "second"
    for other in (first, second):
        shutil.copytree(run, other)
    plain = evaluate(run, **how)
    assert evaluate(first, shift_cache_dir=tmp_path / "sets", **how) == plain

    def refuse(*_, **__):
        raise AssertionError("a set was made again")

    monkeypatch.setattr(corrupted, "corrupt", refuse)
    assert evaluate(second, shift_cache_dir=tmp_path / "sets", **how) == plain
    for path in sorted((run / "shift").iterdir()):
        for other in (first, second):
            assert (other / "shift" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "sets").iterdir())) == 4


def test_a_run_is_certified_and_keeps_its_votes(run):
    how = {"certify": True, "certify_samples": 60, "certify_selection_samples": 20}
    lines = []
    metrics = evaluate(run, sigma=["0.25", "0.5"], **how, say=lines.append)
    assert list(metrics["certified"]["by_sigma"]) == ["0.25", "0.5"]
    assert metrics["certified"]["num_examples"] == 40
    assert metrics["certified"]["num_bins"] == 7
    assert (run / "certified" / "sigma_0.25.npz").exists()
    assert any(line.startswith("smoothed by noise of 0.25 (40 i") for line in lines)
    again = evaluate(run, **how | {"certify_images": 12}, say=str)
    assert again["certified"]["num_examples"] == 12
    quick = evaluate(run, **how, limit_examples=10, say=str)
    assert quick["certified-first-10"]["num_examples"] == 10
    assert quick["certified"] == again["certified"] == read_metrics(run)["certified"]


def test_predictions_of_version_0_1_0_are_taken_over(run, monkeypatch):
    """Its settings.json of shift and attacks, word for word."""
    model, seed = digest_run(run), 0
    common = {"dataset": "fashion_mnist_small", "num_examples": 40}
    cleverhans = {"norm": "inf", "label": "true", "by": "cleverhans"}
    pgd = {"steps": 10, "step_size": "epsilon / 4", "random_start": True}
    attacks = {"fgsm": cleverhans, "pgd": cleverhans | pgd}
    folders = {
        "shift": {"source": "generated", "seed": seed, **common, "model": model},
        "attacked": {"attacks": attacks, **common, "seed": seed, "model": model},
    }
    split = datasets.load("fashion_mnist_small", limit_examples=40)["test"]
    kept = Predictions(split.ids, split.labels, np.eye(40, 10, dtype="f4"))
    for name, settings in folders.items():
        (run / name).mkdir()
        (run / name / "settings.json").write_text(json.dumps(settings))
    kept.save_compactly(run / "shift" / "contrast_2.npz")
    kept.save_compactly(run / "attacked" / "fgsm_8.npz")
    before = {path: path.read_bytes() for path in run.glob("*/*.npz")}
    metrics = evaluate(
        run,
        shift=True,
        shift_types=["contrast"],
        severities=[2],
        attacks=["fgsm"],
        epsilons=[8],
        say=str,
    )
    assert {path: path.read_bytes() for path in run.glob("*/*.npz")} == before
    # The first ten rows predict classes 0 to 9; the others are all 0: class 0.
    classes = [*range(10), *[0] * 30]
    accuracy = (split.labels == classes).mean()
    assert metrics["shift"]["overall"]["all"]["accuracy"] == accuracy
    assert metrics["attacks"]["by_attack"]["fgsm"]["8"]["accuracy"] == accuracy
    images = seen_images(split)
    for name, settings in folders.items():
        now = json.loads((run / name / "settings.json").read_text())
        assert now["images"] == images and now["model"] == settings["model"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ood": ["cifar11"]}, "--ood takes datasets other than.*'cifar11'"),
        ({"ood": ["fashion_mnist_small"]}, "received 'fashion_mnist_small'"),
        (
            {"attacks": ["cw"]},
            "--attacks takes fgsm, pgd, pgd_conf, .*received 'cw'",
        ),
        ({"attacks": ["fgsm"], "epsilons": ["8/255"]}, "numbers over 255"),
        ({"shift": True, "shift_types": ["fogg"]}, "unknown type 'fogg'"),
        ({"shift": True, "severities": [6]}, "received 6"),
        ({"shift": True, "severities": ["x"]}, "received x"),
        ({"robustness_index": "none.npz"}, "none.npz"),
        ({"model_file": "mine.keras"}, "received --run_dir and --model_file"),
        ({"sigma": ["0.5"]}, "--sigma is for --certify"),
        ({"certify": True, "sigma": ["-1"]}, "--sigma takes .*received -1"),
        ({"certify": True, "certify_samples": 60}, "must be at least --certify_sel"),
    ],
)
def test_arguments_are_checked_before_anything_is_predicted(
    arguments, message, run, no_prediction
):
    with pytest.raises(InputError, match=message):
        evaluate(run, say=str, **arguments)
    assert not (run / "metrics.json").exists()


def test_a_model_file_needs_a_folder_and_its_own_dataset(run, no_prediction, tmp_path):
    file = run / "model.keras"
    with pytest.raises(InputError, match="--model_file needs --output_dir"):
        evaluate(model_file=file)
    with pytest.raises(InputError, match="received none of them"):
        evaluate()
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3))
    model.save(tmp_path / "three.keras")
    with pytest.raises(InputError, match="three.keras tells 3 classes apart, fashion"):
        evaluate(
            model_file=tmp_path / "three.keras",
            output_dir=tmp_path / "out",
            limit_examples=20,
        )


def test_a_model_file_has_a_folder_of_its_own(run, tmp_path):
    """Its own levels, 15 bins; what lay there of other images is not kept."""
    out = tmp_path / "out"
    how = {"model_file": run / "model.keras", "output_dir": out, "say": str}
    evaluate(**how, limit_examples=20)
    (out / "metrics.json").write_text(json.dumps({"shift": {"of": "another"}}))
    with pytest.warns(UserWarning, match="has an evaluation of other things"):
        metrics = evaluate(**how, limit_examples=30)
    assert set(metrics) == {"clean", "more", "by_level", "digests"}
    assert read_metrics(out) == metrics
    assert metrics["clean"]["num_bins"] == 15
    assert metrics["clean"]["num_examples"] == 30


def snapshot(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("name", EVALUATION_FILES)
def test_what_no_evaluation_has_made_is_not_overwritten(
    name, run, no_prediction, tmp_path
):
    """Such as the deployed model that `export` has written."""
    path = tmp_path / "out" / name.replace("*", "s")
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = snapshot(tmp_path)
    found = f"holds {path.relative_to(tmp_path / 'out')} and no subject.json"
    with pytest.raises(InputError, match=found):
        evaluate(model_file=run / "model.keras", output_dir=tmp_path / "out", say=str)
    np.savez(tmp_path / "p.npz", labels=np.arange(20) % 2, logits=np.zeros((20, 2)))
    with pytest.raises(InputError, match=found):
        evaluate(predictions=tmp_path / "p.npz", output_dir=tmp_path / "out", say=str)
    (tmp_path / "p.npz").unlink()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("shift/mine.npz", {"shift": True}),
        ("attacked/parts/mine.npz", {"attacks": ["fgsm"]}),
        ("certified/sigma_0.25.npz", {"certify": True}),
        ("ood/mine.npz", {"ood": ["cifar10"]}),
    ],
)
def test_sets_that_no_evaluation_has_made_are_not_removed(
    name, wanted, run, no_prediction, tmp_path
):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="and no settings.json, so"):
        evaluate(
            model_file=run / "model.keras",
            output_dir=tmp_path,
            limit_examples=20,
            say=str,
            **wanted,
        )
    assert snapshot(tmp_path) == before


def test_an_input_is_not_among_the_results(run, no_prediction, tmp_path):
    """The sets of --ood=ood/noise.npz lie in ood/."""
    images, labels = np.zeros((20, 28, 28, 1), np.uint8), np.arange(20) % 2
    splits = {f"x_{name}": images for name in ("train", "test")}
    splits |= {f"y_{name}": labels for name in ("train", "test")}
    for folder in (run, tmp_path):
        (folder / "ood").mkdir()
        np.savez(folder / "ood" / "noise.npz", **splits)
        before = snapshot(tmp_path)
        noise = str(folder / "ood" / "noise.npz")
        how = {"model_file": run / "model.keras", "output_dir": tmp_path, "say": str}
        cases = [how | {"ood": [noise]}, how | {"dataset": noise}]
        for case in cases if folder == tmp_path else [{"run_dir": run, "ood": [noise]}]:
            with pytest.raises(InputError, match=r"noise.npz is also read"):
                evaluate(**case)
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({}, "checkpoint.npz"),
        ({"ensemble_size": 2}, "member_0/checkpoint.npz"),
        ({"ensemble_size": 2}, "member_0/metrics.json"),
    ],
)
def test_a_run_that_is_not_finished_is_refused(
    changed, left, run, no_prediction, tmp_path
):
    """Else `train` would take it for finished, without its temperature."""
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    (run / left).parent.mkdir(exist_ok=True)
    (run / left).touch()
    before = snapshot(run)
    with pytest.raises(InputError, match="is not finished.*give its command of ar_ada"):
        evaluate(run, say=str)
    assert snapshot(run) == before


def test_a_run_that_has_no_model_yet_is_not_finished(run, no_prediction):
    (run / "model.keras").unlink()
    with pytest.raises(InputError, match="is not finished.*give its command of ar_ada"):
        evaluate(run, say=str)


def test_two_processes_that_measure_a_run_lose_nothing(run, tmp_path):
    """The first one adds to metrics.json after the second one has started."""
    evaluate(run, say=str)
    ood = {"cifar10": {"auroc": 0.5, "aupr": 0.5, "fpr_at_95_recall": 0.5}}
    add = (
        f"path = Path({str(run / 'metrics.json')!r});"
        f"found = json.loads(path.read_text()) | {{'ood': {ood}}};"
        "path.write_text(json.dumps(found))"
    )
    lines = []
    with held(run / LOCK, add) as holder:
        metrics = evaluate(
            run,
            shift=True,
            shift_types=["contrast"],
            severities=[1],
            say=told(holder, lines),
        )
    assert lines[0].startswith("waiting for process ")
    assert metrics["ood"] == ood and "shift" in metrics
    assert read_metrics(run) == metrics
    assert sorted(path.name for path in run.glob(".*")) == []


def test_what_a_killed_process_left_is_swept(run):
    (run / "shift").mkdir()
    for name in (".3b1c2fd3-metrics.json", "shift/.3b1c2fd3-fog_1.npz", LOCK):
        (run / name).touch()
    (run / ".3b1c2fd3-thesis.txt").touch()
    evaluate(run, say=str)
    left = [path.name for path in run.rglob(".*")]
    assert left == [".3b1c2fd3-thesis.txt"]


def test_a_models_results_are_not_written_into_a_run(run, no_prediction, tmp_path):
    shutil.copy(run / "model.keras", tmp_path / "other.keras")
    (tmp_path / "linked").symlink_to(run)
    for folder in (run, tmp_path / "linked"):
        with pytest.raises(InputError, match="is a run directory"):
            evaluate(model_file=tmp_path / "other.keras", output_dir=folder)


def test_at_strength_0_nothing_is_attacked_and_nothing_more_said(run, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("attacked")

    monkeypatch.setattr(under_attack, "attack_step", refuse)
    lines = []
    metrics = evaluate(run, attacks=["pgd"], epsilons=["0"], say=lines.append)
    measures = metrics["attacks"]["by_attack"]["pgd"]["0"]
    assert measures["ece"] == metrics["clean"]["ece"]
    assert "" not in lines and len(lines) == 2
