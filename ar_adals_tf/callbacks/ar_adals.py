"""Algorithm 1 as a Keras callback."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from ar_adals_tf.attacks.box import UNIT
from ar_adals_tf.automatic import rankings
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.callbacks import checks
from ar_adals_tf.callbacks.backup import Backup
from ar_adals_tf.callbacks.one_output import take_output
from ar_adals_tf.callbacks.own_levels import streamed_own_levels
from ar_adals_tf.callbacks.surroundings import (
    shorten_progress,
    stand_before_readers,
    surroundings,
)
from ar_adals_tf.callbacks.training_labels import TrainingLabels, say_errors_plainly
from ar_adals_tf.callbacks.validation import (
    Validation,
    ValidationMeasures,
    check_batches,
    check_dataset,
)
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.numbering import READ, as_dataset
from ar_adals_tf.files import check_local
from ar_adals_tf.finite import NotFiniteError
from ar_adals_tf.levels import RobustnessLevels, as_levels
from ar_adals_tf.methods.losses import Feedback
from ar_adals_tf.pipeline import with_levels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.whole_numbers import whole_number


class ARAdaLS(keras.callbacks.Callback):
    """Callback to adapt the soft labels to the validation set's miscalibration.

    After every epoch the callback makes one compiled pass over the validation set and
    moves the soft label of each robustness level against that level's
    overconfidence (Eq. 3). The next epoch trains with the new labels. The callback also
    adds to the logs, and so to the `History`:

    - `val_loss` (mean cross-entropy with the hard labels, without penalties),
      `val_accuracy` and `val_ece`. `fit` needs no `validation_data` of its own.
    - `val_ece_floor`, the mean ECE of a perfectly calibrated model with these
      confidences (`calibration.expected_floor`). A `val_ece` near it is noise.
    - `val_refinement`, the cross-entropy after the best temperature
      (`calibration.refinement_nll`): how good the model will be once it is calibrated.
      To stop by it, pass `EarlyStopping("val_refinement")`.
    - `p/r` and `eps/r` for each level r, which the epoch was trained with, and
      `conf/r` and `acc/r`, which it led to. A level without validation images has NaN
      there and keeps its p. `p_min` and `p_mean` are the least p and the mean over the
      levels. The progress line shows these two in place of the levels, and neither
      `val_ece_floor` nor `val_refinement`.

    You must do two things:

    - Pass `fit` the dataset that `soft_labels` returns for the same `smoothing`. Put no
      `cache` after `soft_labels`: each epoch must read the labels anew. `repeat` with
      `steps_per_epoch` works. Then the batches that were prepared ahead of an epoch
      still have the labels of the epoch before.
    - To go on after an interruption, give a `backup_dir` beside `BackupAndRestore`,
      which keeps the model but not p.

    What cannot work is refused before the first epoch, or after its first batch. The
    callback may stand anywhere in the list: it moves itself before those that read its
    logs, such as `EarlyStopping`, `ModelCheckpoint` and `CSVLogger`, and tells them
    which direction of these logs is better. With `use_ema` in the optimizer it
    validates the averaged weights, which `fit` delivers at its end.

    A second `fit` of the same model goes on with p as it is. For another model call
    `smoothing.reset()` first. A tuner that makes a deep copy of the callback for each
    model needs no reset: copies share smoothing, data and levels, and each new model
    begins with the p and the levels that the first one began with.

    Args:
        smoothing: The state, shared with `soft_labels`. With R = 1 this is AdaLS.
        validation_data: A finite dataset of validation examples with their hard labels,
            in batches: `(id, x, y)`, `(id, x, y, sample_weight)` or dictionaries (see
            `soft_labels`); without an index `(x, y)` or `(x, y, sample_weight)`. Arrays
            and a `keras.utils.PyDataset` serve too. All measures are weighted.
        validation_index: Robustness index of the validation examples, or their
            `RobustnessLevels`. Defaults to `None`, which R = 1 allows.
        refresh_every: When the model in training ranks the training and validation
            examples itself, by `margin`, and so cuts new levels: a number of epochs, or
            `"auto"` (`automatic.auto_refresh`). With levels made by
            `RobustnessLevels.undivided` this takes the place of a vanilla model: one
            level serves all until the first ranking, and each level begins with the p
            that it has by then. With indexes it is on-the-fly AR-AdaLS. The logs get
            `new_levels`, 1 in an epoch that began with new levels. Defaults to `None`:
            the levels stay.
        refresh_data: A finite dataset of the training examples to rank, without
            augmentation, in a form of `validation_data`. The ids of arrays are their
            positions. `x` is one tensor. What comes twice is ranked once.
        refresh_levels: The training examples' `RobustnessLevels`, which `soft_labels`
            has too.
        bounds: Where the inputs may lie, for the ranking: `(low, high)`, or None; see
            `ar_adals_tf.attacks`. Defaults to `(0, 1)`.
        num_bins: Number of bins of `val_ece`. Defaults to 15.
        from_logits: Whether the model returns logits rather than probabilities.
            Defaults to `None`: the model's last layer or its loss tells.
        backup_dir: A folder that keeps p after every epoch, and the index of every
            ranking. When `fit` starts again, with `BackupAndRestore` or with
            `initial_epoch`, p and levels go on from there. Defaults to `None`, which
            keeps nothing.
        id_key: The entry of a dictionary that has the id.
        label_key: The entry that has the label.
        weight_key: The entry that has the sample weight, if there is one.
        ensemble: Models whose averaged probabilities are validated instead of those of
            the model in training: AR-AdaLS of Ensemble.
        feedback: A loss that learns from the same validation pass, such as
            `ar_adals_tf.methods.adafocal.AdaFocal`. What it learned is in the logs, and
            not in `backup_dir`. Defaults to `None`.
        output: For a model with several outputs, the one that is calibrated: its key,
            the name of the layer that makes it, or its position. Defaults to `None`.
        log_levels: Whether the logs have the entries of single levels, four for each.
            Defaults to `True`.
        check_ids: Whether to read through the examples once, now, and check that the
            index, or the levels, are of these very examples; see `soft_labels`.

    Raises:
        InputError: At once, if the validation data are no dataset, repeat without end
            or are not in batches, if the index is of other examples, if their inputs
            are not finite, if the backend is not TensorFlow, if both `backup_dir`
            and `feedback` are given, or if `backup_dir` is not local. When training
            begins, if the model, its loss or its metrics do not fit soft labels (see
            `ar_adals_tf.callbacks.checks`), if `validation_data` of `fit` has labels of
            another kind, or if the validation examples are the training examples. After
            the first batch, if the training data does not come from `soft_labels`.
            After an epoch, if it is cached, or if the model's output is not finite and
            no `TerminateOnNaN` has ended the training.

    Example:
        ```python
        import keras
        import numpy as np
        import tensorflow as tf
        from ar_adals_tf import ARAdaLS, AdaptiveLabelSmoothing
        from ar_adals_tf import RobustnessIndex, soft_labels

        rng = np.random.default_rng(0)
        ids, y = np.arange(300), rng.integers(0, 3, 300)
        noise = rng.uniform(size=(300, 8, 8, 1)).astype("float32")
        x = (noise + y[:, None, None, None].astype("float32")) / 3  # images in [0, 1]

        def trained(data, loss, callbacks=()):
            model = keras.Sequential([
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ])
            model.compile(keras.optimizers.Adam(0.01), loss(from_logits=True))
            model.fit(data, epochs=10, callbacks=list(callbacks))
            return model

        plain = tf.data.Dataset.from_tensor_slices((x[:200], y[:200])).batch(20)
        vanilla = trained(plain, keras.losses.SparseCategoricalCrossentropy)

        data, index = {}, {}
        for name, part in {"train": slice(200), "validation": slice(200, 300)}.items():
            examples = (ids[part], x[part], y[part])
            data[name] = tf.data.Dataset.from_tensor_slices(examples).batch(20)
            index[name] = RobustnessIndex.compute(
                vanilla, x[part], y[part], ids=ids[part], attack="margin"
            )

        smoothing = AdaptiveLabelSmoothing(num_classes=3, num_levels=2)
        model = trained(
            soft_labels(data["train"].shuffle(10), smoothing, index["train"]),
            keras.losses.CategoricalCrossentropy,
            [ARAdaLS(smoothing, data["validation"], index["validation"])],
        )
        ```

        With one training there is neither `vanilla` nor an index:

        ```python
        from ar_adals_tf import RobustnessLevels

        levels = {
            "train": RobustnessLevels.undivided(ids[:200], 10, y[:200]),
            "validation": RobustnessLevels.undivided(ids[200:], 10, y[200:]),
        }
        smoothing = AdaptiveLabelSmoothing(num_classes=3, num_levels=10, alpha="auto")
        callback = ARAdaLS(
            smoothing,
            data["validation"],
            levels["validation"],
            refresh_every="auto",
            refresh_data=data["train"],
            refresh_levels=levels["train"],
        )
        model = trained(
            soft_labels(data["train"].shuffle(10), smoothing, levels["train"]),
            keras.losses.CategoricalCrossentropy,
            [callback],
        )
        ```
    """

    def __init__(
        self,
        smoothing: AdaptiveLabelSmoothing,
        validation_data: Any,
        validation_index: RobustnessIndex | RobustnessLevels | None = None,
        *,
        num_bins: int = DEFAULT_NUM_BINS,
        from_logits: bool | None = None,
        backup_dir: str | Path | None = None,
        id_key: str = "tfds_id",
        label_key: str = "label",
        weight_key: str = "sample_weight",
        ensemble: Sequence[keras.Model] = (),
        feedback: Feedback | None = None,
        refresh_every: int | Literal["auto"] | None = None,
        refresh_data: tf.data.Dataset | None = None,
        refresh_levels: RobustnessLevels | None = None,
        bounds: Any = UNIT,
        output: str | int | None = None,
        log_levels: bool = True,
        check_ids: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(smoothing, AdaptiveLabelSmoothing):
            raise InputError(
                "smoothing must be an AdaptiveLabelSmoothing; received "
                f"{type(smoothing).__name__}; the order is ARAdaLS(smoothing, "
                "validation_data, validation_index)"
            )
        check_local(backup_dir, "backup_dir")
        if feedback and backup_dir:
            raise InputError(
                "backup_dir keeps p and nothing of feedback, so training would go on "
                "otherwise; received both; leave out one of them"
            )
        if keras.backend.backend() != "tensorflow":
            raise InputError(
                "ARAdaLS needs Keras on TensorFlow; the backend is "
                f"{keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow"
            )
        if refresh_every is not None and ensemble:
            raise InputError(
                "refresh_every ranks by the one model in training; received an "
                "ensemble as well; leave out one of them"
            )
        validation_data = as_dataset(
            validation_data, "validation data", READ, validation_index is not None
        )
        self.smoothing = smoothing
        self.levels = as_levels(validation_index, smoothing.num_levels)
        self._data = check_batches(
            with_levels(
                check_dataset(validation_data),
                smoothing.num_classes,
                self.levels,
                id_key=id_key,
                label_key=label_key,
                weight_key=weight_key,
                check_ids=check_ids,
            )
        )
        self._refresh_every: Any = refresh_every
        self._own_levels = streamed_own_levels(
            refresh_every,
            (refresh_data, refresh_levels),
            (validation_data, self.levels),
            smoothing.num_classes,
            Path(backup_dir, "levels") if backup_dir else None,
            {"bounds": bounds, "from_logits": from_logits},
            check_ids,
            id_key=id_key,
            label_key=label_key,
            weight_key=weight_key,
        )
        self._num_bins = whole_number("num_bins", num_bins)
        self._from_logits, self._output = from_logits, output
        self._ensemble = list(ensemble)
        self._feedback = feedback
        self._log_levels = log_levels
        self._first_feedback = feedback.state() if feedback else {}
        self.backup_dir = backup_dir
        self._is_copy = False
        self._forget_training()

    def _forget_training(self) -> None:
        """Make all that belongs to one training, as it is before any."""
        self._backup = Backup(self.backup_dir) if self.backup_dir else None
        self._training_labels = TrainingLabels(self.smoothing)
        self._validate: Validation | None = None
        self._begun = self._ends_on_nan = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "ARAdaLS":
        """Return a callback for the training of another model on the same data.

        Tuners copy the callbacks for each trial. What `soft_labels` returned cannot be
        copied and reads this very smoothing, so the copy shares it, as it shares data
        and levels. The training of another model begins with the p and the levels
        that the first one began with.
        """
        memo[id(self.smoothing)] = self.smoothing  # for callbacks that have it, too
        twin = copy.copy(self)
        twin._is_copy = True
        twin._own_levels = copy.deepcopy(self._own_levels, memo)
        twin._forget_training()
        return twin

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check all that can be known, and compile the pass over the validation set."""
        del logs
        around = surroundings(self)
        stand_before_readers(self, around.callbacks)
        shorten_progress(around.callbacks)
        self._ends_on_nan = any(
            isinstance(one, keras.callbacks.TerminateOnNaN) for one in around.callbacks
        )
        checks.check_fellows(self, ARAdaLS, around.callbacks)
        checks.tell_directions(around.callbacks)
        checks.check_kept_weights(self.model, around.callbacks)
        checks.check_monitors(self.model, around.callbacks)
        models = self._ensemble or [self.model]
        if not models[0].built:
            for first in self._data.take(1):
                models[0](first[0])  # a subclassed model knows its output from then on
        heads = [take_output(model, self._output) for model in models]
        checks.check_model(
            heads[0], self.model, self.smoothing, self._from_logits, self._num_bins
        )
        checks.check_labels_of(around.validation_data, heads[0])
        self._validate = Validation(
            self._data,
            self.levels,
            heads,
            num_bins=self._num_bins,
            from_logits=self._from_logits,
            trained=models,
        )
        if self._is_copy and self.smoothing.rewind(self.model) and self._feedback:
            self._feedback.restore(self._first_feedback)
        if self.smoothing.alpha_is_auto:
            self.smoothing.set_epochs(self._num_epochs("alpha='auto' follows"))
        if self._own_levels:
            epochs = self._num_epochs("refresh_every depends on")
            self._own_levels.epochs = rankings(self._refresh_every, epochs)
            self._own_levels.set_model(heads[0])
            self._own_levels.trained = self.model
            if self.smoothing.follows_none:
                self._own_levels.undo()
            self._own_levels.on_train_begin()
        index = self.levels.index if self.levels else None
        checks.check_same_examples(self.smoothing, index)
        is_new = self.smoothing.follow(self.model)
        checks.check_same_model(self.smoothing, is_new)
        checks.check_pace(
            self.smoothing,
            (self.params or {}).get("epochs", 1),
            self.levels.counts() if self.levels else None,
        )
        checks.check_replicas(self.model)
        if self._backup:
            self._backup.begin()
        self._training_labels.begin(around.steps_per_epoch)
        say_errors_plainly(self.model)
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restore p if training goes on, and cut new levels, if it is time."""
        del logs
        p = self._backup.found(epoch) if self._backup else None
        if p is not None:
            self.smoothing.p = p
        if not self._begun:
            checks.check_resumed(self.smoothing, epoch, self._backup is not None)
        self._begun = True
        if self._own_levels:
            self._own_levels.on_epoch_begin(epoch)
        self._training_labels.begin_epoch()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """After the first batch, check that it came from `soft_labels`."""
        del batch, logs
        self._training_labels.begin_batch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Validate, publish the measures and update every level's soft label."""
        self._training_labels.end_epoch(epoch)
        if self._own_levels:
            self._own_levels.on_epoch_end(epoch, logs)
        try:
            measures = self.evaluate()
        except NotFiniteError:
            if self._ends_on_nan and self.model.stop_training:
                return  # p stays; the logs show the loss
            raise
        if logs is not None:
            logs.update(measures.totals)
            logs.update(self._level_logs(measures))
        if self._feedback:
            learned = self._feedback.learn(*measures.by_image)
            if logs is not None:
                logs.update(learned)
        self.smoothing.update(measures.confidence, measures.accuracy, epoch)
        if self._backup:
            self._backup.save(epoch, self.smoothing.p)

    def evaluate(self) -> ValidationMeasures:
        """Make one pass over the validation set with the model as it is.

        Raises:
            InputError: If the model's output for an example is not finite. The sentence
                tells whether the example or the model is the cause. Also before
                training begins; `ar_adals_tf.measure` is for a loop of one's own.
        """
        if self._validate is None:
            raise InputError(
                "ARAdaLS validates within fit; in a training loop of your own call "
                "ar_adals_tf.measure(model, validation_data, validation_index) and "
                "smoothing.update(...)"
            )
        return self._validate()

    def _num_epochs(self, what: str) -> int:
        """Return the number of epochs of the training, which `fit` tells."""
        epochs = (self.params or {}).get("epochs")
        if epochs is None:
            raise InputError(
                f"{what} the number of epochs, which is not known outside of fit; "
                "call set_params({'epochs': 20}) of this callback first"
            )
        return int(epochs)

    def _level_logs(self, measures: ValidationMeasures) -> dict[str, float]:
        """Return what the logs say of the soft labels that the epoch was trained with.

        The progress line has room for `p_min` and `p_mean` alone.
        """
        p = self.smoothing.p
        logs = {"p_min": float(p.min()), "p_mean": float(p.mean())}
        if self._log_levels:
            levels = {
                "p": p,
                "eps": self.smoothing.epsilon,
                "conf": measures.confidence,
                "acc": measures.accuracy,
            }
            for r in range(self.smoothing.num_levels):
                logs |= {f"{k}/{r}": float(v[r]) for k, v in levels.items()}
        return logs
