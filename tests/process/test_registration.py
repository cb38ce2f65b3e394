"""A saved model with classes of the package is loaded where the package is imported."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import ar_adals_tf
from ar_adals_tf.lazy import load
from ar_adals_tf.methods.adafocal import AdaFocal
from ar_adals_tf.methods.adversarial import TRADES
from ar_adals_tf.process.registration import CLASSES

PACKAGE = Path(ar_adals_tf.__file__).parent


def test_every_registered_class_is_known():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        decorated = r"^@keras.saving.register_keras_serializable\(.*\)\nclass (\w+)"
        for name in re.findall(decorated, path.read_text(), re.M):
            found.add(f"{module}:{name}")
    assert found == set(CLASSES)
    for reference in CLASSES:
        name = keras.saving.get_registered_name(load(reference))
        assert name == f"ar_adals_tf>{reference.partition(':')[2]}"
        assert keras.saving.get_registered_object(name) is load(reference)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models with a metric, a loss, and a training step of the package."""
    folder = tmp_path_factory.mktemp("models")
    images = keras.Input((4,))
    softmax = keras.layers.Dense(3, "softmax", kernel_initializer="ones")(images)
    logits = keras.layers.Dense(3, kernel_initializer="ones")(images)
    plain = keras.losses.CategoricalCrossentropy(from_logits=True)
    metrics = [ar_adals_tf.ExpectedCalibrationError(num_bins=7)]
    by_metric = keras.Model(images, softmax)
    by_metric.compile("sgd", "sparse_categorical_crossentropy", metrics=metrics)
    by_metric.fit(np.ones((4, 4)), np.arange(4) % 3, verbose=0)
    by_loss = keras.Model(images, logits)
    by_loss.compile("sgd", AdaFocal(num_bins=7))
    by_step = TRADES(images, logits, epsilon=0.1)
    by_step.compile("sgd", plain)
    for name, model in {"m": by_metric, "l": by_loss, "s": by_step}.items():
        model.save(folder / f"{name}.keras")
    by_metric.save(folder / "m.h5")
    return folder


@pytest.mark.parametrize(
    "imports",
    [
        "import ar_adals_tf; import keras",
        pytest.param("import keras; import ar_adals_tf", marks=pytest.mark.slow),
    ],
)
def test_importing_the_package_is_enough(imports, folder):
    """In a new process, where nothing else of the package is touched."""
    script = f"""
{imports}
import numpy as np
def loaded(name):
    return keras.models.load_model({str(folder)!r} + "/" + name)
for name in ("m.keras", "m.h5"):
    model = loaded(name)
    model.evaluate(np.ones((4, 4)), np.arange(4) % 3, verbose=0)
    print([type(m).__name__ + str(m.num_bins) for m in model.metrics[1].metrics])
print(type(loaded("l.keras").loss).__name__, type(loaded("s.keras")).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    metric = "['ExpectedCalibrationError7']"
    assert done.stdout.split("\n")[-4:-1] == [metric, metric, "AdaFocal TRADES"]


def test_keras_without_a_registry_is_left_alone():
    """An old Keras, or another module of its name, is no reason to fail."""
    script = "import sys, types; sys.modules['keras'] = types.ModuleType('keras'); "
    done = subprocess.run(
        [sys.executable, "-c", f"{script}import ar_adals_tf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
