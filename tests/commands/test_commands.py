"""The commands as people type them, and how they fail. About 45 seconds.

Most run inside this process: the module runs as `__main__` with its own `sys.argv`.
"""

import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
from absl import flags

from ar_adals_tf import command_line, datasets
from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.datasets import loading
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flagfiles import read_flagfile
from ar_adals_tf.experiment.flags import config_of_texts
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.index.shards import Shards
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import COMMANDS, OF_IMAGES

ROOT = Path(__file__).parents[2]
FLAGS = flags.FLAGS

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SMALL = ("--limit_examples=60", "--epochs=1", "--notensorboard")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Return anyone's model: a softmax head, a name and a layer order of its own."""
    keras.utils.set_random_seed(0)
    image = keras.Input((28, 28, 1))
    hidden = keras.layers.Dense(16, activation="tanh")(keras.layers.Flatten()(image))
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    split = datasets.load("fashion_mnist_small", limit_examples=1000)["train"]
    model.fit(split.images / np.float32(255), split.labels, epochs=3, verbose=0)
    path = tmp_path_factory.mktemp("anyone") / "mine.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def arrays_file(model_file):
    """Return 60 images as a file of arrays, with labels and ids."""
    split = datasets.load("fashion_mnist_small", limit_examples=60)["test"]
    path = model_file.with_name("arrays.npz")
    ids = np.array([f"image {i}" for i in range(60)])
    np.savez(path, images=split.images, labels=split.labels, ids=ids)
    return path


# Help, flags and flagfiles.


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_for_newcomers_and_needs_no_tensorflow(command):
    """In a process of its own: what the command does, its flags, an example."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"ar_adals_tf.{command}", "--help"],
        capture_output=True,
        text=True,
    )
    assert f"python -m ar_adals_tf.{command}" in result.stdout
    if command in OF_IMAGES:
        assert "--dataset: The data." in result.stdout
        assert "--limit_examples" in result.stdout
    lines = result.stderr.splitlines()
    assert all(line.startswith("import time:") for line in lines)
    imported = {line.split("|")[-1].strip() for line in lines}
    assert "absl.flags" in imported
    assert not {"tensorflow", "keras", "matplotlib", "scipy", "sklearn"} & imported


@pytest.mark.parametrize("command", COMMANDS)
def test_help_whose_reader_has_gone(command):
    """As after `--help | head -1`: nothing is said about it."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"ar_adals_tf.{command}", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_help_tells_of_every_method_and_attack(run):
    _, out, _ = run("train", "--help")
    words = " ".join(out.split())
    for name, method in METHODS.items():
        assert f" {name}: {method.summary}." in words
    for name, attack in ATTACKS.items():
        assert f" {name}: {attack.__doc__.splitlines()[0].rstrip('.')}." in words


FLAGFILES = sorted((ROOT / "flags").rglob("*.cfg"))


def test_there_are_flagfiles():
    """A base for each dataset and a file for each of the paper's single models."""
    names = {str(path.relative_to(ROOT / "flags")) for path in FLAGFILES}
    methods = ("base", "vanilla", "ls", "adals", "ar_adals")
    for dataset in datasets.DATASETS:
        assert {f"{dataset}/{n}.cfg" for n in methods} <= names


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_flagfiles_give_valid_settings(path, fresh_flags, monkeypatch):
    """They parse, from the repository's root, and are the experiment they are named."""
    monkeypatch.chdir(ROOT)
    runpy.run_module("ar_adals_tf.train")
    FLAGS(["train", f"--flagfile={path.relative_to(ROOT)}"])
    config = command_line.training_config()
    assert path.read_text().startswith("# ")
    if path.parent.name == "adversarial_training":
        return
    assert config.dataset == path.parent.name
    if path.stem in METHODS:
        assert config == Config.make(config.dataset, path.stem)


