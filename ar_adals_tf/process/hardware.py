"""The machine that work runs on: its name, and what it cannot do well."""

import os
import platform
import re
from pathlib import Path

import tensorflow as tf

#: What Linux calls the instructions of each number format, on x86 and on ARM.
_INSTRUCTIONS = {
    "bfloat16": {"amx_bf16", "avx512_bf16", "avx_ne_convert", "bf16", "svebf16"},
    "float16": {"amx_fp16", "avx512_fp16", "avx_ne_convert", "asimdhp"},
}


def describe_hardware() -> str:
    """Return threads, processor, accelerators and versions in one line.

    Such as `2 x Intel(R) Xeon(R) Processor; no accelerator; TensorFlow 2.21.0, Python
    3.11.8`.
    """
    named = re.search(r"^model name.*?:(.*)$", _cpuinfo(), re.M)
    model = named[1].strip() if named else platform.processor() or platform.machine()
    devices = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return (
        f"{os.cpu_count()} x {model}; {', '.join(devices) or 'no accelerator'}; "
        f"TensorFlow {tf.__version__}, Python {platform.python_version()}"
    )


def slow_format(dtype: str) -> str | None:
    """Say that this machine computes slowly in a number format, if it does.

    It does if it has no accelerator and its processor no instructions for the format,
    as far as Linux says. TensorFlow then converts every number.

    Args:
        dtype: Such as `bfloat16`; other formats than that and `float16` are never slow.

    Returns:
        The reason, to stand behind the setting's name; None if there is none.

    Example:
        >>> slow_format("float32") is None
        True
    """
    if dtype not in _INSTRUCTIONS:
        return None
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", _cpuinfo(), re.M)
    if not flags or not _INSTRUCTIONS[dtype].isdisjoint(flags[1].split()):
        return None
    if any(d.device_type != "CPU" for d in tf.config.list_physical_devices()):
        return None
    return (
        f"this processor has no {dtype} instructions, so a step can take many times as "
        "long as in float32"
    )


def _cpuinfo() -> str:
    """Return what Linux says of the processor; an empty text elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""
