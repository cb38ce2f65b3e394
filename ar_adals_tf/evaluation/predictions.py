"""Predictions on a split and folders that keep them; nothing here needs a model."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import special

from ar_adals_tf import calibration, files
from ar_adals_tf.calibration.checks import check_integers, check_probabilities
from ar_adals_tf.calibration.proportions import is_near_chance
from ar_adals_tf.errors import InputError
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import STORE
from ar_adals_tf.reading import not_whole, read_npz

if TYPE_CHECKING:
    from ar_adals_tf.datasets.splits import Split

_WHAT = "file of predictions"

_REMEDY = "evaluate the run again with python -m ar_adals_tf.evaluate"

READY_MADE = ("tfds", "published")

"""Sources of corrupted images that have ids and an order of their own."""


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

    @classmethod
    def joined(cls, batches: Iterable[tuple[np.ndarray, ...]]) -> "Predictions":
        """Join batches of ids, labels and logits."""
        columns = zip(*batches, strict=True)
        ids, labels, logits = (np.concatenate(column) for column in columns)
        return cls(ids.astype("S"), labels, logits)

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, `(N, Z)` float32."""
        return special.softmax(self.logits, axis=1)

    @property
    def accuracy(self) -> float:
        """How often they are right."""
        return float(np.mean(self.logits.argmax(axis=1) == self.labels))

    @property
    def is_near_chance(self) -> bool:
        """Whether they are right no more often than a guess is."""
        return is_near_chance(self.logits.argmax(axis=1), self.labels)

    def first(self, count: int) -> "Predictions":
        """Return the predictions on the first `count` images."""
        return Predictions(*(column[:count] for column in self))

    def at(self, temperature: float | None) -> "Predictions":
        """Return them with their logits divided by a temperature, if there is one.

        Example:
            >>> logits = np.array([[2.0, 4.0]], np.float32)
            >>> Predictions(np.array([b"a"]), np.array([1]), logits).at(2.0).logits
            array([[1., 2.]], dtype=float32)
        """
        if temperature is None:
            return self
        return self._replace(logits=(self.logits / temperature).astype(np.float32))

    def save(self, path: str | Path) -> None:
        """Write ids, labels and probabilities as `.npz`, aside and then renamed."""
        self._save(path, probabilities=self.probabilities)

    def save_compactly(
        self, path: str | Path, name: str | None = None, images: str | None = None
    ) -> None:
        """Write ids, labels and centred float16 logits, half the size.

        Rounded probabilities would lose the NLL; logits lose next to nothing. Where
        rounding would leave the largest one in doubt, it becomes the next number, so
        the predicted class is always the model's.

        Args:
            path: The `.npz` file.
            name: What the set is called. `load` compares it.
            images: What tells its images from others, if the name does not.
        """
        centred = self.logits - self.logits.mean(axis=1, keepdims=True)
        # Where float16 ends, a gap to the largest logit means probability 0 anyway.
        below = self.logits - self.logits.max(axis=1, keepdims=True)
        far = np.abs(centred).max(axis=1, keepdims=True) > _FLOAT16_MAX
        kept = np.where(far, np.maximum(below, -_FLOAT16_MAX), centred)
        rounded, largest = kept.astype(np.float16), self.logits.argmax(axis=1)
        lost = np.flatnonzero(rounded.argmax(axis=1) != largest)
        most = rounded[lost].max(axis=1)
        rounded[lost, largest[lost]] = np.nextafter(most, np.float16(np.inf))
        about = {"set": name, "images": images}
        known = {key: np.array(text) for key, text in about.items() if text is not None}
        self._save(path, logits=rounded, **known)

    def _save(self, path: str | Path, **values: Any) -> None:
        with files.atomic_write(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, ids=self.ids, labels=self.labels, **values)

    def check_beside(
        self,
        clean: "Predictions",
        same_dataset: bool = True,
        ready_made: bool = False,
    ) -> None:
        """Refuse predictions that the model of the clean ones cannot have made.

        Args:
            clean: The predictions on the clean test set.
            same_dataset: Whether these are of the same images, changed. Those of
                another dataset are of other images, and of any number.
            ready_made: Whether the changed images come from a source in `READY_MADE`.

        Raises:
            InputError: If the number of classes or of images differs, or the id or the
                label of an image.
        """
        here, there = self.logits.shape[1], clean.logits.shape[1]
        if here != there:
            raise InputError(f"they are of {here} classes, the clean ones of {there}")
        if not same_dataset:
            return
        here, there = len(self.ids), len(clean.ids)
        if here != there:
            raise InputError(f"they are of {here} images, the clean ones of {there}")
        if different := np.sum(self.ids != clean.ids):
            if ready_made:
                return
            raise InputError(f"{different} of {here} ids are not the clean ones'")
        if different := np.sum(self.labels != clean.labels):
            raise InputError(f"{different} of {here} labels are not the clean ones'")

    @classmethod
    def load(
        cls, path: str | Path, name: str | None = None, same_dataset: bool = True
    ) -> "Predictions":
        """Read what `save` or `save_compactly` wrote.

        Args:
            path: The `.npz` file.
            name: What the set is called. A file of version 0.1.0 does not know.
            same_dataset: See `check`.

        Raises:
            InputError: If the file is absent or damaged, or is another set.
        """
        arrays = read_npz(path, ("ids", "labels"), _WHAT, _REMEDY)
        ids, labels = arrays["ids"], arrays["labels"]
        try:
            kept = str(arrays.get("set", name))
            if name is not None and kept != name:
                raise InputError(f"it is the set {kept}, not {name}")
            if "logits" in arrays:
                kind = arrays["logits"].dtype
                if kind.kind != "f":
                    raise InputError(f"its logits are {kind}, not numbers with a point")
                found = cls(ids, labels, arrays["logits"].astype(np.float32))
            else:
                check_probabilities(arrays["probabilities"])
                smallest = calibration.SMALLEST_PROBABILITY
                probabilities = np.maximum(arrays["probabilities"], smallest)
                found = cls(ids, labels, np.log(probabilities))
            found.check(same_dataset)
        except (KeyError, TypeError, ValueError) as error:
            raise not_whole(path, _WHAT, error, _REMEDY) from error
        return found

    def check(self, same_dataset: bool = True) -> None:
        """Make sure that ids, labels and logits are those of the same images.

        Args:
            same_dataset: Whether they are of the model's dataset, whose labels are its
                classes. Those of another are not, and there may be more of them.

        Raises:
            InputError: On other shapes or types, labels that are no classes, or logits
                that are not finite.

        Example:
            >>> Predictions(np.array([b"a"]), np.array([1]), np.zeros((1, 2))).check()
        """
        shape = np.shape(self.logits)
        if len(shape) != 2 or not shape[0] or shape[1] < 2:
            raise InputError(f"it has outputs of shape {shape}, not (images, classes)")
        num_classes = shape[1] if same_dataset else np.iinfo(np.int64).max
        check_integers("labels", self.labels, shape[0], num_classes)
        if np.shape(self.ids) != shape[:1] or self.ids.dtype.kind != "S":
            ids = f"{self.ids.dtype} of shape {np.shape(self.ids)}"
            raise InputError(f"its ids are {ids}, not bytes, one for each image")
        if lost := int((~np.isfinite(self.logits)).any(axis=1).sum()):
            raise InputError(f"the outputs of {lost} images are not finite")