@pytest.mark.parametrize("kind", ["pgd", "trades", "pgd_ar_adals"])
def test_flagfiles_of_imagenet_attack_at_the_usual_strength(
    kind, fresh_flags, monkeypatch
):
    """In few steps, and the vanilla model of all is the one of the clean flagfile."""
    monkeypatch.chdir(ROOT)
    runpy.run_module("ar_adals_tf.train")
    FLAGS(["train", f"--flagfile=flags/adversarial_training/imagenet_{kind}.cfg"])
    config = command_line.training_config()
    own = config.method_settings
    assert (own["epsilon"], own["pgd_steps"]) == (4 / 255, 3)
    assert own.get("adversarial_share", 1) == 1
    clean = config_of_texts(
        read_flagfile(ROOT / "flags/adversarial_training/imagenet_clean.cfg")
    )
    assert config.vanilla() == clean


CLEAN, FGSM, PGD, TRADES, CCAT = "vanilla", "fgsm_at", "pgd_at", "trades", "ccat"


@pytest.mark.parametrize(
    ("network", "method", "learning_rate"),
    [
        *(("study_cnn", method, 1e-3) for method in (CLEAN, FGSM, PGD, TRADES, CCAT)),
        ("resnet18", CLEAN, 1e-3),
        *(("resnet18", method, 1e-4) for method in (FGSM, PGD, TRADES, CCAT)),
    ],
)
def test_flagfiles_of_the_adversarial_training_study_are_its_recipe(
    network, method, learning_rate, fresh_flags, monkeypatch
):
    """All training images as they are, 15 epochs, Adam at one rate, batch 128."""
    monkeypatch.chdir(ROOT)
    runpy.run_module("ar_adals_tf.train")
    kind = {CLEAN: "clean", FGSM: "fgsm", PGD: "pgd"}.get(method, method)
    FLAGS(["train", f"--flagfile=flags/adversarial_training/{network}_{kind}.cfg"])
    config = command_line.training_config()
    assert (config.dataset, config.method) == ("cifar10", method)
    assert config.model.startswith(network)
    assert (config.epochs, config.batch_size) == (15, 128)
    assert (config.validation_examples, config.limit_examples) == (0, None)
    assert (config.augmentation, config.schedule) == ("none", "constant")
    assert config.learning_rate == learning_rate
    assert config.output_dir == f"runs/{network}/cifar10-{method}-0"
    epsilon = None if method == CLEAN else 8 / 255
    assert config.method_settings.get("epsilon") == epsilon


# Failing well.

