"""Are the labels that train the soft ones, and those of this epoch?"""

import re
from typing import Any

import keras

from ar_adals_tf.errors import InputError
from ar_adals_tf.sentences import in_plain_words
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing

#: What Keras says of labels and of inputs with another number of axes.
_SPARSE = "must have rank (ndim) `target.ndim - 1`"
_RANKS = re.compile(
    r"same rank \(ndim\)[^\n]*target\.shape=(\(.*?\)), output\.shape=(.*)"
)
_INPUTS = re.compile(
    r"Expected shape (\(.*?\)), but input has incompatible shape (.*\))"
)


class TrainingLabels:
    """Watches the labels of a training by how often a smoothing has softened any.

    Args:
        smoothing: The smoothing whose labels should be there.
    """

    def __init__(self, smoothing: AdaptiveLabelSmoothing) -> None:
        self._smoothing = smoothing
        self._at_train_begin = self._at_epoch_begin = self._batches = 0
        self._read_anew = True

    def begin(self, steps_per_epoch: int | None) -> None:
        """Begin a training, whose epochs read all data if they have no given steps."""
        self._at_train_begin, self._batches = self._smoothing.softened, 0
        self._read_anew = steps_per_epoch is None

    def begin_epoch(self) -> None:
        """Begin an epoch."""
        self._at_epoch_begin = self._smoothing.softened

    def begin_batch(self) -> None:
        """After the first batch, check that its labels were softened."""
        if self._batches == 1:
            self._check_origin()
        self._batches += 1

    def end_epoch(self, epoch: int) -> None:
        """Check that the epoch's labels were softened in it, and not kept from before.

        With `steps_per_epoch` an epoch may get what was softened ahead, in the epoch
        before. But no more batches than were softened.

        Raises:
            InputError: If they were not.
        """
        self._check_origin()
        softened = self._smoothing.softened
        if self._read_anew:
            kept = softened == self._at_epoch_begin
        else:
            kept = self._batches > softened - self._at_train_begin
        if kept:
            raise InputError(
                f"the training data of epoch {epoch} had old soft labels; it is cached "
                "after soft_labels(...), so it never sees new ones: put cache before "
                "it"
            )

    def _check_origin(self) -> None:
        """Check that the labels of this training are softened by this smoothing."""
        if self._smoothing.softened == self._at_train_begin:
            raise InputError(
                "the training data does not come from soft_labels(...) with this "
                "smoothing, so its labels never change; pass fit what soft_labels "
                "returns"
            )


def say_errors_plainly(model: keras.Model) -> None:
    """Let a training end in our sentence alone, where a check in its data fails.

    Keras has made the function that reads and trains on a batch by the time that
    callbacks are told of the training. It makes another for the next `compile`.
    """
    train: Any = getattr(model, "train_function", None)
    if train is None or isinstance(train, _Plain):
        return
    model.train_function = _Plain(train)


class _Plain:
    """A function of Keras whose errors are in plain words."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        try:
            with in_plain_words():
                return self._function(*arguments)
        except ValueError as error:
            sentence = _of_shapes(str(error))
            if sentence is None:
                raise
            raise InputError(sentence) from error


def _of_shapes(text: str) -> str | None:
    """Return in one sentence what an error of Keras says of shapes, or None."""
    if _SPARSE in text:
        return (
            "the model's loss takes class indices, and soft labels are distributions "
            "over the classes; write it with keras.losses.categorical_crossentropy"
        )
    found = _RANKS.search(text) or _INPUTS.search(text)
    if found is None:
        return None
    given, wanted = (found[1], found[2]) if found.re is _RANKS else (found[2], found[1])
    what = "labels" if found.re is _RANKS else "inputs"
    return (
        f"the {what} of the training data have the shape {given}, those of the model "
        f"{wanted}; give both the same, and batch data once: soft_labels(...) of "
        "arrays is batched"
    )
