"""The work of `compute_robustness` and `compare_indexes` on whole indexes."""

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

    Intermediate results lie beside the `.npz` file, in a folder with the suffix
    `.shards`, until the index is saved. Arguments and errors: see
    `RobustnessIndex.compute`.
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

    Arguments and errors: see `RobustnessIndex.compute`.
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


class Agreement(NamedTuple):
    """How alike two indexes rank the same images.

    Attributes:
        spearman: Rank correlation of the distances, in [-1, 1].
        same_level: Share of images that lie in the same level of both, in [0, 1].
        within_one: Share of images whose levels differ by at most one, in [0, 1].
        table: `(R, R)` int64. The entry in row r and column s counts the images in
            level r of the first index and level s of the second.
    """

    spearman: float
    same_level: float
    within_one: float
    table: np.ndarray


def agreement(
    first: RobustnessIndex, second: RobustnessIndex, num_levels: int = 10
) -> Agreement:
    """Compare two indexes of the same images, in any order.

    Raises:
        InputError: If the ids differ, or if there are fewer images than levels.

    Example:
        >>> ids, found = np.arange(4), np.ones(4, bool)
        >>> first = RobustnessIndex(ids, np.array([1.0, 2.0, 3.0, 4.0]), found)
        >>> second = RobustnessIndex(ids, np.array([2.0, 1.0, 3.0, 4.0]), found)
        >>> agreement(first, second, num_levels=2).same_level
        1.0
        >>> agreement(first, second, num_levels=4).table.diagonal().tolist()
        [0, 0, 1, 1]
    """
    from scipy import stats

    missing = first.missing(second.ids)
    if len(missing) or len(first) != len(second):
        raise InputError(
            "only indexes of the same images can be compared; "
            f"{len(missing)} of {len(second)} ids of the second are not in the first; "
            "compute both on one split"
        )
    ids = np.sort(first.ids)
    here, there = first.aligned(ids), second.aligned(ids)
    rows = first.levels(num_levels)[here]
    columns = second.levels(num_levels)[there]
    table = np.zeros((num_levels, num_levels), np.int64)
    np.add.at(table, (rows, columns), 1)
    spearman = stats.spearmanr(first.distances[here], second.distances[there])
    apart = np.abs(rows - columns)
    return Agreement(
        float(spearman.statistic),
        float((apart == 0).mean()),
        float((apart <= 1).mean()),
        table,
    )