UNUSABLE = [
    ("train", ["--nosuch=1"], "Unknown command line flag 'nosuch'"),
    ("train", ["--epoch=1"], "Unknown command line flag 'epoch'"),
    ("train", ["adals"], "nothing is known of the argument 'adals'"),
    ("train", ["--method=magic"], "--method=magic: value should be one of"),
    ("train", ["--dataset=cifra10"], "did you mean cifar10"),
    ("train", ["--epochs=many"], "--epochs=many"),
    ("train", ["--epochs=0"], "--epochs must be at least 1; received 0"),
    ("train", ["--flagfile=absent.cfg"], "absent.cfg"),
    ("train", ["--alpha=fast"], "alpha must be a number.*received 'fast'"),
    ("train", ["--learning_rate=-1"], "--learning_rate must be above 0; received -1"),
    ("train", ["--learning_rate=nan"], "--learning_rate must be above 0; received nan"),
    ("train", ["--dropout=1"], "--dropout must be at least 0 and below 1"),
    ("train", ["--method=ls", "--label_smoothing=2"], "--label_smoothing must be"),
    ("train", ["--model=vgg"], "--model must be one of .*small_cnn.*received 'vgg'"),
    ("train", ["--validation_examples=0"], "--validation_examples=0 cannot be"),
    (
        "train",
        ["--method=fgsm_at", "--epsilon=8"],
        "--epsilon must be between 0 and 1; received 8",
    ),
    ("train", ["--epsilon=0.1"], "--epsilon means nothing to --method=ar_adals"),
    ("train", ["--adversarial_training=ls"], "--adversarial_training=ls: value should"),
    (
        "train",
        ["--validation_examples=9999", "--output_dir={tmp}/run"],
        "validation_examples must be.*below the 6000 images.*received 9999",
    ),
    (
        "train",
        ["--attack=margin", "--attack_iterations=5"],
        "--attack_iterations means nothing to --attack=margin; leave it out",
    ),
    (
        "train",
        ["--attack=ddn", "--attack_search_steps=5"],
        "--attack_search_steps means nothing to --attack=ddn",
    ),
    (
        "train",
        ["--attack=margin", "--attack_learning_rate=0.1"],
        "--attack_learning_rate means nothing to --attack=margin; leave it out",
    ),
    (
        "train",
        ["--attack=cw", "--attack_gamma=0.1"],
        "--attack_gamma means nothing to --attack=cw; leave it out",
    ),
    (
        "train",
        ["--attack_initial_constant=0"],
        "initial_constant must be a.* number.*received 0",
    ),
    (
        "train",
        ["--output_dir={tmp}/file.txt/run"],
        "--output_dir must be a folder that can be written to; {tmp}/file.txt/run",
    ),
    (
        "train",
        ["--output_dir={tmp}/strange"],
        "{tmp}/strange/config.json is not valid JSON",
    ),
    (
        "train",
        ["--dataset=svhn_cropped", "--data_dir={tmp}", "--output_dir={tmp}/run"],
        "svhn_cropped is not in {tmp}.*--data_dir.*TFDS_DATA_DIR.*fashion_mnist_small",
    ),
    ("evaluate", [], "one of --run_dir=RUN, --model_file=.*; received none"),
    ("evaluate", ["--run_dir=a", "--model_file=b"], "received --run_dir and --mo"),
    ("evaluate", ["--run_dir={tmp}"], "{tmp} is no run directory.*config.json"),
    ("evaluate", ["--run_dir={tmp}/absent"], "{tmp}/absent is no run directory"),
    ("evaluate", ["--model_file={model}"], "--model_file needs --output_dir"),
    (
        "evaluate",
        ["--model_file={tmp}/no.keras", "--output_dir={tmp}/out"],
        "there is no model file {tmp}/no.keras",
    ),
    (
        "evaluate",
        ["--model_file={tmp}/file.txt", "--output_dir={tmp}/out"],
        "the model file {tmp}/file.txt cannot be loaded",
    ),
    (
        "evaluate",
        ["--model_file={tmp}/cut.keras", "--output_dir={tmp}/out"],
        "the model file {tmp}/cut.keras cannot be loaded",
    ),
    (
        "evaluate",
        ["--model_file={tmp}/lambda.keras", "--output_dir={tmp}/out"],
        "{tmp}/lambda.keras has a Lambda layer.*without custom code",
    ),
    (
        "evaluate",
        ["--model_file={tmp}/wide.keras", "--output_dir={tmp}/out"],
        r"takes images of shape \(8, 8, 1\), fashion_mnist_small has \(28, 28, 1\)",
    ),
    (
        "evaluate",
        ["--model_file={tmp}/few.keras", "--output_dir={tmp}/out"],
        "tells 3 classes apart, fashion_mnist_small has 10",
    ),
    (
        "evaluate",
        ["--model_file={model}", "--output_dir={tmp}/file.txt/out"],
        "--output_dir must be a folder that can be written to",
    ),
    (
        "evaluate",
        [
            *("--model_file={model}", "--output_dir={tmp}/out"),
            "--robustness_index={tmp}/file.txt",
        ],
        "file.txt is no whole robustness index",
    ),
    *[
        (
            "evaluate",
            ["--model_file={model}", "--output_dir={tmp}/out", *arguments],
            sentence,
        )
        for arguments, sentence in [
            (
                ["--attacks=cw"],
                "--attacks takes fgsm, pgd, pgd_conf, apgd_ce, apgd_t, fab_t",
            ),
            (
                ["--attacks=fgsm", "--epsilons=8/255"],
                "--epsilons takes numbers over 255; received 8/255",
            ),
            (["--attacks=fgsm", "--epsilons=-4"], "from 0 to 255; received -4"),
        ]
    ],
    ("compute_robustness", [], "--model_file is missing"),
    (
        "compute_robustness",
        ["--model_file={model}", "--limit_examples=9"],
        "--output_file is missing",
    ),
    (
        "compute_robustness",
        ["--model_file={model}", "--arrays={arrays}", "--attack=foolbox"],
        "--attack=foolbox: value should be one of",
    ),
    (
        "compute_robustness",
        [
            *("--model_file={model}", "--arrays={arrays}"),
            "--output_file={tmp}/file.txt/index.npz",
        ],
        "the folder of --output_file must be a folder that can be written to",
    ),
    *[
        (
            "compute_robustness",
            [
                *("--model_file={model}", "--arrays={arrays}", "--attack=margin"),
                f"--output_file={path}",
            ],
            sentence,
        )
        for path, sentence in [
            ("{model}", "--output_file must end in .npz; received .*mine.keras"),
            ("{arrays}", "--output_file .*arrays.npz is also read"),
            ("{tmp}/linked.npz", "linked.npz is also read .as .*arrays.npz. and would"),
            ("{tmp}/other.npz", "other.npz is there already and is no robustness ind"),
            (".", "--output_file must end in .npz; received .;"),
            ("{tmp}/x.shards", "must end in .npz; received {tmp}/x.shards"),
            ("{tmp}/folder.npz", "must be a file; {tmp}/folder.npz is a folder"),
            ("{tmp}/" + "n" * 249 + ".npz", "must be a file that can be written"),
        ]
    ],
    *[
        (
            "compare_indexes",
            ["--indexes={arrays},{arrays}", f"--output_file={path}"],
            sentence,
        )
        for path, sentence in [
            ("{arrays}", "--output_file must end in .png, .pdf or .svg; received"),
            ("{tmp}/file.txt/a.png", "the folder of --output_file must be a folder"),
        ]
    ],
    *[
        (
            "compute_robustness",
            [
                *("--model_file={model}", "--output_file={tmp}/index.npz"),
                *("--attack=margin", f"--arrays={{tmp}}/{name}"),
            ],
            sentence,
        )
        for name, sentence in [
            ("absent.npz", "there is no file for --arrays {tmp}/absent.npz"),
            ("file.txt", "{tmp}/file.txt is no whole file for --arrays"),
            ("cut.npz", "{tmp}/cut.npz is no whole file for --arrays"),
            ("plain.npy", "{tmp}/plain.npy is no whole file for --arrays"),
            ("pickled.npz", "{tmp}/pickled.npz is no whole file for --arrays"),
            ("other.npz", r"has no `images`, only pictures\); make it with"),
            ("empty.npz", "there is no image to attack"),
            ("short.npz", "equally many; received 60, 59"),
            ("twice.npz", "ids in .*twice.npz must be unique; 1 of 60 are"),
            ("large.npz", r"of shape \(28, 28, 1\); received .*\(4, 32, 32, 3\)"),
            ("bright.npz", "in \\[0, 1\\]"),
        ]
    ],
]


