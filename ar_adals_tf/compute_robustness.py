"""Find how easily an adversary flips each image: the robustness index.

Of a dataset's images under any Keras model of images in [0, 1]:

    python -m ar_adals_tf.compute_robustness --model_file=vanilla.keras \
        --dataset=cifar10 --split=train --output_file=train.npz

or of arrays, an .npz file with `images` (N, H, W, C), uint8 or floats in [0, 1], and
if you like `labels` (N,) and `ids` (N,):

    python -m ar_adals_tf.compute_robustness --model_file=my.keras \
        --arrays=my_images.npz --output_file=index.npz

Several GPUs or machines share the work with --strategy=mirrored or multi_worker.

--dry_run attacks a few images and says how long all of them will take. A computation
that was interrupted goes on where it was. In Python, load the result with
`RobustnessIndex.load`.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError

FLAGS = command_line.FLAGS


def main() -> None:
    """Compute the index that the flags describe."""
    from ar_adals_tf import attacks
    from ar_adals_tf.experiment.runs import load_model
    from ar_adals_tf.files import remove, writable_folder
    from ar_adals_tf.robustness import RobustnessIndex

    if not FLAGS.model_file:
        raise InputError("--model_file is missing; give the .keras file to attack")
    model = load_model(FLAGS.model_file)
    source = _source()
    settings = command_line.given_attack_settings()
    if FLAGS.dry_run:
        classes = int(model.output_shape[-1])
        passes = attacks.cost(FLAGS.attack, classes, **settings)
        seconds, tried = _time_a_few(model, source, settings)
        count = len(source["images"])
        print(
            f"{FLAGS.attack} takes at most {passes} forward-backward passes an image; "
            f"{tried} images took {seconds:.1f} s, so {count:,} will take about "
            f"{_duration(seconds / tried * count)}."
        )
        return
    if not FLAGS.output_file:
        raise InputError("--output_file is missing; give the .npz file to write")
    path = Path(FLAGS.output_file)
    writable_folder(path.parent, "the folder of --output_file")
    shards = path.with_suffix(".shards")
    try:
        index = RobustnessIndex.compute(
            model, **source, attack=FLAGS.attack, shards_dir=shards, **settings
        )
    except InputError:
        if not list(shards.glob("shard-*")):
            remove(shards)
        raise
    index.save(path)
    remove(shards)
    print(f"{index}\nwritten to {path}")


def _source() -> dict[str, Any]:
    """Return the arguments of `RobustnessIndex.compute` that say which images."""
    if not FLAGS.arrays:
        return {"images": command_line.load_splits(FLAGS.split)[FLAGS.split]}
    try:
        with np.load(FLAGS.arrays, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # a wrong byte makes NumPy raise nearly anything
        raise InputError(
            f"--arrays={FLAGS.arrays} cannot be read ({type(error).__name__}: "
            f"{str(error)[:80]}); give an .npz file made with "
            "np.savez(file, images=..., labels=..., ids=...)"
        ) from error
    if "images" not in arrays:
        raise InputError(
            f"--arrays={FLAGS.arrays} has no `images`, only "
            f"{', '.join(arrays) or 'nothing'}; make it with "
            "np.savez(file, images=..., labels=..., ids=...)"
        )
    if len(np.unique(ids := arrays.get("ids", []))) < len(ids):
        raise InputError(
            f"the ids in --arrays={FLAGS.arrays} must be unique; {len(np.unique(ids))} "
            f"of {len(ids)} are different; give every image an id of its own"
        )
    known = {k: arrays[k] for k in ("images", "labels", "ids") if k in arrays}
    return known | {"dataset": Path(FLAGS.arrays).name, "split": ""}


def _time_a_few(
    model: Any, source: dict[str, Any], settings: dict[str, Any]
) -> tuple[float, int]:
    """Attack one batch to compile and a second one to measure."""
    from ar_adals_tf.attacks.table import prepare

    images = source["images"]
    if hasattr(images, "batches"):
        images = next(images.batches(256).as_numpy_iterator())[1]
    images = np.asarray(images[:256])
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    attack = prepare(FLAGS.attack, model, keep_adversarial=False, **settings)
    attack(images[:1])
    started = time.perf_counter()
    attack(images)
    return time.perf_counter() - started, len(images)


def _duration(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> _duration(5400)
        '1.5 hours'
    """
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


command_line.define_data_flags()

command_line.define_strategy_flags()

command_line.define_attack_flags()

flags.DEFINE_string("model_file", None, "The .keras file of the model to attack.")

flags.DEFINE_enum(
    "split", "train", ["train", "validation", "test"], "Which images of the dataset."
)

flags.DEFINE_string("arrays", None, "An .npz file of images, instead of a dataset.")

flags.DEFINE_string("output_file", None, "The index to write, an .npz file.")

flags.DEFINE_bool("dry_run", False, "Only say how long it will take.")

flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
