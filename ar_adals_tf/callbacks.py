"""Algorithm 1 as a Keras callback."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.box import UNIT
from ar_adals_tf.automatic import rankings
from ar_adals_tf.calibration.floor import expected_floor
from ar_adals_tf.calibration.measures import (
    DEFAULT_NUM_BINS,
    confidence_calibration_error,
)
from ar_adals_tf.calibration.refinement import TEMPERATURES, least_nll
from ar_adals_tf.calibration.scores import SMALLEST_PROBABILITY
from ar_adals_tf.distribution.replicas import Replicas, everyones, map_share
from ar_adals_tf.distribution.strategy import unsynchronised
from ar_adals_tf.elements import finite_rows
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import write_json
from ar_adals_tf.finite import refuse_not_finite
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import SOFT_LABELS
from ar_adals_tf.methods.losses import Feedback
from ar_adals_tf.numbering import READ, as_dataset
from ar_adals_tf.outputs import num_classes, probabilities_fn
from ar_adals_tf.own_levels import streamed_own_levels
from ar_adals_tf.pipeline import RobustnessLevels, as_levels, with_levels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing


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
      To stop by it, pass `EarlyStopping("val_refinement", mode="min")`.
    - `p/r` and `eps/r` for each level r, which the epoch was trained with, and
      `conf/r` and `acc/r`, which it led to. A level without validation images has NaN
      there and keeps its p.

    You must do three things:

    - Pass `fit` the dataset that `soft_labels` returns for the same `smoothing`. Put no
      `repeat` and no `cache` after `soft_labels`, and give `fit` no `steps_per_epoch`:
      each epoch must read the labels anew.
    - Put the callback before callbacks that read these logs, such as `EarlyStopping`,
      `ModelCheckpoint` and `CSVLogger`.
    - To go on after an interruption, give a `backup_dir` and put the callback before
      `BackupAndRestore`. Otherwise a run killed between the two has saved the model
      but not p.

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
        refresh_data: A finite dataset of the training examples to rank, each once,
            without augmentation, in the form of `validation_data`. `x` is one tensor.
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

    Raises:
        InputError: At once, if the validation data repeat without end or are not in
            batches, if the index is of other examples, if their inputs are not finite,
            if the backend is not TensorFlow, or if both `backup_dir` and `feedback` are
            given. When training begins, if the model has several outputs, a sigmoid, or
            another number of classes than `smoothing`. After an epoch, if the training
            data was not read anew exactly once, or does not come from `soft_labels`, or
            if the model's output is not finite.

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
            model.compile("adam", loss(from_logits=True))
            model.fit(data, epochs=3, callbacks=list(callbacks))
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

        smoothing = AdaptiveLabelSmoothing(num_classes=3, num_levels=10)
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
    ) -> None:
        super().__init__()
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
        validation_data = as_dataset(
            validation_data, "validation data", READ, validation_index is not None
        )
        if validation_data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise InputError(
                "the validation dataset repeats without end; remove .repeat()"
            )
        self.smoothing = smoothing
        self.levels = as_levels(validation_index, smoothing.num_levels)
        self._data = with_levels(
            validation_data,
            smoothing.num_classes,
            self.levels,
            id_key=id_key,
            label_key=label_key,
            weight_key=weight_key,
        )
        if self._data.element_spec[1].shape.rank != 1:
            raise InputError(
                "the validation dataset must yield batches; received single examples; "
                "add .batch(256)"
            )
        if refresh_every is not None and ensemble:
            raise InputError(
                "refresh_every ranks by the one model in training; received an "
                "ensemble as well; leave out one of them"
            )
        self._refresh_every: Any = refresh_every
        self._own_levels = streamed_own_levels(
            refresh_every,
            (refresh_data, refresh_levels),
            (validation_data, self.levels),
            smoothing.num_classes,
            Path(backup_dir, "levels") if backup_dir else None,
            {"bounds": bounds, "from_logits": from_logits},
            id_key=id_key,
            label_key=label_key,
            weight_key=weight_key,
        )
        self._num_bins = num_bins
        self._from_logits = from_logits
        self._ensemble = list(ensemble)
        self._feedback = feedback
        self._backup = Path(backup_dir, "ar_adals.json") if backup_dir else None
        self._history: dict[str, list[float]] = {}
        self._measure: Any = None
        self._passes: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check the model, and compile the pass over the validation set."""
        del logs
        first = next(iter(self._data), None)
        if first is None:
            raise InputError(
                "the validation dataset is empty; give one that has examples"
            )
        models = self._ensemble or [self.model]
        if not models[0].built:
            models[0](first[0])  # a subclassed model knows its output from then on
        classes = num_classes(models[0])
        if classes != self.smoothing.num_classes:
            raise InputError(
                f"the model tells {classes} classes apart, the smoothing "
                f"{self.smoothing.num_classes}; give both the same number"
            )
        several = self.model.distribute_strategy.num_replicas_in_sync > 1
        if several and (lonely := unsynchronised(self.model)):
            warnings.warn(
                f"the batch normalisation {lonely[0]!r} looks at one replica's images "
                "alone, so training depends on the number of replicas; make it with "
                f"synchronized=True ({len(lonely)} such layers)",
                stacklevel=2,
            )
        members = [probabilities_fn(model, self._from_logits) for model in models]

        def predict_and_compare(*inputs_and_label: tf.Tensor) -> tf.Tensor:
            *inputs, label = inputs_and_label
            x = keras.tree.pack_sequence_as(first[0], inputs)
            mean = tf.add_n([member(x) for member in members]) / len(members)
            return _compare(mean, label)

        self._measure = map_share(
            self.model.distribute_strategy,
            predict_and_compare,
            jit_compile=True if self.model.jit_compile is True else None,
        )
        if self.smoothing.alpha_is_auto:
            self.smoothing.set_epochs(self._num_epochs("alpha='auto' follows"))
        if self._own_levels:
            epochs = self._num_epochs("refresh_every depends on")
            self._own_levels.epochs = rankings(self._refresh_every, epochs)
            self._own_levels.set_model(self.model)
            self._own_levels.on_train_begin()
        self._history = {}
        self._passes = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restore p if training goes on, and count the passes before this epoch.

        New levels are cut here, if it is time.
        """
        del logs
        self._restore(epoch)
        if self._own_levels:
            self._own_levels.on_epoch_begin(epoch)
        if self._passes is None:
            self._passes = self.smoothing.passes

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Validate, publish the measures and update every level's soft label."""
        self._check_fresh_labels(epoch)
        if self._own_levels:
            self._own_levels.on_epoch_end(epoch, logs)
        measures = self.evaluate()
        if self.levels is not None and self.levels.index is None:
            measures = measures.as_one_level()
        if logs is not None:
            logs.update(measures.totals)
            levels = {
                "p": self.smoothing.p,
                "eps": self.smoothing.epsilon,
                "conf": measures.confidence,
                "acc": measures.accuracy,
            }
            for r in range(self.smoothing.num_levels):
                logs.update({f"{k}/{r}": float(v[r]) for k, v in levels.items()})
        if self._feedback:
            learned = self._feedback.learn(*measures.by_image)
            if logs is not None:
                logs.update(learned)
        self.smoothing.update(measures.confidence, measures.accuracy, epoch)
        if self._backup:
            self._history[str(epoch)] = self.smoothing.p.tolist()
            self._backup.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._backup, self._history)

    def evaluate(self) -> "ValidationMeasures":
        """Make one pass over the validation set with the model as it is.

        Raises:
            InputError: If the model's output for an example is not finite. The sentence
                tells whether the example or the model is the cause.
        """
        rows = np.concatenate(list(self._batches()))
        rows = everyones(self.model.distribute_strategy, rows)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            self._refuse_inputs()
            refuse_not_finite(finite, self._ensemble or [self.model])
        *nll, confidence, correct, loss, level, weight = rows.T.astype(np.float64)
        total = np.bincount(level.astype(int), weight, self.smoothing.num_levels)
        with np.errstate(invalid="ignore"):
            by_level = [
                np.bincount(level.astype(int), weight * values, len(total)) / total
                for values in (confidence, correct)
            ]
        bins = self._num_bins
        totals = {
            "val_loss": float(np.average(loss, weights=weight)),
            "val_accuracy": float(np.average(correct, weights=weight)),
            "val_ece": confidence_calibration_error(confidence, correct, bins, weight),
            "val_ece_floor": expected_floor(confidence.clip(0, 1), bins, weight),
            "val_refinement": least_nll(np.average(nll, axis=1, weights=weight)),
        }
        by_image = confidence, correct, weight
        return ValidationMeasures(totals, by_level[0], by_level[1], by_image)

    def _batches(self) -> Iterator[np.ndarray]:
        """Yield this worker's part of each batch, `(n, 69)` float32.

        The columns are those of `_compare`, level and weight.
        """
        share = Replicas(self.model.distribute_strategy).share
        for x, y, level, weight in self._data:
            measured = self._measure(*keras.tree.flatten(x), y)
            own = share(len(y))
            yield np.column_stack([measured, level[own], weight[own]])

    def _refuse_inputs(self) -> None:
        """Refuse validation examples whose inputs are not finite."""
        read = self._data.map(lambda x, y, *_: finite_rows(x, y))
        finite = np.concatenate(list(read.as_numpy_iterator()))
        bad = np.flatnonzero(~finite)
        if len(bad):
            raise InputError(
                f"{len(bad)} of {len(finite)} validation examples have inputs that are "
                "not finite (NaN or infinite), the first are those at the positions "
                f"{', '.join(map(str, bad[:3]))}; mend them or leave them out"
            )

    def _num_epochs(self, what: str) -> int:
        """Return the number of epochs of the training, which `fit` tells."""
        epochs = (self.params or {}).get("epochs")
        if epochs is None:
            raise InputError(
                f"{what} the number of epochs, which is not known outside of fit; "
                "call set_params({'epochs': 20}) of this callback first"
            )
        return int(epochs)

    def _check_fresh_labels(self, epoch: int) -> None:
        """Check that fit started once on the data since the last epoch's end."""
        passes = self.smoothing.passes
        if passes == 0:
            raise InputError(
                "the training data does not come from soft_labels(...) with this "
                "smoothing, so its labels never change; pass fit what soft_labels "
                "returns"
            )
        started = passes - (self._passes or 0)
        members = len(self._ensemble) or 1  # each member reads data of its own
        # Several replicas also start on data that they drop again.
        several = self.model.distribute_strategy.num_replicas_in_sync > 1
        if started < members or (started > members and not several):
            raise InputError(
                f"the training data was started on {started} times in epoch {epoch} "
                f"instead of {'once' if members == 1 else members}, so it had old soft "
                "labels; it is repeated or cached after soft_labels(...), or fit has "
                "steps_per_epoch: put cache before it and remove the others"
            )
        self._passes = passes

    def _restore(self, epoch: int) -> None:
        """Set p to what the backup has for the start of `epoch`."""
        if not self._backup or epoch == 0 or str(epoch - 1) in self._history:
            return
        saved = read(self._backup, SOFT_LABELS) if self._backup.exists() else {}
        if str(epoch - 1) not in saved:
            raise InputError(
                f"training goes on at epoch {epoch}, but {self._backup} has no soft "
                f"labels after epoch {epoch - 1}; start from epoch 0, or give the "
                "backup_dir of the interrupted run"
            )
        self._history = {e: p for e, p in saved.items() if int(e) < epoch}
        self.smoothing.p = self._history[str(epoch - 1)]