@pytest.fixture(scope="module")
def unusable(tmp_path_factory, model_file, arrays_file):
    """Return a folder of files that cannot be used."""
    folder = tmp_path_factory.mktemp("unusable")
    (folder / "file.txt").write_text("this is a text\n")
    (folder / "strange").mkdir()
    (folder / "strange" / "config.json").write_text("{")
    (folder / "cut.keras").write_bytes(model_file.read_bytes()[:2000])

    def save(name, *layers):
        keras.Sequential(layers).save(folder / name)

    flat = keras.layers.Flatten()
    save("wide.keras", keras.Input((8, 8, 1)), flat, keras.layers.Dense(10))
    save("few.keras", keras.Input((28, 28, 1)), flat, keras.layers.Dense(3))
    save(
        "lambda.keras",
        *(keras.Input((28, 28, 1)), keras.layers.Lambda(lambda x: x + 1), flat),
        keras.layers.Dense(10),
    )
    with np.load(arrays_file) as file:
        images, labels = file["images"], file["labels"]
    (folder / "cut.npz").write_bytes(arrays_file.read_bytes()[:5000])
    np.save(folder / "plain.npy", images)
    np.savez(folder / "pickled.npz", images=np.array([{}, []], dtype=object))
    np.savez(folder / "other.npz", pictures=images)
    (folder / "linked.npz").symlink_to(arrays_file)
    (folder / "folder.npz").mkdir()
    np.savez(folder / "empty.npz", images=images[:0])
    np.savez(folder / "short.npz", images=images, labels=labels[:59])
    np.savez(folder / "twice.npz", images=images, ids=np.zeros(60, int))
    np.savez(folder / "large.npz", images=np.zeros((4, 32, 32, 3), np.uint8))
    np.savez(folder / "bright.npz", images=images.astype(np.float32))
    return folder


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    UNUSABLE,
    ids=[f"{c}-{' '.join(a)}" for c, a, _ in UNUSABLE],
)
def test_fails_well(
    command, arguments, sentence, run, unusable, model_file, arrays_file, monkeypatch
):
    """One sentence, no traceback, status 2, and no file is written."""
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.chdir(unusable)
    names = {"tmp": unusable, "model": model_file, "arrays": arrays_file}
    before = contents(unusable)
    # Were it not refused, it should at least end soon.
    arguments = [*(SMALL if command == "train" else ()), *arguments]
    status, _, err = run(command, *(a.format(**names) for a in arguments))
    assert re.search(sentence.replace("{tmp}", str(unusable)), err), err
    assert status == 2
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(said) == 1
    assert contents(unusable) == before


