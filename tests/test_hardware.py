"""What a figure was measured on."""

import os
import platform

import tensorflow as tf

from ar_adals_tf import hardware


def test_processor_accelerator_and_versions():
    text = hardware.describe_hardware()
    assert text.startswith(f"{os.cpu_count()} x ")
    gpus = tf.config.list_physical_devices("GPU")
    assert ("no accelerator" in text) == (not gpus)
    assert f"TensorFlow {tf.__version__}" in text
    assert f"Python {platform.python_version()}" in text