_FLOAT16_MAX = 60_000

Predict = Callable[..., Predictions]

"""A model: `predict(split, verbose)` returns `Predictions`."""


class PredictionStore:
    """A folder that keeps predictions set by set, so that interrupted work goes on.

    A set is the predictions on one version of the images, such as one corruption. It
    lies in `<name>.npz`, compactly, with its name. What decides all sets of the folder,
    such as the model's digest, lies in `settings.json`; see `open_store`. A set counts
    as absent if it is damaged, if it has another name, or if it cannot belong to the
    clean predictions.

    Args:
        folder: The folder; it is made if it is absent.
        settings: What decides the predictions, ready for JSON.
        clean: The predictions on the clean test set. Defaults to `None`: sets are not
            compared with them.
        same_dataset: See `Predictions.check_beside`.
        ready_made: The same.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: Mapping[str, Any],
        clean: Predictions | None = None,
        same_dataset: bool = True,
        ready_made: bool = False,
    ) -> None:
        self._clean, self._same_dataset = clean, same_dataset
        self._ready_made = ready_made
        self.folder = Path(folder)
        open_store(folder, settings)

    def path(self, name: str) -> Path:
        """Return where a set lies."""
        return self.folder / f"{name}.npz"

    def names(self) -> list[str]:
        """Return the names of the undamaged sets, sorted."""
        names = sorted(path.stem for path in self.folder.glob("*.npz"))
        return [name for name in names if self._load(name) is not None]

    def get(
        self,
        name: str,
        make: Callable[[str], Predictions],
        images: str | None = None,
    ) -> Predictions:
        """Return a set; `make(name)` is called and kept if it is not there.

        A new set is read back, so that its logits are rounded to float16 as they will
        be next time: the measures do not depend on when it was made.

        Args:
            name: What the set is called.
            make: Makes it.
            images: What tells its images from others. A set of others is void, and a
                warning says so. Defaults to `None`: the name tells.
        """
        found = self._load(name)
        if found is not None and images not in (None, self._images(name)):
            warnings.warn(
                f"{self.path(name)} is not known to be of the images that {name} has "
                "now; they are predicted again",
                stacklevel=3,
            )
            found = None
        if found is None:
            make(name).save_compactly(self.path(name), name, images)
            found = Predictions.load(self.path(name), name, self._same_dataset)
        return found

    def _load(self, name: str) -> Predictions | None:
        try:
            found = Predictions.load(self.path(name), name, self._same_dataset)
            if self._clean is not None:
                how = self._same_dataset, self._ready_made
                found.check_beside(self._clean, *how)
        except InputError:
            return None
        return found

    def _images(self, name: str) -> str | None:
        """Return what tells the images of a set from others, if the set knows it."""
        known = read_npz(self.path(name), ("ids",), _WHAT, _REMEDY).get("images")
        return None if known is None else str(known)


def seen_images(split: "Split") -> str:
    """Return what tells the images of a split, as a model sees them, from others.

    The digest of pictures is of their files, so the shape that they get counts as well.
    So does the range of arrays: a model of `model_range` "data" knows it.

    Example:
        >>> from ar_adals_tf.datasets import load
        >>> split = load("fashion_mnist_small", splits=("test",))["test"]
        >>> seen_images(split) == seen_images(split.part("test", slice(9)))
        False
    """
    info = split.info
    about = [split.digest(), list(info.image_shape), list(info.low), list(info.high)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def open_store(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Let a folder keep what some settings decide; it is made if it is absent.

    What it has of other settings is void and removed, and a warning says so. So is what
    a run's folder has without settings.

    Raises:
        InputError: See `checked_settings`.
    """
    folder, there = Path(folder), checked_settings(folder)
    if there == settings:
        return
    folder.mkdir(parents=True, exist_ok=True)
    void = _sets(folder)
    if void and there:
        names = sorted(there.keys() | settings.keys())
        other = [name for name in names if there.get(name) != settings.get(name)]
        warnings.warn(
            f"{folder} was made with other settings ({', '.join(other)}); what it had "
            "is removed",
            stacklevel=3,
        )
    for path in void:
        files.remove(path)
    files.write_json(folder / "settings.json", settings)