def _no_network(*_, **__):
    raise OSError("no network")


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        pytest.param(
            ["train", "--nosuch"],
            *(2, "error: Unknown command line flag 'nosuch'"),
            marks=pytest.mark.slow,
        ),
        (["evaluate"], 2, "error: evaluate needs one of --run_dir=RUN"),
    ],
)
def test_real_processes_fail_with_one_line(arguments, status, line):
    """Nothing but the sentence on standard error, TensorFlow's greetings included."""
    result = subprocess.run(
        [sys.executable, "-m", f"ar_adals_tf.{arguments[0]}", *arguments[1:]],
        capture_output=True,
        text=True,
    )
    assert result.returncode == status
    lines = result.stderr.splitlines()
    assert lines[0].startswith(line)
    assert len(lines) == 1
    assert result.stdout == ""


def test_a_loss_that_is_no_number(run, tmp_path):
    status, _, err = run(
        *("train", "--method=vanilla", "--learning_rate=1e30", "--epochs=4"),
        *("--limit_examples=300", f"--output_dir={tmp_path}/run"),
    )
    assert status == 2
    assert re.search(r"error: (val_)?loss became \S+ in epoch \d at learning", err)
    assert "Traceback" not in err
    assert not {"model.keras", "metrics.json"} & set(os.listdir(tmp_path / "run"))


def test_interrupted_by_the_keyboard(run, tmp_path, monkeypatch):
    """Ctrl-C says that the same command goes on."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "load", interrupt)
    status, _, err = run("train", f"--output_dir={tmp_path}/run")
    assert (status, err) == (
        130,
        "interrupted; the same command goes on where it was\n",
    )


# Training and evaluation.


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return where the run is kept that the command makes once."""
    return tmp_path_factory.mktemp("kept") / "fashion_mnist_small-vanilla-0"


@pytest.fixture
def vanilla_run(run, kept, tmp_path):
    """Return a copy of a run directory that the command has made."""
    if not kept.exists():
        make_vanilla(run, kept)
    return shutil.copytree(kept, tmp_path / kept.name)


