"""The work of `compute_robustness` and `compare_indexes` on whole indexes."""

import glob
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ar_adals_tf import files
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Source
from ar_adals_tf.files import writable_folder
from ar_adals_tf.index.distances import describe, few_of
from ar_adals_tf.nested import map_leaves
from ar_adals_tf.process.locks import lock_beside, only_writer, when_free
from ar_adals_tf.process.progress import duration
from ar_adals_tf.reading import read_json
from ar_adals_tf.robustness import RobustnessIndex

if TYPE_CHECKING:
    import keras

#: Names in the folder of an index's shards.
_PLAN, _SHARD = "plan.json", "shard-[0-9][0-9][0-9][0-9][0-9].npz"

#: What decides the distances of an index, and what an error calls it.
_DECIDING = {
    "digest": "other images or labels",
    "model_digest": "another model",
    "attack": "another attack",
    "settings": "other settings of the attack",
}


def check_place(path: str | Path, inputs: Sequence[str | None]) -> None:
    """Check that an index can be written, before the work for it begins.

    Args:
        path: The `.npz` file.
        inputs: Files that the work reads. None is left out.

    Raises:
        InputError: If not, or if the file is an input, or its folder of shards holds
            one.
    """
    files.writable_file(path, "--output_file", [".npz"], inputs)
    shards = _shards(Path(path))
    names = [name for given in inputs if given for name in (given, realpath(given))]
    folders = [Path(name).parent for name in names]
    files.refuse_overwriting(shards, folders, "the folder of shards")


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
    shards = _shards(path)
    begun = (shards / _PLAN).exists()  # by a process that was killed, or by others
    try:
        index = RobustnessIndex.compute(model, images, shards_dir=shards, **arguments)
    except InputError:
        if not begun and not any(shards.glob(_SHARD)):
            files.clear(shards, _PLAN)
        raise
    index.save(path)
    files.clear(shards, _SHARD, _PLAN)
    return index


def compute_once(
    path: str | Path,
    model: "keras.Model",
    images: Source,
    attack: str = "cw",
    say: Callable[[str], None] = print,
    verbose: bool = True,
    **settings: Any,
) -> RobustnessIndex:
    """Compute an index and save it, unless the file holds this very index already.

    One process at a time does so; a second one waits and finds the index.

    Args:
        path: The `.npz` file.
        model: See `RobustnessIndex.compute`.
        images: See `RobustnessIndex.compute`.
        attack: See `RobustnessIndex.compute`. Defaults to `cw`.
        say: Takes each line for people. Defaults to `print`.
        verbose: Whether to show a progress bar.
        **settings: Settings of the attack.

    Raises:
        InputError: If the file is something else, or is about to be: an index by
            another attack, of another model or of other images. What is there stays.
    """
    path = Path(path)
    wanted = json.loads(json.dumps(describe(model, images, attack, settings)))

    def refuse_others() -> None:
        plan = _plan(path)
        if plan is not None and (other := _difference(plan, wanted)):
            raise InputError(
                f"another process computes {path} of {other}; give another file for "
                "this index"
            )

    def taken(what: str) -> InputError:
        return InputError(
            f"{path} is there already and is {what}; give another file for this "
            "index, or remove that one"
        )

    def find() -> RobustnessIndex:
        try:
            index = RobustnessIndex.load(path)
        except InputError as error:
            raise taken("no robustness index") from error
        if other := _difference(index.metadata, wanted):
            raise taken(f"an index of {other}")
        say(f"{index}\nfound in {path}; remove it to compute it again")
        return index

    def make() -> RobustnessIndex:
        index = compute_and_save(
            path, model, images, attack=attack, verbose=verbose, **settings
        )
        say(f"{index}\nwritten to {path}")
        return index

    return found_or_made(path, find, make, refuse_others, say)


def compute_cached(
    folder: str | Path,
    model: "keras.Model",
    images: Source,
    attack: str = "cw",
    verbose: bool = True,
    **settings: Any,
) -> RobustnessIndex:
    """Compute an index and keep it in a folder, unless this very index is there.

    A folder holds many: the name of a file follows from the images, the model, the
    attack and its settings. Other arguments and errors: see `compute_once`.
    """
    about = describe(model, images, attack, settings)
    deciding = json.dumps([about[name] for name in _DECIDING])
    key = hashlib.sha256(deciding.encode()).hexdigest()[:16]
    path = Path(folder, f"{images.name}-{attack}-{key}.npz")

    def say(line: str) -> None:
        if verbose:
            print(line)

    return compute_once(path, model, images, attack, say, verbose, **settings)


def _plan(path: Path) -> Any:
    """Return what the shards of an index say they are of; None if there are none."""
    try:
        return read_json(_shards(path) / _PLAN)
    except FileNotFoundError:  # it vanishes when the index is done
        return None
    except InputError:  # it is no plan of ours
        return {}


def _difference(there: Any, wanted: Mapping[str, Any]) -> str | None:
    """Return what tells the metadata of two indexes apart, in words, if anything."""
    for name, title in _DECIDING.items():
        if not isinstance(there, dict) or there.get(name) != wanted.get(name):
            return title
    return None


def is_of(
    index: RobustnessIndex,
    model: "keras.Model",
    images: Source,
    attack: str,
    settings: Mapping[str, Any],
) -> bool:
    """Tell whether an index is what `RobustnessIndex.compute` would return."""
    wanted = json.loads(json.dumps(describe(model, images, attack, settings)))
    return _difference(index.metadata, wanted) is None


def found_or_made(
    path: Path,
    find: Callable[[], RobustnessIndex],
    make: Callable[[], RobustnessIndex],
    before_waiting: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> RobustnessIndex:
    """Return the index of a path, which is found, or made by one process at a time.

    What a killed process left of it is removed, or taken up.

    Args:
        path: The index. Its folder is made if it is absent.
        find: Reads it, if the file is there.
        make: Computes it.
        before_waiting: See `ar_adals_tf.process.locks.only_writer`.
        say: See `ar_adals_tf.process.locks.only_writer`. Defaults to `print`.
    """
    lock = lock_beside(path)
    if not path.exists():
        writable_folder(path.parent, "the folder of the index")
        with only_writer(lock, say, before_waiting):
            # A process that this one waited for may have made it.
            if not path.exists():
                files.sweep(path.parent, glob.escape(path.name))
                return make()
    index = find()
    asides = files.asides(path.parent, glob.escape(path.name))
    if asides or lock.exists() or _shards(path).is_dir():
        when_free(lock, partial(sweep_index, path, index))
    return index


def sweep_index(path: Path, index: RobustnessIndex) -> None:
    """Remove what a killed process left of an index that is there."""
    files.sweep(path.parent, glob.escape(path.name))
    plan = _plan(path)
    if plan is None or not _difference(plan, index.metadata):
        files.clear(_shards(path), *((_SHARD, _PLAN) if plan else ()))


def _shards(path: Path) -> Path:
    return path.with_suffix(".shards")


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
    from ar_adals_tf.outputs import num_classes

    ids, pixels = next(iter(images.shards(256)))
    few = few_of(images)
    runner = prepare(attack, model, few, keep_adversarial=False, **settings)
    runner(map_leaves(lambda rows: rows[:1], pixels))  # compiles
    started = time.perf_counter()
    runner(pixels)
    seconds = time.perf_counter() - started
    passes = cost(attack, num_classes(model), **settings)
    return Estimate(attack, passes, len(ids), seconds, len(images))


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
