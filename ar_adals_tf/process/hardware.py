"""The machine that a figure was measured on."""

import os
import platform
import re
from pathlib import Path

import tensorflow as tf


def describe_hardware() -> str:
    """Return threads, processor, accelerators and versions in one line.

    Such as `2 x Intel(R) Xeon(R) Processor; no accelerator; TensorFlow 2.21.0, Python
    3.11.8`.
    """
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = re.search(r"^model name.*?:(.*)$", info.read_text(), re.M)
        model = named[1].strip() if named else model
    devices = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return (
        f"{os.cpu_count()} x {model}; {', '.join(devices) or 'no accelerator'}; "
        f"TensorFlow {tf.__version__}, Python {platform.python_version()}"
    )
