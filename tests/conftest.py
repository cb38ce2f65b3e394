"""What tests share: real images."""

import gc
import os
import signal
import sys

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # several workers share the cores
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# A shell without job control has Ctrl-C ignored in what it starts in the background,
# and so would have all processes that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are cores: some wait for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what has been imported, a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_model_was_warned_of() -> None:
    """Let each test begin as a process does, which has called no model a guess."""
    if "ar_adals_tf.index.sanity" in sys.modules:
        sys.modules["ar_adals_tf.index.sanity"]._SAID.clear()


@pytest.fixture(scope="session")
def tfds_dir() -> str:
    """Return a TFDS folder that has CIFAR-10, or skip."""
    from tests.helpers import tfds_folder_with

    return tfds_folder_with("cifar10")


@pytest.fixture(scope="session")
def cifar10_test(tfds_dir):
    """Return the first 1,000 CIFAR-10 test images, uint8, and their labels."""
    from ar_adals_tf import datasets

    split = datasets.load(
        "cifar10", data_dir=tfds_dir, splits=("test",), limit_examples=1000
    )["test"]
    return split.images, split.labels


@pytest.fixture(scope="session")
def fashion_small():
    """Return the embedded Fashion-MNIST images: split -> (uint8 images, labels)."""
    from ar_adals_tf import datasets

    return {
        name: (split.images, split.labels)
        for name, split in datasets.load("fashion_mnist_small").items()
    }


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a random generator that every test starts anew."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def train(fashion_small):
    """Return examples to train by, with ids and made-up distances."""
    from tests.fits import NUM_TRAIN, Examples

    images, labels = fashion_small["train"]
    return Examples(images[:NUM_TRAIN], labels[:NUM_TRAIN], "train")


@pytest.fixture(scope="session")
def validation(fashion_small):
    """Return examples to validate by, with ids and made-up distances."""
    from tests.fits import NUM_VALIDATION, Examples

    images, labels = fashion_small["validation"]
    return Examples(images[:NUM_VALIDATION], labels[:NUM_VALIDATION], "validation")


@pytest.fixture(scope="module")
def no_pictures():
    """Let all pictures of a module's tests be blank: other tests paint them."""
    from tests.helpers import no_pictures

    with no_pictures():
        yield


@pytest.fixture(scope="module")
def thin_network():
    """Let `small_cnn` have one convolution, in the process of the tests.

    Most of a short training's time goes into the graph of its network.
    """
    from ar_adals_tf.models.layers import Network
    from ar_adals_tf.models.networks import MODELS
    from tests.helpers import thin

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "small_cnn", Network(thin))
        yield
