"""The robustness index: how far each image is from another class, by example id."""

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from scipy import stats

from ar_adals_tf.attacks.runner import Runner
from ar_adals_tf.attacks.table import attack_settings, prepare
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.digests import digest_examples, digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write, read_json, writable_folder, write_json
from ar_adals_tf.progress import progress_bar
from ar_adals_tf.version import versions

_FORMAT = 1

_SHARD = 4096  # images attacked between two saves; also bounds the memory

_READ = 256  # images read at once; a shard is a multiple of it


@dataclass(frozen=True, eq=False)
class RobustnessIndex:
    """The adversarial robustness of the images of one split under one model.

    Attributes:
        ids: `(N,)` bytes or int64, unique.
        distances: `(N,)` float32: L2 norm, in [0, 1] pixels, of the smallest
            perturbation found that changes the model's prediction; infinite where
            none was found.
        found: `(N,)` bool.
        metadata: What the distances are of and how they came about: `dataset`,
            `split`, `digest` of ids, labels and pixels, `model_digest`, `attack` and
            its `settings`, `success_rate` after the search steps asked for, `seconds`
            and `versions`.

    Example:
        >>> index = RobustnessIndex.compute(model, x_train, y_train, attack="ddn")
        >>> index.levels(10)      # (N,), 0 the least robust
        >>> index.save("robustness.npz")
    """

    ids: np.ndarray
    distances: np.ndarray
    found: np.ndarray
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.ids)
        if any(np.shape(a) != (count,) for a in (self.distances, self.found)):
            raise InputError(
                f"an index needs one distance and one `found` an id; received {count} "
                f"ids, distances of shape {np.shape(self.distances)} and found of "
                f"shape {np.shape(self.found)}"
            )
        if self.ids.dtype.kind not in "Si":
            raise InputError(
                f"ids must be bytes or integers; received {self.ids.dtype}; encode "
                "text with np.char.encode"
            )
        if self.distances.dtype.kind != "f" or self.found.dtype != bool:
            raise InputError(
                "distances must be floats and found booleans; received "
                f"{self.distances.dtype} and {self.found.dtype}; convert them"
            )
        if len(np.unique(self.ids)) != count:
            raise InputError(
                f"ids must be unique; {count - len(np.unique(self.ids))} of {count} "
                "repeat another; give every example an id of its own"
            )
        if np.isnan(self.distances).any() or (self.distances < 0).any():
            raise InputError(
                "distances must be at least 0; received some that are NaN or negative; "
                "compute the index again"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def compute(
        cls,
        model: keras.Model,
        images: np.ndarray | Split,
        labels: np.ndarray | None = None,
        *,
        ids: np.ndarray | None = None,
        attack: str = "cw",
        dataset: str = "arrays",
        split: str = "",
        shards_dir: str | Path | None = None,
        runner: Runner | None = None,
        verbose: bool = True,
        **settings: Any,
    ) -> "RobustnessIndex":
        """Attack every image and keep the distances.

        Memory does not grow with the number of images: they are attacked 4,096 at a
        time and no adversarial image is kept. Under the model's distribution strategy
        all replicas of all workers take part, and every worker gets the whole index.

        Args:
            model: A built Keras classifier of logits or probabilities.
            images: float `(N, H, W, C)` in [0, 1], or uint8, or a split of
                `ar_adals_tf.datasets`.
            labels: int `(N,)`, the true classes; they only enter the digest, since
                the attack starts from the model's own predictions.
            ids: `(N,)` bytes or integers; None counts from 0.
            attack: `cw` (the paper's), `ddn`, `deepfool`, `margin` or
                `cleverhans_cw_l2`.
            dataset: Name for the metadata; a split brings its own.
            split: Likewise.
            shards_dir: A folder for intermediate results: a computation that was
                killed goes on from there.
            runner: What `attacks.prepare` made of this very model, attack and
                settings, so that a model attacked again and again in training is
                compiled once; None: made here.
            verbose: Whether to show a progress bar with the time left.
            **settings: Of the attack, such as `iterations=500`; see
                `ar_adals_tf.attacks`.

        Raises:
            InputError: On arrays that do not fit together, on unknown attacks or
                settings, or on a `shards_dir` of another computation.
        """
        source = _as_source(images, labels, ids, dataset, split)
        runner = runner or prepare(attack, model, keep_adversarial=False, **settings)
        metadata: dict[str, Any] = {
            "format": _FORMAT,
            "dataset": source.dataset,
            "split": source.split,
            "num_examples": len(source),
            "digest": source.digest(),
            "model_digest": digest_model(model),
            "attack": attack,
            "settings": _plain_settings(attack, settings),
            "versions": versions(),
        }
        shards = _Shards(shards_dir, metadata) if shards_dir else None
        started = time.perf_counter()
        parts: list[dict[str, np.ndarray]] = []
        name = f"{attack} on {source.dataset} {source.split}".rstrip()
        bar = progress_bar(len(source), name, show=verbose)
        with bar:
            for number, (shard_ids, shard_images) in enumerate(source.shards(_SHARD)):
                part = shards.load(number, shard_ids) if shards else None
                if part is None:
                    before = bar.n

                    def show(done: int, before: int = before) -> None:
                        bar.update(before + done - bar.n)

                    result = runner(shard_images, progress=show)
                    part = {
                        "ids": shard_ids,
                        "distances": result.distances,
                        "found": result.found,
                        "within": result.found_within_steps,
                    }
                    if shards:
                        shards.save(number, part)
                    bar.update(before + len(shard_ids) - bar.n)
                else:
                    bar.update(len(shard_ids))
                parts.append(part)
        joined = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
        metadata["success_rate"] = float(joined["within"].mean())
        metadata["seconds"] = round(time.perf_counter() - started, 3)
        return cls(joined["ids"], joined["distances"], joined["found"], metadata)

    def levels(self, num_levels: int) -> np.ndarray:
        """Sort the images into equal parts by robustness.

        Args:
            num_levels: R.

        Returns:
            `(N,)` int64, `floor(rank * R / N)`: 0 is the least robust level. Equal
            distances are ranked by id; an image that no attack flipped ranks last.

        Raises:
            InputError: On fewer images than levels.
        """
        count = len(self)
        if not 1 <= num_levels <= count:
            raise InputError(
                f"num_levels must be between 1 and the {count} images of the index; "
                f"received {num_levels}; take fewer levels or more images"
            )
        levels = np.empty(count, np.int64)
        order = np.lexsort((self.ids, self.distances))
        levels[order] = np.arange(count) * num_levels // count
        return levels

    def subset(self, ids: np.ndarray) -> "RobustnessIndex":
        """Return the index of some of its examples only, without a digest.

        Raises:
            InputError: If an id is not in the index.
        """
        missing = self.missing(ids)
        if len(missing):
            raise InputError(
                f"{len(missing)} of {len(ids)} images are not in the robustness index, "
                f"the first is {missing[0]!r}; compute the index of this very split"
            )
        order = np.argsort(self.ids)
        at = order[np.searchsorted(self.ids, ids, sorter=order)]
        metadata = {k: v for k, v in self.metadata.items() if k != "digest"}
        return RobustnessIndex(ids, self.distances[at], self.found[at], metadata)

    def missing(self, ids: np.ndarray) -> np.ndarray:
        """Return those of `ids` that the index does not have."""
        return ids[~np.isin(ids, self.ids)]

    def verify(self, model: keras.Model | None = None, **expected: Any) -> None:
        """Refuse the index if it was computed of something else.

        Args:
            model: The model that the distances should be of.
            **expected: Values that the metadata should have: `dataset`, `split`,
                `digest`, `attack`, `settings`.

        Raises:
            InputError: On the first difference, saying which.

        Example:
            >>> index.verify(vanilla, digest=digest_examples(ids, y_train, x_train))
        """
        if model is not None:
            expected["model_digest"] = digest_model(model)
        for name, value in expected.items():
            if self.metadata.get(name) != value:
                raise InputError(
                    f"this robustness index is of another {_WHAT.get(name, name)}: "
                    f"it says {_brief(self.metadata.get(name))}, wanted is "
                    f"{_brief(value)}; compute it again with "
                    "python -m ar_adals_tf.compute_robustness"
                )

    def save(self, path: str | Path) -> None:
        """Write the index as `.npz`, aside first and then renamed."""
        with atomic_write(path) as aside, open(aside, "wb") as file:
            np.savez(
                file,
                ids=self.ids,
                distances=self.distances.astype(np.float32),
                found=self.found,
                metadata=np.array(json.dumps(dict(self.metadata))),
            )

    @classmethod
    def load(cls, path: str | Path) -> "RobustnessIndex":
        """Read an index; nothing in the file is executed.

        Raises:
            InputError: If the file is absent, truncated or something else.
        """
        arrays = _read_npz(path, ("ids", "distances", "found", "metadata"))
        try:
            metadata = json.loads(str(arrays.pop("metadata")))
            if not isinstance(metadata, dict):
                raise TypeError("its metadata are no JSON object")
            return cls(**arrays, metadata=metadata)
        except (TypeError, ValueError) as error:
            raise _not_an_index(path, error) from error

    def __str__(self) -> str:
        found = self.distances[self.found]
        text = (
            f"{self.metadata.get('attack', 'robustness')} on "
            f"{self.metadata.get('dataset', 'unknown')} "
            f"{self.metadata.get('split', '')}".rstrip()
            + f": {len(self):,} images, "
        )
        if len(found):
            low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
            text += f"distance {low:.3f} / {middle:.3f} / {high:.3f} (10/50/90 %)"
        if "success_rate" in self.metadata:
            text += f", success {self.metadata['success_rate']:.1%}"
        if len(found) < len(self):
            text += (
                f"; {len(self) - len(found)} never flipped, ranked as the most robust"
            )
        return text


class Agreement(NamedTuple):
    """How alike two indexes rank the same images.

    Attributes:
        spearman: Rank correlation of the distances, in [-1, 1].
        same_level: Share of images in the same level of both.
        within_one: Share of images at most one level apart.
        table: `(R, R)` int64: how many images of each level of the first index (row)
            lie in each level of the second (column).
    """

    spearman: float
    same_level: float
    within_one: float
    table: np.ndarray


def agreement(
    first: RobustnessIndex, second: RobustnessIndex, num_levels: int = 10
) -> Agreement:
    """Compare two indexes of the same images.

    Args:
        first: An index.
        second: Another one with the same ids, in any order.
        num_levels: R.

    Raises:
        InputError: If the ids differ, or there are fewer images than levels.

    Example:
        >>> agreement(cw, margin).spearman
        0.987
    """
    order, other = np.argsort(first.ids), np.argsort(second.ids)
    if not np.array_equal(first.ids[order], second.ids[other]):
        raise InputError(
            "only indexes of the same images can be compared; "
            f"{len(first.missing(second.ids))} of {len(second)} ids of the second are "
            "not in the first; compute both on one split"
        )
    rows = first.levels(num_levels)[order]
    columns = second.levels(num_levels)[other]
    table = np.zeros((num_levels, num_levels), np.int64)
    np.add.at(table, (rows, columns), 1)
    distances = [first.distances[order], second.distances[other]]
    apart = np.abs(rows - columns)
    return Agreement(
        float(stats.spearmanr(*distances).statistic),
        float((apart == 0).mean()),
        float((apart <= 1).mean()),
        table,
    )


_WHAT = {
    "digest": "set of images or labels",
    "model_digest": "model",
    "settings": "attack setting",
}


def _brief(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and " " not in text else text


def _plain_settings(attack: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide the distances, defaults included."""
    full = vars(attack_settings(attack, **settings))
    left_out = ("batch_size", "from_logits", "keep_adversarial")
    return {name: value for name, value in full.items() if name not in left_out}


@dataclass(frozen=True)
class _ArraySource:
    """Arrays of a user, in the part of a split's role that `compute` needs."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    dataset: str
    split: str

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        return digest_examples(self.ids, self.labels, self.images)

    def shards(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return _array_shards(self.ids, self.images, size)


@dataclass(frozen=True)
class _SplitSource:
    """A split of `ar_adals_tf.datasets`, likewise."""

    of: Split

    def __len__(self) -> int:
        return len(self.of)

    @property
    def dataset(self) -> str:
        return self.of.dataset

    @property
    def split(self) -> str:
        return self.of.name

    def digest(self) -> str:
        return self.of.digest()

    def shards(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if isinstance(self.of, ArraySplit):  # without TensorFlow's copy of all images
            yield from _array_shards(self.of.ids, self.of.images, size)
            return
        # Small batches, of which the pipeline reads some ahead, make up a shard.
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        read = min(_READ, size)
        for ids, images, _ in self.of.batches(read).as_numpy_iterator():
            parts.append((ids.astype("S"), images))
            if len(parts) * read >= size:
                yield _joined(parts)
                parts = []
        if parts:
            yield _joined(parts)


def _array_shards(
    ids: np.ndarray, images: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids and float images, `size` at a time; 8-bit pixels become [0, 1]."""
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if part.dtype == np.uint8:
            part = part.astype(np.float32) / np.float32(255)
        yield ids[start : start + size], part


def _joined(
    parts: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    ids, images = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(images)


def _as_source(
    images: Any, labels: Any, ids: Any, dataset: str, split: str
) -> _ArraySource | _SplitSource:
    if hasattr(images, "batches"):
        return _SplitSource(images)
    images = np.asarray(images)
    count = len(images) if images.ndim else 0
    if not count:
        raise InputError("there is no image to attack; received an empty array")
    labels = np.zeros(count, np.int64) if labels is None else np.asarray(labels)
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
    ids = np.arange(count) if ids is None else np.asarray(ids)
    if ids.dtype.kind == "U":
        ids = np.char.encode(ids, "utf-8")
    if len(labels) != count or len(ids) != count:
        raise InputError(
            f"images, labels and ids must be equally many; received {count}, "
            f"{len(labels)} and {len(ids)}"
        )
    return _ArraySource(images, labels, ids, dataset, split)


class _Shards:
    """Intermediate results of one computation in a folder, each with a digest."""

    def __init__(self, folder: str | Path, plan: Mapping[str, Any]) -> None:
        self._folder = writable_folder(folder, "shards_dir")
        path = self._folder / "plan.json"
        self._plan = json.dumps({**plan, "shard_size": _SHARD}, sort_keys=True)
        if path.exists() and read_json(path) != json.loads(self._plan):
            raise InputError(
                f"{self._folder} holds the shards of another computation; remove it "
                "or give another folder"
            )
        write_json(path, json.loads(self._plan))

    def _path(self, number: int) -> Path:
        return self._folder / f"shard-{number:05d}.npz"

    def load(self, number: int, ids: np.ndarray) -> dict[str, np.ndarray] | None:
        """Return a finished shard, or None where it must be computed (again)."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            part = _read_npz(path, ("ids", "distances", "found", "within", "digest"))
            if str(part.pop("digest")) != self._digest(part):
                raise InputError("its digest differs")
            if not np.array_equal(part["ids"], ids):
                raise InputError("it is of other images")
        except InputError as error:
            warnings.warn(
                f"{path} is damaged ({error}); computing it again", stacklevel=2
            )
            return None
        return part

    def save(self, number: int, part: dict[str, np.ndarray]) -> None:
        """Write a shard with its digest."""
        with atomic_write(self._path(number)) as aside, open(aside, "wb") as file:
            arrays: dict[str, Any] = {**part, "digest": np.array(self._digest(part))}
            np.savez(file, **arrays)

    def _digest(self, part: Mapping[str, np.ndarray]) -> str:
        """Return the digest of a shard of this very plan."""
        content = hashlib.sha256(self._plan.encode())
        for name in ("ids", "distances", "found", "within"):
            content.update(np.ascontiguousarray(part[name]).tobytes())
        return content.hexdigest()


def _read_npz(path: str | Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not Path(path).exists():
        raise InputError(
            f"there is no robustness index {path}; compute one with "
            "python -m ar_adals_tf.compute_robustness"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except Exception as error:  # a damaged byte can lead zipfile and NumPy anywhere
        raise _not_an_index(path, error) from error


def _not_an_index(path: str | Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is no whole robustness index ({type(error).__name__}: "
        f"{str(error)[:80]}); it is truncated or another kind of file: compute it "
        "again with python -m ar_adals_tf.compute_robustness"
    )
