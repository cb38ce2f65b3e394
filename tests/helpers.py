"""What several test files share: made-up runs, plain oracles, flags forgotten."""

import contextlib
import csv
import dataclasses
import html.parser
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from ar_adals_tf import calibration, figures
from ar_adals_tf.__main__ import commands
from ar_adals_tf.evaluation.measures import measure
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.shift import aggregate
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.robustness import RobustnessIndex

FLAGS = flags.FLAGS
OF_IMAGES = ("train", "evaluate", "compute_robustness", "sweep")
COMMANDS = tuple(commands())
N, Z, TYPES, SEVERITIES = 120, 10, ("contrast", "fog", "pixelate"), (1, 3, 5)
OVERCONFIDENCE = {
    "vanilla": 2.0,
    "ls": 1.0,
    "adals": 1.3,
    "ar_adals": 1.2,
    "fgsm_at": 1.1,
}


def tfds_folder_with(dataset):
    """Return the folder that `TFDS_DATA_DIR` names; skip if a dataset is not there."""
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not folder or not (Path(folder) / dataset).is_dir():
        pytest.skip(f"needs {dataset} in TFDS's format: set TFDS_DATA_DIR")
    return folder


def some_quick(cases, *quick):
    """Return the names of a table's cases for `parametrize`; but a few are slow."""
    assert set(quick) <= set(cases)
    return [
        case if case in quick else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]


def softmax(logits):
    """Softmax in float64, written plainly."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    return exponents / exponents.sum(axis=1, keepdims=True)


#: Source text that divides the processor into two devices, CPU:0 and CPU:1.
TWO_CPUS = """
import tensorflow as tf

halves = [tf.config.LogicalDeviceConfiguration()] * 2
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, halves)
"""


def run_on_two_cpus(code):
    """Run source text after `TWO_CPUS`, and return what it printed.

    It needs a process of its own: devices are divided before TensorFlow does anything.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "own").mkdir()
        ended = start_source(TWO_CPUS + code, Path(folder) / "own").end()
    assert ended.status == 0, ended.err[-3000:]
    return ended.out


def start_source(code, folder):
    """Start source text in a process of its own, whose working folder is given.

    The process is a fork of one that has imported TensorFlow and has run nothing.
    """
    from benchmarks.breaking import processes

    return processes.call(exec, folder, code, {"__name__": "__main__"})


#: Source text of a process that has a lock until it is told to release it. Then it
#: does what the rest of its command line says, as Python.
HOLDER = """
import json, os, shutil, sys
from pathlib import Path
from ar_adals_tf.process.locks import only_writer
with only_writer(sys.argv[1]):
    print("has it", flush=True)
    sys.stdin.readline()
    exec(sys.argv[2])
"""


@contextlib.contextmanager
def held(lock, then="pass"):
    """Let a process of its own hold a lock; it is killed in the end if it lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock), then],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "has it\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def told(process, lines):
    """Return a `say` that lets the holder go on as soon as somebody waits for it."""

    def say(line):
        lines.append(line)
        if line.startswith(f"waiting for process {process.pid} on "):
            process.stdin.write("go on\n")
            process.stdin.flush()

    return say


def plan_in(folder, config, splits):
    """Return the plan of a run in a folder."""
    return Plan.make(dataclasses.replace(config, output_dir=str(folder)), splits)


def history(run):
    """Return the columns of a run's history."""
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def forget_flags():
    """Forget the flags that commands define: a process has those of one command."""
    for module, defined in list(FLAGS.flags_by_module_dict().items()):
        if module in COMMANDS or module.startswith("ar_adals_tf"):
            for flag in list(defined):
                if flag.name in FLAGS and FLAGS[flag.name] is flag:
                    delattr(FLAGS, flag.name)
    FLAGS.unparse_flags()


def run_here(name, *arguments):
    """Run a command in this process; return its status, or what it ended with."""
    forget_flags()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        # Another test may have imported it; a process of its own has not.
        patch.delitem(sys.modules, f"ar_adals_tf.{name}", raising=False)
        try:
            runpy.run_module(f"ar_adals_tf.{name}", run_name="__main__")
        except SystemExit as error:
            return error.code or 0
    return 0


def thin(make, x):
    """Make a network of one convolution, for `Network`."""
    return make.flatten(make.relu(make.norm(make.conv(x, 8, size=5, strides=4))))


def have_a_thin_network():
    """Do to a process of its own, before its command, what `thin_network` does."""
    from ar_adals_tf.models.layers import Network
    from ar_adals_tf.models.networks import MODELS

    MODELS["small_cnn"] = Network(thin)