def make_vanilla(run, folder):
    """Make a run, and check what the command prints and refuses."""
    arguments = ("--method=vanilla", *SMALL, "--num_bins=7", f"--output_dir={folder}")
    status, out, _ = run("train", *arguments)
    assert status == 0
    assert f"training Vanilla on fashion_mnist_small in {folder}" in out
    ends = r"\[\S+, \S+\]"
    line = rf"Vanilla: accuracy \S+ % {ends}, ECE \S+ % {ends} \(7 bins; noise floor "
    assert re.search(line + rf".*\), NLL \S+ {ends}, Brier \S+ {ends}\n", out)
    before = contents(folder)
    status, out, _ = run("train", *arguments)
    assert (status, out) == (0, f"{folder} is finished already; nothing to do.\n")
    status, _, err = run("train", *arguments, "--seed=1")
    assert status == 2
    assert "seed is 1 here, 0 there" in err
    assert contents(folder) == before


def test_a_run_evaluated_again(vanilla_run, run):
    """The same figures; with an index of its test images beside, by level as well."""
    expected = json.loads((vanilla_run / "metrics.json").read_text())
    (vanilla_run / "predictions.npz").unlink()
    status, out, _ = run("evaluate", f"--run_dir={vanilla_run}")
    assert status == 0
    assert out.endswith(f"written to {vanilla_run}\n")
    assert json.loads((vanilla_run / "metrics.json").read_text()) == expected
    assert (vanilla_run / "predictions.npz").exists()
    index = vanilla_run / "robustness/margin/test.npz"
    status, _, _ = run(
        *("compute_robustness", f"--model_file={vanilla_run}/model.keras"),
        *("--attack=margin", "--split=test", "--limit_examples=60"),
        f"--output_file={index}",
    )
    assert status == 0
    assert run("evaluate", f"--run_dir={vanilla_run}")[0] == 0
    metrics = json.loads((vanilla_run / "metrics.json").read_text())
    assert metrics["clean"] == expected["clean"]
    by_level = metrics["by_level"]
    assert by_level["counts"] == [6] * 10
    mean = np.mean(by_level["accuracy"])
    assert mean == pytest.approx(metrics["clean"]["accuracy"])


