"""A real, tiny run of AR-AdaLS to compress."""

import pytest

from ar_adals_tf.experiment.config import Config
from ar_adals_tf.training.run import train
from tests.helpers import no_pictures


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Return a run on 200 images; its vanilla run lies beside it, in `vanilla`."""
    folder = tmp_path_factory.mktemp("compressed")
    config = Config.make(
        "fashion_mnist_small",
        "ar_adals",
        limit_examples=200,
        batch_size=50,
        epochs=2,
        num_levels=2,
        alpha="0.5",
        attack="margin",
        vanilla_dir=str(folder / "vanilla"),
        output_dir=str(folder / "run"),
        tensorboard=False,
        verbose=False,
    )
    with no_pictures():
        return train(config)