def have_a_thin_network_and_no_pictures():
    """Do to it also what `no_pictures` does."""
    have_a_thin_network()
    figures.save = _save_blank


@contextlib.contextmanager
def no_pictures():
    """Let all pictures be blank; those of a report take seconds to paint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", _save_blank)
        yield


def _save_blank(figure, path, *more, **options):
    Image.new("L", (8, 8)).save(path, "PNG")


def noisy(labels, seed, strength, sharpness):
    """Predictions that get worse with the strength of a corruption."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), Z))
    logits[np.arange(len(labels)), labels] += 4.0 / (1 + strength)
    ids = np.array([b"test__%d" % i for i in range(len(labels))])
    return Predictions(ids, labels, (sharpness * logits).astype(np.float32))


def make_run(
    folder,
    method="vanilla",
    seed=0,
    dataset="cifar10",
    labels=None,
    num_bins=15,
    types=TYPES,
    temperature=None,
    ood=None,
    extra=None,
    **settings,
):
    """Write a run as training and evaluation leave it, without a model."""
    labels = np.arange(N) * 7 % Z if labels is None else labels
    config = Config.make(
        dataset, method, seed=seed, output_dir=str(folder), **settings
    ).as_dict()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | (extra or {})))
    sharp = OVERCONFIDENCE[method]
    clean = noisy(labels, [seed, len(method), 0], 0, sharp)
    clean.save(folder / "predictions.npz")
    metrics = measure(clean, num_bins)
    if temperature:
        (folder / "temperature.json").write_text(
            json.dumps({"temperature": temperature})
        )
    if types:
        found = {}
        (folder / "shift").mkdir()
        for t, name in enumerate(types):
            for s in SEVERITIES:
                own = noisy(labels, [seed, len(method), t + 1, s], s / 2, sharp)
                own.save_compactly(folder / "shift" / f"{name}_{s}.npz")
                own = Predictions.load(folder / "shift" / f"{name}_{s}.npz")
                found.setdefault(name, {})[str(s)] = calibration.summary(
                    labels, own.probabilities, num_bins
                )
        metrics["shift"] = {
            "source": "generated",
            "seed": 0,
            "num_examples": len(labels),
            "num_bins": num_bins,
            **aggregate(found, dataset),
        }
    if ood:
        (folder / "ood").mkdir()
        own = noisy(np.zeros(50, np.int64), [seed, 99], 5, sharp)
        own.save_compactly(folder / "ood" / f"{ood}.npz")
        metrics["ood"] = {
            ood: calibration.ood_scores(
                calibration.predictive_entropy(clean.probabilities),
                calibration.predictive_entropy(own.probabilities),
            )
        }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def add_index(vanilla):
    folder = vanilla / "robustness" / "cw"
    folder.mkdir(parents=True)
    ids = Predictions.load(vanilla / "predictions.npz").ids
    order = np.random.default_rng(5).permutation(len(ids))
    distances = np.random.default_rng(6).random(len(ids)).astype(np.float32)
    found = np.ones(len(ids), bool)
    RobustnessIndex(ids[order], distances[order], found).save(folder / "test.npz")


def stored(folder, name="predictions"):
    """Labels and probabilities of a file, read plainly."""
    with np.load(folder / f"{name}.npz") as file:
        if "probabilities" in file.files:
            return file["labels"], file["probabilities"].astype(np.float64)
        e = np.exp(file["logits"].astype(np.float64))
        return file["labels"], e / e.sum(axis=1, keepdims=True)


def assert_same_but_for_rounding(found, expected):
    """Equal numbers, of rows that stood in other batches or at other places of them.

    On processors without AVX-512 TensorFlow's matrix products round some rows of a
    batch otherwise than the others.
    """
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def plain_ece(labels, p, num_bins=15):
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    return sum(
        abs((right[bins == b] - confidence[bins == b]).sum()) for b in range(num_bins)
    ) / len(labels)


def in_a_browser(text, folder, *options):
    """Return the DOM of a page after a browser has shown it and run its scripts."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    path = folder / "shown.html"
    path.write_text(text)
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=3000"]
    command += [f"--user-data-dir={folder}/u", *options, path.as_uri()]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120
    ).stdout


class Page(html.parser.HTMLParser):
    """Collects what a page refers to, its tables' cells, and that tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.links, self.open, self.ids, self.images = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        self.ids.add(attrs.get("id"))
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag == "img":
            self.images.append(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