def test_anyones_model_is_evaluated(model_file, run, tmp_path):
    """Figures that NumPy finds from `model.predict`, also by level of an index."""
    split = datasets.load("fashion_mnist_small", limit_examples=200)["test"]
    model = load_model(model_file)
    p = model.predict(split.images / np.float32(255), verbose=0).astype(np.float64)
    order = np.random.default_rng(0).permutation(200)
    distances = np.arange(200, dtype=np.float32)
    index = RobustnessIndex(
        split.ids[order], distances, np.ones(200, bool), {"digest": split.digest()}
    )
    index.save(tmp_path / "index.npz")
    status, out, _ = run(
        *("evaluate", f"--model_file={model_file}", f"--output_dir={tmp_path}/out"),
        *("--limit_examples=200", "--num_bins=10"),
        f"--robustness_index={tmp_path}/index.npz",
    )
    assert status == 0
    with np.load(tmp_path / "out/predictions.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(file["probabilities"], p, atol=1e-6)
        np.testing.assert_array_equal(file["labels"], split.labels)
    correct, confidence = p.argmax(axis=1) == split.labels, p.max(axis=1)
    bins = np.minimum((confidence * 10).astype(int), 9)
    ece = sum(
        (bins == b).mean()
        * abs(correct[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    )
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    clean = metrics["clean"]
    assert clean["accuracy"] == pytest.approx(correct.mean())
    assert clean["ece"] == pytest.approx(ece, abs=1e-6)
    nll = -np.log(p[np.arange(200), split.labels]).mean()
    assert clean["nll"] == pytest.approx(nll, rel=1e-5)
    assert clean["num_bins"] == 10
    assert f"mine.keras: accuracy {correct.mean():.1%}".replace("%", " %") in out
    levels = correct[order].reshape(10, 20).mean(axis=1)
    assert metrics["by_level"]["accuracy"] == pytest.approx(levels.tolist())
    status, _, err = run(
        *("evaluate", f"--model_file={model_file}", f"--output_dir={tmp_path}/other"),
        *("--limit_examples=100", f"--robustness_index={tmp_path}/index.npz"),
    )
    assert status == 2
    assert "index is of another set of images or labels" in err
    assert not contents(tmp_path / "other")


def test_a_run_under_attack(vanilla_run, run):
    """Kept in the run and not attacked again; a quick look beside it."""
    arguments = ("evaluate", f"--run_dir={vanilla_run}", "--attacks=fgsm,pgd")
    status, out, _ = run(*arguments, "--epsilons=8", "--limit_examples=20")
    assert status == 0 and "PGD-10 at 8/255: accuracy" in out
    quick = json.loads((vanilla_run / "metrics.json").read_text())
    assert quick["attacks-first-20"]["num_examples"] == 20
    assert "attacks" not in quick
    status, _, _ = run(*arguments, "--epsilons=8")
    assert status == 0
    metrics = json.loads((vanilla_run / "metrics.json").read_text())
    found = metrics["attacks"]
    assert found["epsilons"] == [0, 8]
    for of, clean in (
        (found, metrics["clean"]),
        (found["temperature_scaled"], metrics["temperature_scaled"]["clean"]),
    ):
        by_strength = of["by_attack"]["pgd"]
        assert by_strength["0"]["ece"] == clean["ece"]
        assert by_strength["8"]["nll"] > clean["nll"]
        assert by_strength["8"]["num_bins"] == 7
    before = contents(vanilla_run / "attacked")
    (vanilla_run / "attacked" / "fgsm_8.npz").unlink()
    assert run(*arguments, "--epsilons=8")[0] == 0
    assert contents(vanilla_run / "attacked") == before
    assert json.loads((vanilla_run / "metrics.json").read_text()) == metrics


@pytest.mark.slow
def test_anyones_models_footprint(model_file, run, tmp_path):
    """Also what a fresh process's memory grows by."""
    status, out, err = run(
        *("evaluate", f"--model_file={model_file}", f"--output_dir={tmp_path}/out"),
        *("--limit_examples=50", "--footprint"),
    )
    assert status == 0, err
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    forms = metrics["footprint"]["forms"]
    assert re.search(r"int8, LiteRT: [\d.]+ ms an image, file 0\.\d\d MB, memory ", out)
    accuracy = metrics["clean"]["accuracy"]
    assert forms["lite_float32"]["accuracy"] == accuracy
    assert forms["lite_int8"]["accuracy"] == pytest.approx(accuracy, abs=0.05)
    assert (tmp_path / "out/footprint/int8.tflite").exists()
    for form in forms.values():
        # Other systems than Linux do not tell; a model of 0.1 MB takes some, not a lot.
        assert form["peak_bytes"] is None or 1e5 < form["peak_bytes"] < 1e9
    assert metrics["footprint"]["quantisation_images"] == 50


# The index.


def assert_equal_indexes(a, b):
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.distances, b.distances)
    np.testing.assert_array_equal(a.found, b.found)
    for name in ("dataset", "split", "digest", "model_digest", "attack", "settings"):
        assert a.metadata[name] == b.metadata[name], name


def test_arrays_are_attacked_as_own_data_are(model_file, arrays_file, run):
    arguments = (f"--model_file={model_file}", "--dry_run")
    cases = (
        ((f"--arrays={arrays_file}",), "ddn"),
        (("--split=test", "--limit_examples=20"), "cw"),
    )
    for what, attack in cases:
        short = (*what, "--attack_iterations=2")
        status, out, err = run("compute_robustness", *arguments, *short)
        assert status == 0, err
        assert out.startswith(f"{attack} takes at most ")


def test_index_of_arrays(model_file, arrays_file, run, tmp_path):
    """Equal to `RobustnessIndex.compute`; interrupted, it goes on where it was."""
    arguments = (
        *(f"--model_file={model_file}", f"--arrays={arrays_file}", "--attack=ddn"),
        *("--attack_iterations=5", f"--output_file={tmp_path}/new/index.npz"),
    )
    with pytest.MonkeyPatch.context() as patch:
        saved = []
        save, compute = Shards.save, RobustnessIndex.compute

        def save_two(shards, number, part):
            save(shards, number, part)
            saved.append(number)
            if len(saved) == 2:
                raise KeyboardInterrupt

        def in_three_shards(*args, **arguments):
            return compute(*args, **arguments, shard_size=20)

        patch.setattr(RobustnessIndex, "compute", in_three_shards)
        patch.setattr(Shards, "save", save_two)
        assert run("compute_robustness", *arguments)[0] == 130
        assert not (tmp_path / "new/index.npz").exists()
        status, out, _ = run("compute_robustness", *arguments)
    assert status == 0
    assert saved == [0, 1, 2]
    assert out.endswith(f"written to {tmp_path}/new/index.npz\n")
    assert "ddn on arrays.npz: 60 examples, distance" in out
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["index.npz"]
    with np.load(arrays_file) as file:
        arrays = {name: file[name] for name in file.files}
    expected = RobustnessIndex.compute(
        load_model(model_file),
        **arrays,
        attack="ddn",
        steps=5,
        dataset="arrays.npz",
        verbose=False,
    )
    assert_equal_indexes(RobustnessIndex.load(tmp_path / "new/index.npz"), expected)


def test_index_of_a_dataset(model_file, run, tmp_path):
    status, _, _ = run(
        *("compute_robustness", f"--model_file={model_file}", "--attack=margin"),
        *("--dataset=fashion_mnist_small", "--split=validation", "--attack_top_k=2"),
        *("--limit_examples=50", f"--output_file={tmp_path}/index.npz"),
        "--attack_dtype=bfloat16",
    )
    assert status == 0
    split = datasets.load("fashion_mnist_small", limit_examples=50)["validation"]
    settings = {"top_k": 2, "compute_dtype": "bfloat16"}
    expected = RobustnessIndex.compute(
        load_model(model_file), split, attack="margin", verbose=False, **settings
    )
    assert expected.metadata["settings"] == settings
    assert_equal_indexes(RobustnessIndex.load(tmp_path / "index.npz"), expected)


def test_dry_run_only_estimates(model_file, arrays_file, run, tmp_path):
    arguments = (f"--model_file={model_file}", f"--arrays={arrays_file}", "--dry_run")
    status, out, _ = run(
        *("compute_robustness", *arguments, f"--output_file={tmp_path}/index.npz"),
        *("--attack=cw", "--attack_iterations=4", "--attack_search_steps=2"),
    )
    assert status == 0
    assert "cw takes at most 8 forward-backward passes an image; 60 images took" in out
    assert re.search(r"so 60 will take about [\d.]+ (seconds|minutes|hours)\.", out)
    status, out, _ = run(
        *("compute_robustness", f"--model_file={model_file}", "--dry_run"),
        *("--attack=margin", "--split=test"),
    )
    assert status == 0
    assert "so 2,000 will take about" in out
    assert not contents(tmp_path)


@pytest.mark.slow
def test_killed_computation_goes_on(model_file, tmp_path):
    """A real kill after the first shard of 5,000 images; the rest follows."""
    command = [
        *(sys.executable, "-m", "ar_adals_tf.compute_robustness", "--attack=ddn"),
        *(f"--model_file={model_file}", "--attack_iterations=50"),
    ]
    killed, whole = tmp_path / "killed.npz", tmp_path / "whole.npz"
    process = subprocess.Popen([*command, f"--output_file={killed}"])
    while not (tmp_path / "killed.shards/shard-00000.npz").exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    first = (tmp_path / "killed.shards/shard-00000.npz").stat().st_mtime_ns
    subprocess.run([*command, f"--output_file={whole}"], check=True)
    process = subprocess.Popen([*command, f"--output_file={killed}"])
    second = tmp_path / "killed.shards/shard-00001.npz"
    while not second.exists() and process.poll() is None:
        shard = tmp_path / "killed.shards/shard-00000.npz"
        if shard.exists():
            assert shard.stat().st_mtime_ns == first
        time.sleep(0.01)
    assert process.wait() == 0
    assert_equal_indexes(RobustnessIndex.load(killed), RobustnessIndex.load(whole))
