"""The machine in one line, against what the system's own files say."""

import platform
import re
from pathlib import Path

import pytest
import tensorflow as tf

from ar_adals_tf.process import hardware
from ar_adals_tf.process.hardware import describe_hardware, slow_format

CPUINFO = Path("/proc/cpuinfo")


@pytest.fixture
def parts():
    """Return processor, accelerators and versions."""
    return describe_hardware().split("; ")


def test_the_line_has_three_parts_in_order(parts):
    processor, accelerators, versions = parts
    assert re.fullmatch(r"\d+ x \S.*", processor)
    assert accelerators
    assert versions == (
        f"TensorFlow {tf.__version__}, Python {platform.python_version()}"
    )


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs Linux")
def test_the_processor_is_the_one_of_proc_cpuinfo(parts):
    """A paragraph a thread, each with its number and, on most, the processor's name."""
    paragraphs = [
        dict(re.findall(r"^(.*?)\s*: (.*)$", text, re.MULTILINE))
        for text in CPUINFO.read_text().strip().split("\n\n")
    ]
    threads = [p for p in paragraphs if "processor" in p]
    count, _, name = parts[0].partition(" x ")
    assert int(count) == len(threads)
    if "model name" in threads[0]:
        assert name == threads[0]["model name"]


def test_accelerators_are_tensorflows(parts):
    gpus = tf.config.list_physical_devices("GPU")
    named = [] if parts[1] == "no accelerator" else parts[1].split(", ")
    assert len(named) == len(gpus)


def test_a_machine_with_two_accelerators(monkeypatch):
    """Named by the device, or by TensorFlow where the device says nothing."""
    devices = [
        tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in (0, 1)
    ]
    details = {devices[0].name: {"device_name": "Chip 9"}, devices[1].name: {}}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda d: details[d.name]
    )
    assert "; Chip 9, /physical_device:GPU:1; " in describe_hardware()


@pytest.mark.parametrize(
    ("cpuinfo", "dtype", "slow"),
    [
        ("flags\t\t: fpu avx2 fma", "bfloat16", True),
        ("flags\t\t: fpu avx512f avx512_bf16", "bfloat16", False),
        ("flags\t\t: fpu amx_bf16 amx_tile", "bfloat16", False),
        ("flags\t\t: fpu avx512f avx512_bf16", "float16", True),
        ("Features\t: fp asimd bf16", "bfloat16", False),
        ("Features\t: fp asimd", "bfloat16", True),
        ("flags\t\t: fpu avx2 fma", "float32", False),
        ("flags\t\t: fpu avx2 fma", "none", False),
        ("", "bfloat16", False),  # not Linux: nothing is known
    ],
)
def test_a_number_format_without_instructions_is_slow(
    cpuinfo, dtype, slow, monkeypatch
):
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: f"processor\t: 0\n{cpuinfo}\n")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [])
    assert (slow_format(dtype) is not None) == slow


def test_an_accelerator_knows_all_formats(monkeypatch):
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: "flags\t\t: fpu avx2\n")
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [gpu])
    assert slow_format("bfloat16") is None
