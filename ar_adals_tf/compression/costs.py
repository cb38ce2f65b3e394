"""What models in files cost: size, size after gzip, time and memory."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.evaluation.footprint import (
    REPEATS,
    lite_logits,
    median_seconds,
    peak_memory,
    tensorflow_logits,
)
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.process import hardware


def measure_costs(files: Sequence[Path], batch: np.ndarray) -> list[dict[str, Any]]:
    """Measure models in turn, so that other work of the machine slows all of them.

    Args:
        files: `.keras` files, which TensorFlow runs, and `.tflite` files, which LiteRT
            runs on the processor.
        batch: Images `(B, H, W, C)`, float32 in [0, 1].

    Returns:
        For each file `hardware`, `batch_size`, `repeats`, `seconds_per_image` (the
        median), `file_bytes`, `gzip_bytes` and `peak_bytes` (see
        `footprint.peak_memory`). Zeros cost as much as other weights in the file
        itself; only compression makes a pruned model's file small.
    """
    functions = [
        lite_logits([file])
        if file.suffix == ".tflite"
        else tensorflow_logits([load_model(file)])
        for file in files
    ]
    seconds = median_seconds(functions, batch, REPEATS)
    return [
        {
            "hardware": hardware.describe_hardware(),
            "batch_size": len(batch),
            "repeats": REPEATS,
            "seconds_per_image": taken / len(batch),
            "file_bytes": file.stat().st_size,
            "gzip_bytes": gzip_bytes(file),
            "peak_bytes": peak_memory([file], batch.shape),
        }
        for file, taken in zip(files, seconds, strict=True)
    ]


def gzip_bytes(file: Path) -> int:
    """Return the size of a file after gzip at its strongest, in bytes."""
    return len(gzip.compress(file.read_bytes(), compresslevel=9, mtime=0))
