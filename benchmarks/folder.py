"""What a large folder of small pictures costs: listing, checking, reading, an epoch.

    python -m benchmarks.folder                       # 100,000 pictures of 32 x 32
    python -m benchmarks.folder --pictures=1000000 --folder=/big/disk --steps=list

The pictures are made in `--folder` and kept there. Without it the folder is a temporary
one. `list` finds the files, `check` tries them all, `keep` decodes them into memory,
`stream` reads an epoch from the files, shuffled. Each step runs in a process of its
own, whose peak memory is printed.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS = ("list", "check", "keep", "stream")
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--folder", help="where the pictures are made and kept")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        work(args.step, args.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary) / "pictures"
        make(folder, args.pictures, args.side)
        print(f"{args.pictures:,} JPEGs of {args.side} x {args.side}", end="; ")
        print(f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}", flush=True)
        for step in args.steps.split(","):
            own = [f"--step={step}", f"--folder={folder}"]
            command = [sys.executable, "-m", "benchmarks.folder", *own]
            subprocess.run(command, check=True)


def make(folder: Path, count: int, side: int) -> None:
    """Make the pictures that are not there yet: a few hundred, under many names."""
    from PIL import Image

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 4, 4, 3), np.uint8)
    files = []
    for pixels in noise:
        path = folder.with_name("one.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((side, side)).save(path)
        files.append(path.read_bytes())
    for label in range(CLASSES):
        (folder / f"class_{label}").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"class_{number % CLASSES}" / f"{number:07}.jpg"
        if not path.exists():
            path.write_bytes(files[number % len(files)])


def work(step: str, folder: str) -> None:
    """Do one step and print its time and the process's peak memory."""
    if step == "list":
        from ar_adals_tf.datasets.folder import list_folder

        started = time.perf_counter()
        count = sum(list_folder(folder, show=False).counts.values())
    else:
        import tensorflow as tf

        from ar_adals_tf.datasets import own_loading
        from ar_adals_tf.datasets.own import describe
        from ar_adals_tf.process.quiet import quiet_libraries

        if step != "keep":
            own_loading.MEMORY_LIMIT = 0
        with quiet_libraries():
            tf.constant(0)
        data = describe(folder)  # listed, but not timed
        started = time.perf_counter()
        splits = own_loading.load_own(folder, data, 0, ("train",))
        count = len(splits["train"])
        if step == "stream":
            started = time.perf_counter()
            epoch = tf.Variable(0, dtype=tf.int64)
            for _ in splits["train"].training_batches(256, epoch, 0):
                pass
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"{step:7} {count:9,} pictures {seconds:8.1f} s {count / seconds:9,.0f} /s, "
        f"peak memory {peak:,.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
