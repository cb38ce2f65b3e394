"""What a model says of noisy copies of images, and the file that keeps it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ar_adals_tf import files
from ar_adals_tf.calibration.checks import check_integers, check_probabilities
from ar_adals_tf.errors import InputError
from ar_adals_tf.reading import not_whole, read_npz

_WHAT = "file of votes"
_REMEDY = "remove it and evaluate the run again with --certify"


class Votes(NamedTuple):
    """The votes of noisy copies of N images for Z classes.

    Attributes:
        ids: `(N,)` bytes.
        labels: `(N,)` int64, the true classes.
        selection: `(N, Z)` int64, how often each class was predicted among the first
            copies, which choose the class.
        votes: `(N, Z)` int64, the same among the other copies, which bound its share.
        probabilities: `(N, Z)` float32, the mean predicted probabilities of the latter.
    """

    ids: np.ndarray
    labels: np.ndarray
    selection: np.ndarray
    votes: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Votes"]) -> "Votes":
        """Join the votes on several images, in order."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def shares(self) -> np.ndarray:
        """Return each class's share of the votes, `(N, Z)` float64, all above 0.

        One more vote is divided among the classes. So a class without a vote has not
        the probability 0, and a share moves by less than 1 / votes.

        Example:
            >>> one = np.array([[3, 0]])
            >>> Votes(np.array([b"a"]), np.array([0]), one, one, one / 3).shares()
            array([[0.875, 0.125]])
        """
        total = self.votes.sum(axis=1, keepdims=True)
        return (self.votes + 1 / self.votes.shape[1]) / (total + 1)

    def save(self, path: str | Path) -> None:
        """Write them as `.npz`, aside and then renamed."""
        with files.atomic_write(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, **self._asdict())

    @classmethod
    def load(cls, path: str | Path) -> "Votes":
        """Read what `save` wrote.

        Raises:
            InputError: If the file is absent or damaged.
        """
        arrays = read_npz(path, cls._fields, _WHAT, _REMEDY)
        found = cls(*(arrays[name] for name in cls._fields))
        try:
            found.check()
        except InputError as error:
            raise not_whole(path, _WHAT, error, _REMEDY) from error
        return found

    def check(self) -> None:
        """Make sure that the arrays are those of the same images.

        Raises:
            InputError: On other shapes or types, on votes below 0 or not equally many
                of each image, or on probabilities that are none.
        """
        shape = np.shape(self.votes)
        several = len(shape) == 2 and shape[0] > 0 and shape[1] > 1
        if not several or np.shape(self.selection) != shape:
            raise InputError(
                "votes must be of one shape (images, classes); received "
                f"{np.shape(self.selection)} and {shape}"
            )
        if self.ids.shape != shape[:1] or self.ids.dtype.kind != "S":
            raise InputError(f"ids must be {shape[0]} texts")
        check_integers("labels", self.labels, *shape)
        for votes in (self.selection, self.votes):
            total = votes.sum(axis=1)
            if (
                votes.dtype.kind != "i"
                or votes.min() < 0
                or np.ptp(total)
                or not total[0]
            ):
                raise InputError("not every image has the same number of votes")
        if np.shape(self.probabilities) != shape:
            raise InputError(f"probabilities must be of shape {shape}")
        check_probabilities(self.probabilities)