def checked_settings(folder: str | Path) -> dict[str, Any] | None:
    """Return the settings of the store in a folder; None if there is none.

    Raises:
        InputError: If they are damaged, or if there are none and yet `.npz` files or
            parts, which no run has made: its folder has a `config.json` beside it.
    """
    folder, settings = Path(folder), stored_settings(folder)
    strange = [] if settings is not None else _sets(folder)
    if strange and not (folder.parent / "config.json").exists():
        raise InputError(
            f"{folder} holds {strange[0].name} and no settings.json, so "
            f"{strange[0].name} is of something else and would be removed; move it to "
            "another folder"
        )
    return settings


def _sets(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("*.npz")), *folder.glob("parts")]


def adopt_store(folder: str | Path, images: str) -> None:
    """Let a run's store from before, which does not say its images, be of these.

    A run's data cannot change; see `data_digest`. Those of a model's file can.
    """
    places = [Path(folder), *Path(folder).glob("parts/*")]
    for place in places:
        settings = stored_settings(place)
        if settings is not None and "images" not in settings:
            files.write_json(place / "settings.json", settings | {"images": images})


def forget_parts(folder: str | Path, name: str) -> None:
    """Remove the parts of a set that is whole, which lie in `parts/<name>/`."""
    parts = Path(folder) / "parts"
    files.remove(parts / name)
    if parts.is_dir() and not any(parts.iterdir()):
        files.remove(parts)


def stored_settings(folder: str | Path) -> dict[str, Any] | None:
    """Return the settings of the store in a folder; None if there is none.

    Raises:
        InputError: If they are damaged.
    """
    path = Path(folder) / "settings.json"
    return read(path, STORE) if path.exists() else None
