"""What the robustness index needs of memory, and how long a run waits for it.

    python -m benchmarks.memory

Every figure comes from a process of its own, whose highest resident memory counts.
First an index of many images is computed and one of few, of an array and of a split of
the package; the array of 8-bit images that each process holds is taken off, since it
is there before. (A split in memory gives TensorFlow a copy of it, for training too,
which is not taken off.) Then an index of as many images as ImageNet's training set is
joined to a dataset by id; what TensorFlow and the package take by themselves is taken
off.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("few", 5_000, "Images of the small index.")
flags.DEFINE_integer("many", 50_000, "Images of the large one.")
flags.DEFINE_list("attacks", ["margin", "cw"], "By which attacks.")
flags.DEFINE_string("model", "small_cnn", "An untrained network of the package.")
flags.DEFINE_integer("joined", 1_281_167, "Ids to join: ImageNet's training images.")
flags.DEFINE_string(
    "child", None, "What this process measures; for the command itself."
)

_FEW_ITERATIONS: dict[str, dict[str, Any]] = {
    "cw": {"iterations": 3, "search_steps": 1, "extra_steps": 0},
    "ddn": {"steps": 10, "extra_rounds": 0},
}


def peak() -> float:
    """Return the highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident() -> float:
    """Return the resident memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def compute(attack: str, source: str, count: str) -> dict[str, float]:
    """Attack random images of CIFAR's size."""
    from ar_adals_tf import RobustnessIndex, datasets, models

    images: Any = np.random.default_rng(0).integers(
        0, 256, (int(count), 32, 32, 3), np.uint8
    )
    size = images.nbytes / 2**20
    if source == "split":
        ids = np.arange(int(count)).astype("S")
        info = datasets.DATASETS["cifar10"]
        labels = np.zeros(int(count), np.int64)
        images = datasets.ArraySplit("random", "train", info, ids, images, labels)
    model = models.build(FLAGS.model, (32, 32, 3), 10)
    started = time.perf_counter()
    settings = _FEW_ITERATIONS.get(attack, {})
    RobustnessIndex.compute(model, images, attack=attack, verbose=False, **settings)
    return {"seconds": time.perf_counter() - started, "MB": peak(), "array": size}


def join(path: str) -> dict[str, float]:
    """Load an index, join it to a dataset and look a batch up."""
    import tensorflow as tf

    from ar_adals_tf import AdaptiveLabelSmoothing, RobustnessIndex, soft_labels

    tf.constant(0)  # brings the runtime up
    before, started = resident(), time.perf_counter()
    index = RobustnessIndex.load(path)
    loaded = time.perf_counter()
    ids, labels = tf.constant(index.ids[:1024]), tf.zeros(1024, tf.int64)
    data = tf.data.Dataset.from_tensors((ids, tf.zeros([1024, 1]), labels))
    data = soft_labels(data, AdaptiveLabelSmoothing(1000), index, check_ids=False)
    next(iter(data))
    return {
        "load": loaded - started,
        "join": time.perf_counter() - loaded,
        "MB": peak() - before,
    }


def synthetic_index(path: Path, count: int) -> None:
    """Write an index with ids such as TFDS gives ImageNet's images."""
    from ar_adals_tf import RobustnessIndex

    shard, number = np.divmod(np.arange(count), -(-count // 1024))
    ids = np.array(
        [
            b"imagenet2012-train.tfrecord-%05d-of-01024__%d" % pair
            for pair in zip(shard.tolist(), number.tolist(), strict=True)
        ]
    )
    distances = np.random.default_rng(0).random(count, np.float32)
    RobustnessIndex(ids, distances, np.ones(count, bool)).save(path)


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    "compute": compute,
    "join": join,
}


def measured(*child: str) -> dict[str, float]:
    """Measure in a process of its own."""
    arguments = [f"--child={','.join(child)}", f"--model={FLAGS.model}"]
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def main(_: list[str]) -> None:
    if FLAGS.child:
        name, *arguments = FLAGS.child.split(",")
        print(json.dumps(CHILDREN[name](*arguments)))
        return
    from ar_adals_tf.process import hardware

    print(hardware.describe_hardware())
    print(
        f"\ncomputing an index, {FLAGS.model} on 32x32x3; MB beside the images' array"
    )
    for attack in FLAGS.attacks:
        for source in ("array", "split"):
            few, many = (
                measured("compute", attack, source, str(count))
                for count in (FLAGS.few, FLAGS.many)
            )
            own = [result["MB"] - result["array"] for result in (few, many)]
            print(
                f"  {attack:8} {source}: {FLAGS.few:,} images {own[0]:,.0f} MB, "
                f"{FLAGS.many:,} {own[1]:,.0f} MB ({many['seconds']:.0f} s): "
                f"{own[1] - own[0]:+,.0f} MB",
                flush=True,
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.npz"
        synthetic_index(path, FLAGS.joined)
        size = path.stat().st_size / 2**20
        found = measured("join", str(path))
    print(
        f"\njoining {FLAGS.joined:,} ids, {size:.0f} MB on disk: loaded in "
        f"{found['load']:.1f} s, the first batch {found['join']:.1f} s later; at most "
        f"{found['MB']:,.0f} MB above TensorFlow and the package"
    )


if __name__ == "__main__":
    app.run(main)
