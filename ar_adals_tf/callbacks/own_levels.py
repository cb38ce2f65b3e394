"""Robustness levels by the model in training itself, cut before given epochs.

It is how AR-AdaLS does with one training: levels are undivided, the model ranks its
examples when it has learned something, and again later. With levels of a vanilla model
to begin with, it is on-the-fly AR-AdaLS.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import files
from ar_adals_tf.attacks.box import Box
from ar_adals_tf.attacks.inputs import checked_images
from ar_adals_tf.attacks.program import has_slope
from ar_adals_tf.attacks.table import OWN_ATTACK, OWN_SETTINGS, prepare
from ar_adals_tf.automatic import check_every
from ar_adals_tf.callbacks.averages import as_delivered
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Source
from ar_adals_tf.examples.numbering import READ, as_dataset
from ar_adals_tf.examples.streamed import Streamed
from ar_adals_tf.indexing import compute_and_save, is_of, sweep_index
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.pipeline import with_ids
from ar_adals_tf.robustness import RobustnessIndex

#: The most images that are in memory at once, and the most bytes of them.
_MOST_IMAGES, _MOST_BYTES = 4096, 2**28


class OwnLevels(keras.callbacks.Callback):
    """Attacks the model in training before given epochs, and cuts the levels anew.

    The soft label of each level carries over; only which example is in which level
    changes, and nothing is compiled again. Where the optimizer averages the weights
    (`use_ema`), the averaged model ranks, which `fit` delivers at its end. The logs get
    `new_levels`: 1 in an epoch that began with new levels, otherwise 0.

    With a folder each index is kept there as `epoch_<epoch>/<name>.npz`, and a training
    that was interrupted reads it from there.

    Args:
        sources: The examples to rank, by name, such as `train` and `validation`.
        levels: The levels of the same names, which are updated.
        epochs: The epochs before which to rank, counted from 0. They may be set later,
            as `epochs`, until the training begins.
        attack: How the distances are found.
        settings: Settings of the attack.
        folder: Where indexes are kept. Defaults to None: nowhere.
        fixed: Whether the epochs are the same however often the training goes on, so
            that an older index than the expected one means that this was lost.
        shards: Whether to keep also what is done of an index, in case the process is
            killed. The sources must then yield their examples in one order.
        verbose: Whether to show progress.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        levels: Mapping[str, RobustnessLevels],
        epochs: Sequence[int] = (),
        *,
        attack: str = OWN_ATTACK,
        settings: Mapping[str, Any] = OWN_SETTINGS,
        folder: Path | None = None,
        fixed: bool = False,
        shards: bool = False,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        self.epochs = list(epochs)
        self._sources, self._levels = sources, levels
        self._attack, self._settings = attack, dict(settings)
        self._folder, self._fixed = folder, fixed
        self._shards, self._verbose = shards, verbose
        #: The model whose optimizer trains, where another is attacked, one of its
        #: outputs.
        self.trained: keras.Model | None = None
        self._runner: Any = None
        self._last: int | None = None  # before which epoch the levels were cut

    def __deepcopy__(self, memo: dict[int, Any]) -> "OwnLevels":
        """Return what cuts the same levels, for the training of another model."""
        del memo
        twin = copy.copy(self)
        twin.trained = twin._runner = twin._last = None
        return twin

    def undo(self) -> None:
        """Give the levels back what they had before any ranking."""
        self._last = None
        for levels in self._levels.values():
            levels.unrank()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Make the attack ready, once for all rankings, and try what it is given.

        Raises:
            InputError: If the model, or the first examples of a source, cannot be
                attacked.
        """
        del logs
        if self._runner is None or self._runner.model is not self.model:
            self._runner = prepare(
                self._attack,
                self.model,
                self._first_inputs(),
                keep_adversarial=False,
                **self._settings,
            )
        bounds = self._runner.settings.bounds
        for source in self._sources.values():
            for _, images in source.shards(self._runner.batch_size):
                self._check_slope(checked_images(images, self._runner.shape, bounds))
                break

    def _check_slope(self, images: np.ndarray) -> None:
        """Refuse now what the first ranking would refuse: inputs without a gradient."""
        if not has_slope(self._runner.logits, tf.constant(images[:1])):
            raise InputError(
                f"no gradient reaches the inputs of model {self.model.name!r}, which "
                "is to rank its own examples: it makes whole numbers of them, as an "
                "Embedding does, or does not use them; give indexes by a trained "
                "model, computed with at=, or num_levels=1"
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Cut new levels if it is time, or the newest that a training kept before.

        Unless the epochs are `fixed`, that training may have had another number of
        epochs, and other times to rank. Where there is no folder the model ranks now.
        What a folder keeps when a training starts at epoch 0 is of another training,
        and is removed.

        Raises:
            InputError: If the training goes on after a time to rank, and the folder has
                no index from before, or lacks that of the last fixed epoch.
        """
        del logs
        kept = self._kept()
        if epoch == 0:
            for other in filter(None, kept):  # one of epoch 0 may be this very index
                files.remove(kept[other])
        last = max((e for e in self.epochs if e <= epoch), default=None)
        if self._folder and last != epoch:  # the training may have been interrupted
            usable = [e for e in kept if e == last or (e < epoch and not self._fixed)]
            newest = max(usable, default=None)
            if newest is None and last not in (None, self._last):
                what = "not all indexes of the" if self._fixed else "no index of a"
                names = [f"epoch_{last}/{name}.npz" for name in self._levels]
                lacking = [n for n in names if not (self._folder / n).exists()]
                way = "start from epoch 0, or give the folder of the interrupted run"
                if self._fixed:
                    way = "put the files back, or train anew in another --output_dir"
                raise InputError(
                    f"training goes on at epoch {epoch}, but {self._folder} has {what} "
                    f"ranking before it: it lacks {' and '.join(lacking)}; {way}"
                )
            last = newest
        if last is None or (last < epoch and last == self._last):
            return
        self._last = last
        with as_delivered([self.trained or self.model]):
            for name, levels in self._levels.items():
                path = self._folder and self._folder / f"epoch_{last}/{name}.npz"
                if path and last < epoch:
                    levels.rank(RobustnessIndex.load(path))
                else:
                    levels.rank(self._find_or_rank(path, self._sources[name]))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Say in the logs whether the epoch began with new levels."""
        if logs is not None:
            logs["new_levels"] = float(epoch in self.epochs)

    def _kept(self) -> dict[int, Path]:
        """Return where whole rankings are kept, by their epochs."""
        folders = self._folder.glob("epoch_*") if self._folder else ()
        return {
            int(epoch): folder
            for folder in folders
            if (epoch := folder.name.removeprefix("epoch_")).isdecimal()
            and all((folder / f"{name}.npz").exists() for name in self._levels)
        }

    def _first_inputs(self) -> Any:
        """Return some inputs, which a subclassed model knows its size by, or None."""
        for source in self._sources.values():
            for _, images in source.shards(1):
                return images
        return None

    def _find_or_rank(self, path: Path | None, source: Source) -> RobustnessIndex:
        """Return the index of a source under the model as it is now."""
        if path and path.exists():
            index = RobustnessIndex.load(path)
            if is_of(index, self.model, source, self._attack, self._settings):
                sweep_index(path, index)  # there is no other writer
                return index
        arguments = {
            "attack": self._attack,
            "runner": self._runner,
            "shard_size": self._shard_size(),
            "verbose": self._verbose,
            **self._settings,
        }
        if path and self._shards:
            return compute_and_save(path, self.model, source, **arguments)
        index = RobustnessIndex.compute(self.model, source, **arguments)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            index.save(path)
        return index

    def _shard_size(self) -> int:
        """Return how many images to read at once: whole batches of all replicas."""
        batch = (
            self._runner.batch_size
            * self.model.distribute_strategy.num_replicas_in_sync
        )
        fit = _MOST_BYTES // (4 * math.prod(self._runner.shape))
        return max(1, min(_MOST_IMAGES, fit) // batch) * batch


def streamed_own_levels(
    refresh_every: int | str | None,
    train: tuple[Any, Any],
    validation: tuple[tf.data.Dataset, RobustnessLevels | None],
    num_classes: int,
    folder: Path | None,
    settings: Mapping[str, Any],
    check_ids: bool = True,
    **keys: str,
) -> OwnLevels | None:
    """Return what ranks the examples of two datasets; None if nothing asks for it.

    Args:
        refresh_every: See `ARAdaLS`.
        train: The training examples, in a form that `as_data` takes, and their levels.
        validation: The same of the validation examples.
        num_classes: Number of classes Z.
        folder: Where indexes are kept.
        settings: Settings of the attack, besides `OWN_SETTINGS`.
        check_ids: See `ARAdaLS`.
        **keys: The entries of dictionaries; see `soft_labels`.

    Raises:
        InputError: If something is missing, or does not fit together.
    """
    if refresh_every is None:
        if train[0] is not None or train[1] is not None:
            raise InputError(
                "refresh_data and refresh_levels are ranked at the epochs of "
                "refresh_every, which is None; give a number of epochs, or 'auto'"
            )
        return None
    check_every(refresh_every)
    pairs = {"train": train, "validation": validation}
    _check_levels(train[1], validation[1])
    sources: dict[str, Source] = {}
    levels: dict[str, RobustnessLevels] = {}
    for name, (data, own) in pairs.items():
        unit = Box.unit(settings["bounds"])
        sources[name] = _source(name, data, own, num_classes, unit, check_ids, **keys)
        levels[name] = own
    return OwnLevels(
        sources, levels, settings=OWN_SETTINGS | dict(settings), folder=folder
    )


def _source(
    name: str,
    data: Any,
    levels: RobustnessLevels,
    num_classes: int,
    unit: bool,
    check_ids: bool,
    **keys: str,
) -> Streamed:
    """Return a dataset as a source, or raise an `InputError`."""
    what = "refresh_data" if name == "train" else "the validation dataset"
    if data is None:
        raise InputError(
            "refresh_every ranks the training examples, so refresh_data must be these, "
            "with ids and without augmentation; received NoneType; give arrays, a "
            "tf.data.Dataset or a PyDataset"
        )
    data = as_dataset(data, what, READ, with_ids=True)
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(f"{what} repeats without end; remove .repeat()")
    examples = with_ids(data, num_classes, levels, check_ids=check_ids, **keys)
    ids, x = examples.element_spec
    if ids.shape.rank != 1:
        raise InputError(
            f"{what} must yield batches; received single examples; add .batch(256)"
        )
    parts = tf.nest.flatten(x)
    if len(parts) > 1 or not isinstance(parts[0], tf.TensorSpec):
        has = len(parts) if len(parts) > 1 else f"a {parts[0].value_type.__name__}"
        raise InputError(
            f"a ranking perturbs one dense input; {what} has {has}; leave out "
            "refresh_every, and give indexes made in your own way"
        )
    # A digest of all inputs would take a pass.
    read = examples.prefetch(1).as_numpy_iterator
    return Streamed("data", name, read, len(levels), levels.digest, unit)


def _check_levels(train: Any, validation: RobustnessLevels | None) -> None:
    """Refuse levels that are not there, or that began in different ways."""
    if not isinstance(train, RobustnessLevels):
        raise InputError(
            "refresh_every changes the levels of the training examples, so "
            "refresh_levels must be the RobustnessLevels that soft_labels got; "
            f"received {type(train).__name__}; make one with "
            "RobustnessLevels.undivided(ids, R), and give it to both"
        )
    if validation is None:
        raise InputError(
            "refresh_every ranks the validation examples too, so they need levels; "
            "give RobustnessLevels.undivided(ids, R) in place of the validation index"
        )
    if train.num_levels != validation.num_levels:
        raise InputError(
            f"refresh_levels has {train.num_levels} levels, the validation examples "
            f"{validation.num_levels}; use the same number"
        )
    if (train.index is None) != (validation.index is None):
        raise InputError(
            "training and validation examples must both begin with an index, or both "
            "undivided; received an index of "
            f"{'the validation' if train.index is None else 'the training'} examples "
            "alone; give both or neither"
        )