class ValidationMeasures(NamedTuple):
    """What one pass over the validation set found.

    Attributes:
        totals: `val_loss`, `val_accuracy`, `val_ece`, `val_ece_floor` and
            `val_refinement`.
        confidence: `(R,)` in [0, 1], mean probability of the predicted class by level.
            NaN for a level without images.
        accuracy: `(R,)` in [0, 1], accuracy by level. NaN for a level without images.
        by_image: Confidence, success (1 or 0) and weight of each image, each `(N,)`.
    """

    totals: dict[str, float]
    confidence: np.ndarray
    accuracy: np.ndarray
    by_image: tuple[np.ndarray, np.ndarray, np.ndarray]

    def as_one_level(self) -> "ValidationMeasures":
        """Return the measures of undivided levels: level 0 has all, for all levels."""
        number = len(self.confidence)
        confidence, accuracy = self.confidence[0], self.accuracy[0]
        return self._replace(
            confidence=np.full(number, confidence), accuracy=np.full(number, accuracy)
        )


def _compare(probabilities: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Return what is measured of each example, `(n, 67)`.

    The columns are the cross-entropy at each of `TEMPERATURES`, confidence, success and
    cross-entropy. The logits that are divided by a temperature are the logarithms of
    the probabilities, also of those that an ensemble has averaged.
    """
    of_label = tf.gather(probabilities, label, batch_dims=1)
    correct = tf.equal(tf.argmax(probabilities, axis=1), label)
    measures = [
        tf.reduce_max(probabilities, axis=1),
        tf.cast(correct, tf.float32),
        -tf.math.log(tf.maximum(of_label, SMALLEST_PROBABILITY)),
    ]
    logits = tf.math.log(tf.maximum(probabilities, SMALLEST_PROBABILITY))
    margins = logits - tf.gather(logits, label, batch_dims=1)[:, tf.newaxis]
    inverse = tf.constant(1 / TEMPERATURES, tf.float32)
    tempered = margins[:, tf.newaxis] * inverse[:, tf.newaxis]
    nll = tf.reduce_logsumexp(tempered, axis=2)
    return tf.concat([nll, tf.stack(measures, axis=1)], axis=1)
