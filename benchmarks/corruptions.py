"""How fast images are corrupted, type by type.

    python benchmarks/corruptions.py                         # made-up images, 32 x 32
    python benchmarks/corruptions.py --tfds=cifar10          # real ones, from TFDS
    python benchmarks/corruptions.py --side=224 --examples=32

The last lines say how long 10,000 images of all types and severities would take to
make, and to read where `evaluate --shift_cache_dir` keeps them: from a file that was
just written, so from memory, with its checksum. TFDS loads TensorFlow, so that with
`--tfds` the threads run as they do in an evaluation.
"""

import argparse
import os
import platform
import tempfile
import time

import numpy as np
import scipy
from scipy import ndimage

from ar_adals_tf.corruptions.apply import CORRUPTIONS, SEVERITIES, corrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--side", type=int, default=32, help="of made-up images")
    parser.add_argument("--tfds", help="dataset whose test images are taken instead")
    parser.add_argument("--workers", type=int, default=2, help="threads")
    args = parser.parse_args()

    images = read(args.tfds, args.examples) if args.tfds else make_up(args)
    print(f"hardware: {processor()}, {os.cpu_count()} cores; load {os.getloadavg()[0]}")
    print(f"python {platform.python_version()}, numpy {np.__version__}", end=", ")
    print(f"scipy {scipy.__version__}; {args.workers} threads; images {images.shape}")
    print(f"{'type':20} images/s, mean of 5 severities   cpu ms an image")
    total = 0.0
    for name in CORRUPTIONS:
        corrupt(images[:1], name, 1)  # reads the photographs, makes the matrices
        wall, cpu = time.perf_counter(), time.process_time()
        for severity in SEVERITIES:
            corrupt(images, name, severity, workers=args.workers)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        count = len(images) * len(SEVERITIES)
        print(f"{name:20} {count / wall:12,.0f} {1000 * cpu / count:33.3f}", flush=True)
        total += wall
    count = len(images) * len(SEVERITIES) * len(CORRUPTIONS)
    minutes = total / count * 10_000 * len(SEVERITIES) * len(CORRUPTIONS) / 60
    print(f"10,000 images of all 95: {minutes:.1f} minutes ({count / total:,.0f} /s)")
    seconds = reading(images) * len(SEVERITIES) * len(CORRUPTIONS)
    print(f"read from a cache: {seconds:.1f} seconds")


def reading(images: np.ndarray) -> float:
    """Return the seconds that 10,000 such images take to be read from a cache."""
    from ar_adals_tf.datasets.corrupted import ShiftSource
    from ar_adals_tf.datasets.shift_cache import cached
    from ar_adals_tf.datasets.splits import ArraySplit
    from ar_adals_tf.datasets.table import DatasetInfo

    many = np.resize(images, (10_000, *images.shape[1:]))
    ids, labels = np.arange(len(many)).astype("S"), np.zeros(len(many), np.int64)
    info = DatasetInfo(10, images.shape[1:])
    split = ArraySplit("made up", "test", info, ids, many, labels)
    source = ShiftSource("generated", lambda name, severity: split)
    with tempfile.TemporaryDirectory() as folder:
        kept = cached(source, split, folder)
        kept.read("fog", 1)  # writes it
        started = time.perf_counter()
        for _ in range(5):
            kept.read("fog", 1)
        return (time.perf_counter() - started) / 5


def make_up(args: argparse.Namespace) -> np.ndarray:
    noise = np.random.default_rng(0).normal(
        size=(args.examples, args.side, args.side, 3)
    )
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    return np.clip(128 + 800 * smooth, 0, 255).astype(np.uint8)


def read(name: str, examples: int) -> np.ndarray:
    import tensorflow_datasets as tfds

    data = tfds.load(name, split=f"test[:{examples}]")
    return np.stack([example["image"] for example in tfds.as_numpy(data)])


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(ln for ln in lines if "model name" in ln).split(": ")[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
