"""The work of `compute_robustness`: an index made in steps, and its cost beforehand."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples import Source
from ar_adals_tf.files import remove, writable_folder
from ar_adals_tf.progress import duration
from ar_adals_tf.robustness import RobustnessIndex

if TYPE_CHECKING:
    import keras


def compute_and_save(
    path: str | Path,
    model: "keras.Model",
    images: np.ndarray | Source,
    **arguments: Any,
) -> RobustnessIndex:
    """Compute an index and save it. A computation that was killed goes on.

    Intermediate results lie beside the file, in a folder with the suffix `.shards`,
    until the index is saved.

    Args:
        path: The `.npz` file to write.
        model: See `RobustnessIndex.compute`.
        images: See `RobustnessIndex.compute`.
        **arguments: See `RobustnessIndex.compute`.

    Raises:
        InputError: See `RobustnessIndex.compute`.
    """
    path = Path(path)
    writable_folder(path.parent, "the folder of the index")
    shards = path.with_suffix(".shards")
    try:
        index = RobustnessIndex.compute(model, images, shards_dir=shards, **arguments)
    except InputError:
        if not any(shards.glob("shard-*")):
            remove(shards)
        raise
    index.save(path)
    remove(shards)
    return index


class Estimate(NamedTuple):
    """What an index will cost, as a few images tell.

    Attributes:
        attack: Name of the attack.
        passes: Forward-backward passes that an image costs at most.
        tried: Number of images that were attacked to find out.
        seconds: Time that these images took.
        total: Number of all images.

    Example:
        >>> str(Estimate("ddn", 100, tried=256, seconds=3.2, total=50_000))[-46:]
        '3.2 s, so 50,000 will take about 10.4 minutes.'
    """

    attack: str
    passes: int
    tried: int
    seconds: float
    total: int

    def __str__(self) -> str:
        return (
            f"{self.attack} takes at most {self.passes} forward-backward passes an "
            f"image; {self.tried} images took {self.seconds:.1f} s, so {self.total:,} "
            f"will take about {duration(self.seconds / self.tried * self.total)}."
        )


def estimate_cost(
    model: "keras.Model", images: Source, attack: str = "cw", **settings: Any
) -> Estimate:
    """Attack a few images to find out what the index of all will cost.

    Args:
        model: See `RobustnessIndex.compute`.
        images: Examples or a split.
        attack: See `RobustnessIndex.compute`. Defaults to `cw`.
        **settings: Settings of the attack.

    Raises:
        InputError: See `RobustnessIndex.compute`.
    """
    from ar_adals_tf.attacks import cost, prepare

    _, pixels = next(iter(images.shards(256)))
    runner = prepare(attack, model, keep_adversarial=False, **settings)
    runner(pixels[:1])  # compiles
    started = time.perf_counter()
    runner(pixels)
    seconds = time.perf_counter() - started
    passes = cost(attack, int(model.output_shape[-1]), **settings)
    return Estimate(attack, passes, len(pixels), seconds, len(images))
