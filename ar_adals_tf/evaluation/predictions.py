"""Predictions on a split and folders that keep them; nothing here needs a model."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from ar_adals_tf import calibration
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import (
    atomic_write,
    not_whole,
    read_json,
    read_npz,
    remove,
    write_json,
)


class Predictions(NamedTuple):
    """What a model predicts on one split.

    Attributes:
        ids: `(N,)` bytes.
        labels: `(N,)` int64, the true classes.
        logits: `(N, Z)` float32, up to a constant an image.

    Example:
        >>> one = Predictions(np.array([b"a"]), np.array([1]), np.zeros((1, 2)))
        >>> one.probabilities
        array([[0.5, 0.5]])
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, `(N, Z)` float32."""
        return special.softmax(self.logits, axis=1)

    def first(self, count: int) -> "Predictions":
        """Return the predictions on the first `count` images."""
        return Predictions(*(column[:count] for column in self))

    def save(self, path: str | Path) -> None:
        """Write ids, labels and probabilities as `.npz`, aside and then renamed."""
        _save_npz(
            path,
            ids=self.ids,
            labels=self.labels,
            probabilities=self.probabilities,
        )

    def save_compactly(self, path: str | Path) -> None:
        """Write ids, labels and centred float16 logits, half the size.

        Rounded probabilities would lose the NLL; logits lose next to nothing.
        """
        centred = self.logits - self.logits.mean(axis=1, keepdims=True)
        _save_npz(
            path, ids=self.ids, labels=self.labels, logits=centred.astype(np.float16)
        )

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` or `save_compactly` wrote.

        Raises:
            InputError: If the file is absent or damaged.
        """
        what = "file of predictions"
        remedy = "evaluate the run again with python -m ar_adals_tf.evaluate"
        arrays = read_npz(path, ("ids", "labels"), what, remedy)
        ids, labels = arrays["ids"], arrays["labels"]
        try:
            if "logits" in arrays:
                return cls(ids, labels, arrays["logits"].astype(np.float32))
            smallest = calibration.SMALLEST_PROBABILITY
            probabilities = np.maximum(arrays["probabilities"], smallest)
        except (KeyError, TypeError, ValueError) as error:
            raise not_whole(path, what, error, remedy) from error
        return cls(ids, labels, np.log(probabilities))


Predict = Callable[..., Predictions]

"""A model: `predict(split, verbose)` returns `Predictions`."""


def scaled(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions with their logits divided by a temperature.

    Example:
        >>> logits = np.array([[2.0, 4.0]], np.float32)
        >>> scaled(Predictions(np.array([b"a"]), np.array([1]), logits), 2.0).logits
        array([[1., 2.]], dtype=float32)
    """
    return predictions._replace(
        logits=(predictions.logits / temperature).astype(np.float32)
    )


class PredictionStore:
    """A folder that keeps predictions set by set, so that interrupted work goes on.

    A set is the predictions on one version of the images, such as one corruption. It
    lies in `<name>.npz`, compactly. What decides all sets of the folder, such as the
    model's digest, lies in `settings.json`. When a store is opened with other settings,
    all its sets are void and removed. A damaged set counts as absent.

    Args:
        folder: The folder; it is made if it is absent.
        settings: What decides the predictions, ready for JSON.

    Example:
        ```python
        store = PredictionStore("run/shift", {"model": digest_run("run")})
        for name, predictions in store.sets(["fog_1", "fog_5"], make=predict_set):
            ...  # `predict_set("fog_1")` was called if fog_1.npz was not there
        ```
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "settings.json"
        if path.exists() and read_json(path) == settings:
            return
        for void in sorted(self.folder.glob("*.npz")):
            remove(void)
        write_json(path, settings)

    def path(self, name: str) -> Path:
        """Return where a set lies."""
        return self.folder / f"{name}.npz"

    def names(self) -> list[str]:
        """Return the names of the sets that lie in the folder, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.npz"))

    def load(self, name: str) -> Predictions | None:
        """Return a set; None if it is absent or damaged."""
        try:
            return Predictions.load(self.path(name))
        except InputError:
            return None

    def get(self, name: str, make: Callable[[str], Predictions]) -> Predictions:
        """Return a set, made and kept if it is not there.

        A new set is read back, so that its logits are rounded to float16 as they will
        be next time: the measures do not depend on when it was made.

        Args:
            name: Of the set.
            make: `make(name)` returns its predictions.
        """
        found = self.load(name)
        if found is None:
            make(name).save_compactly(self.path(name))
            found = Predictions.load(self.path(name))
        return found

    def sets(
        self, names: Iterable[str], make: Callable[[str], Predictions]
    ) -> Iterator[tuple[str, Predictions]]:
        """Yield each name with its set (see `get`), one set in memory at a time."""
        for name in names:
            yield name, self.get(name, make)


def shift_path(folder: str | Path, corruption: str, severity: int | str) -> Path:
    """Return where the predictions on one corruption lie.

    Example:
        >>> shift_path("run/shift", "fog", 5).as_posix()
        'run/shift/fog_5.npz'
    """
    return Path(folder) / f"{corruption}_{severity}.npz"


def attack_path(folder: str | Path, attack: str, epsilon: float) -> Path:
    """Return where the predictions under one attack lie.

    Example:
        >>> attack_path("run/attacked", "pgd", 8.0).as_posix()
        'run/attacked/pgd_8.npz'
    """
    return Path(folder) / f"{attack}_{epsilon:g}.npz"


def _save_npz(path: str | Path, **arrays: Any) -> None:
    with atomic_write(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, **arrays)
