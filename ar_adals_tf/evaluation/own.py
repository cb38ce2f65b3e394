"""A user's own test examples in Python: predicted, ranked and corrupted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.inputs import check_input_type
from ar_adals_tf.calibrated import labelled_logits, measured_logits_fn
from ar_adals_tf.calibration.checks import check_enough
from ar_adals_tf.datasets.corrupted import ShiftSource, find_source
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.arrays import position_ids
from ar_adals_tf.evaluation.gallery import ends_of, gallery_path, make_gallery
from ar_adals_tf.evaluation.measures import Measures
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.shift import check_available, evaluate_shift
from ar_adals_tf.process.endings import first_line
from ar_adals_tf.robustness import RobustnessIndex

_BATCH = 500


def predict_own(
    model: keras.Model, x: Any, y: Any, from_logits: bool | None, batch_size: int
) -> Predictions:
    """Return a model's predictions on examples, whose ids are their positions.

    Arguments and errors: see `labelled_logits`.
    """
    labels, logits = labelled_logits(model, x, y, from_logits, batch_size)
    found = Predictions(position_ids(len(labels)), labels, logits)
    found.check()
    return found


@dataclass(frozen=True)
class OwnTest:
    """Test examples, and what models predict for them.

    Attributes:
        models: By title.
        predictions: By title.
        name: What the examples are called.
        inputs: The array of inputs, if they are one array of numbers; else None.
        bounds: The range of the inputs, if it is known.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
    """

    models: Mapping[str, keras.Model]
    predictions: Mapping[str, Predictions]
    name: str
    inputs: np.ndarray | None
    bounds: Sequence[float] | None
    from_logits: bool | None

    @classmethod
    def make(
        cls,
        models: Mapping[str, keras.Model],
        x: Any,
        y: Any,
        name: str,
        bounds: Sequence[float] | None,
        from_logits: bool | None,
        batch_size: int,
    ) -> "OwnTest":
        """Predict test examples with all models.

        Raises:
            InputError: If they are too few or do not fit the models, or if models
                do not fit each other, or if a dataset gives its examples in another
                order each time.
        """
        predictions = {
            title: predict_own(model, x, y, from_logits, batch_size)
            for title, model in models.items()
        }
        (first, one), *rest = predictions.items()
        for title, other in rest:
            if other.logits.shape != one.logits.shape:
                raise InputError(
                    f"{first} and {title} return outputs of shape {one.logits.shape} "
                    f"and {other.logits.shape}; give models of the same classes"
                )
            if not np.array_equal(one.labels, other.labels):
                raise InputError(
                    "the dataset gives its examples in another order each time; make "
                    "it without shuffling"
                )
        check_enough(len(one.labels), "x")
        inputs = _one_array(x)
        if bounds is None and inputs is not None:
            bounds = _range_of(inputs)
        return cls(models, predictions, name, inputs, bounds, from_logits)

    @property
    def num_classes(self) -> int:
        """Z."""
        return next(iter(self.predictions.values())).logits.shape[1]

    @property
    def labels(self) -> np.ndarray:
        """The classes, `(N,)`."""
        return next(iter(self.predictions.values())).labels

    @property
    def channels(self) -> int | None:
        """How many channels the images have; None if these are no images."""
        if self.inputs is None or self.inputs.ndim != 4:
            return None
        count = self.inputs.shape[-1]
        return count if count in (1, 3) else None

    def levels(self, verbose: bool) -> tuple[RobustnessIndex | None, str]:
        """Return the index that cuts the levels, and words where there is none."""
        model = next(iter(self.models.values()))
        lacking = "nothing is measured by robustness level: "
        if self.inputs is None:
            return None, lacking + "the inputs are not one array of numbers"
        try:
            check_input_type(model)
            index = RobustnessIndex.compute(
                model,
                self.inputs.astype(np.float32),
                self.labels,
                ids=position_ids(len(self.labels)),
                attack="margin",
                dataset=self.name,
                split="test",
                bounds=self.bounds,
                verbose=verbose,
            )
        except (InputError, ValueError, TypeError) as error:  # without a gradient
            return None, lacking + first_line(error, most=1000)
        return index, ""

    def keep_gallery(
        self, path: Path, index: RobustnessIndex, class_names: Sequence[str] | None
    ) -> None:
        """Write the gallery of the first model's index, if the inputs are images.

        Args:
            path: The file of the index.
            index: What `levels` returned.
            class_names: Their names, if they are known.
        """
        if self.inputs is None or self.channels is None or self.bounds is None:
            return
        low, high = map(float, self.bounds)
        where = np.array([int(one) for one in ends_of(index)], int)
        if len(where):
            make_gallery(
                next(iter(self.models.values())),
                self.inputs[where],
                self.labels[where],
                index,
                bounds=(low, high),
                class_names=tuple(class_names or ()),
                from_logits=self.from_logits,
            ).save(gallery_path(path))

    def corruptions(
        self, types: Sequence[str], severities: Sequence[int]
    ) -> tuple[ArraySplit, ShiftSource]:
        """Return the images as 8-bit ones, and what corrupts them.

        Raises:
            InputError: If a type or severity is unknown, or if the range of the images
                is not known.
        """
        assert self.inputs is not None
        if self.bounds is None:
            low, high = float(self.inputs.min()), float(self.inputs.max())
            raise InputError(
                f"the images have values from {low:g} to {high:g}, so their range is "
                "not known; give bounds=(low, high)"
            )
        low, high = map(float, self.bounds)
        pixels = np.rint((self.inputs - low) / (high - low) * 255)
        if pixels.min() < 0 or pixels.max() > 255:
            raise InputError(
                f"the images have values outside bounds=({low:g}, {high:g}); give the "
                "range of the model's inputs"
            )
        split = ArraySplit(
            self.name,
            "test",
            DatasetInfo(
                self.num_classes, self.inputs.shape[1:], low=(low,), high=(high,)
            ),
            position_ids(len(self.labels)),
            pixels.astype(np.uint8),
            self.labels,
        )
        source = find_source(split, "generated", types, severities)
        check_available(types, source)
        return split, source

    def shift(
        self,
        title: str,
        folder: Path,
        types: Sequence[str],
        severities: Sequence[int],
        corruptions: tuple[ArraySplit, ShiftSource],
        **how: Any,
    ) -> Measures:
        """Measure one model on corrupted images; see `evaluate_shift`.

        Args:
            title: Which model.
            folder: Where its predictions go.
            types: Corruptions.
            severities: Their severities.
            corruptions: What the method of that name returns for these.
            **how: Further arguments of `evaluate_shift`.
        """
        assert self.bounds is not None
        low, high = map(float, self.bounds)
        split, source = corruptions
        logits = tf.function(measured_logits_fn(self.models[title], self.from_logits))

        def predict(part: Split, verbose: bool = False) -> Predictions:
            batches = part.batches(_BATCH).as_numpy_iterator()
            return Predictions.joined(
                (ids, labels, logits(tf.constant(low + (high - low) * images)).numpy())
                for ids, images, labels in batches
            )

        clean = self.predictions[title]
        return evaluate_shift(
            predict, split, folder, types, severities, source=source, clean=clean, **how
        )


def _one_array(x: Any) -> np.ndarray | None:
    """Return inputs that are one array of numbers; None for others."""
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset, dict, list, tuple)):
        return None
    array = np.asarray(x)
    return array if array.dtype.kind in "fiu" and array.ndim > 1 else None


def _range_of(inputs: np.ndarray) -> tuple[float, float] | None:
    """Return the range that images have by custom; None if it cannot be known."""
    if inputs.ndim != 4:
        return None
    low, high = inputs.min(), inputs.max()
    if low < 0 or high > 255:
        return None
    eight_bits = inputs.dtype == np.uint8 or high > 1
    return (0.0, 255.0) if eight_bits else (0.0, 1.0)
