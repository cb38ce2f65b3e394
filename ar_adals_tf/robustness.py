"""The robustness index: how far each image is from another class, by example id."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import as_ids, check_labels
from ar_adals_tf.index.distances import (
    as_source,
    check_labels_are_classes,
    compute_distances,
    known_labels,
    resolved,
)
from ar_adals_tf.index.file import REMEDY, no_index, read_index, write_index
from ar_adals_tf.index.shards import SHARD_SIZE
from ar_adals_tf.whole_numbers import whole_number

if TYPE_CHECKING:
    import keras

    from ar_adals_tf.attacks.runner import Runner


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessIndex:
    """The adversarial robustness of the images of one split under one model.

    Args:
        ids: `(N,)` bytes, text or integers, unique. Text becomes UTF-8 bytes, integers
            int64.
        distances: `(N,)` float32, at least 0. The L2 norm, in the inputs' own unit, of
            the smallest perturbation found that changes the model's prediction;
            infinite where none was found.
        found: `(N,)` bool. Whether a perturbation was found.
        labels: `(N,)` integers, the true classes, by which `soft_labels` and `ARAdaLS`
            recognise the images. Defaults to `None`: they are not known.
        metadata: Where the distances come from: `dataset`, `split`, `num_examples`,
            `digest` of ids, labels and pixels, `model_digest`, `attack`, its
            `settings`, `success_rate` after the search steps asked for, `input_range`
            (the least and the greatest number that the model saw), the model's
            `accuracy` on up to 1,024 of the images, `seconds` and `versions`.

    Raises:
        InputError: If the arrays do not fit together, or have values that they cannot
            have.

    Example:
        >>> ids, found = np.array([b"a", b"b", b"c", b"d"]), np.ones(4, bool)
        >>> index = RobustnessIndex(ids, np.array([0.7, 0.1, 0.4, 0.2]), found)
        >>> index.levels(2).tolist()  # 0: the least robust half
        [1, 0, 1, 0]
        >>> index.levels(2)[index.aligned(np.array([b"b", b"a"]))].tolist()
        [0, 1]

        An attack fills the index, and a file keeps it:

        ```python
        index = RobustnessIndex.compute(model, x_train, y_train, attack="ddn")
        index.save("robustness.npz")
        index = RobustnessIndex.load("robustness.npz")
        ```
    """

    ids: np.ndarray
    distances: np.ndarray
    found: np.ndarray
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", as_ids(self.ids))
        for name in ("distances", "found", "labels"):
            if isinstance(given := getattr(self, name), (list, tuple)):
                object.__setattr__(self, name, np.asarray(given))
        count = len(self.ids)
        if not np.shape(self.distances) == np.shape(self.found) == (count,):
            raise InputError(
                f"an index needs one distance and one `found` an id; received {count} "
                f"ids, distances of shape {np.shape(self.distances)} and found of "
                f"shape {np.shape(self.found)}; give arrays of one length"
            )
        if self.distances.dtype.kind != "f" or self.found.dtype != bool:
            raise InputError(
                "distances must be floats and found booleans; received "
                f"{self.distances.dtype} and {self.found.dtype}; convert them"
            )
        if repeated := count - len(np.unique(self.ids)):
            raise InputError(
                f"ids must be unique; {repeated} of {count} repeat another; give every "
                "example an id of its own"
            )
        if np.isnan(self.distances).any() or (self.distances < 0).any():
            raise InputError(
                "distances must be at least 0; received some that are NaN or negative; "
                "compute the index again"
            )
        if lost := int((~self.found & np.isfinite(self.distances)).sum()):
            raise InputError(
                "a distance is infinite where `found` is False; received "
                f"{lost} finite ones there; make them np.inf, or `found` True"
            )
        if self.labels is not None and (
            np.shape(self.labels) != (count,) or self.labels.dtype.kind not in "iu"
        ):
            raise InputError(
                f"labels must be {count} integers, one for each id; received "
                f"{self.labels.dtype} of shape {np.shape(self.labels)}; leave them out "
                "if they are not known"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def compute(
        cls,
        model: "keras.Model",
        images: Any,
        labels: Any = None,
        *,
        ids: Any = None,
        attack: str = "cw",
        dataset: str = "arrays",
        split: str = "",
        shards_dir: str | Path | None = None,
        shard_size: int = SHARD_SIZE,
        runner: "Runner | None" = None,
        verbose: bool = True,
        **settings: Any,
    ) -> "RobustnessIndex":
        """Attack every image and keep the distances.

        Memory does not grow with the number of images: one shard of them is attacked
        at a time, and no adversarial image is kept. Under the model's distribution
        strategy all replicas of all workers take part, and every worker gets the whole
        index.

        Args:
            model: A Keras classifier, built or called, that returns logits or
                probabilities.
            images: What the model takes, `(N, ...)`: an array, or a dictionary or list
                of arrays for a model of several inputs. Or a finite
                `tf.data.Dataset` or `keras.utils.PyDataset`, batched or not, of `x`,
                `(x, y)`, `(x, y, weight)`, `(id, x, y)` or TFDS's dictionaries, which
                is read as a stream, twice. Floats in [0, 1], or uint8, which is divided
                by 255; with `bounds=`, numbers of the model's own range. Or a split of
                `ar_adals_tf.datasets`.
            labels: int `(N,)`, the true classes. The attack starts from the model's
                own predictions. The labels enter the digest, the index keeps them to
                recognise its images, and the model's accuracy is measured by them. A
                dataset brings its own.
            ids: `(N,)` bytes or integers. Defaults to the dataset's ids, or else to the
                positions 0 to N - 1; a dataset must then give its examples in the same
                order at each reading.
            attack: `cw` (the paper's), `ddn`, `deepfool`, `margin` or
                `cleverhans_cw_l2`.
            dataset: Name of the dataset, for the metadata. A split brings its own.
            split: Name of the split, for the metadata. A split brings its own.
            shards_dir: A folder for intermediate results. A computation that was
                killed goes on from there. Defaults to None, which keeps none.
            shard_size: Number of images that are attacked between two intermediate
                results.
            runner: The result of `attacks.prepare` for this model, attack and
                settings. Pass it to avoid compiling anew when one model is attacked
                again and again.
            verbose: Whether to show a progress bar with the time left.
            **settings: Settings of the attack, such as `iterations=500`; see
                `ar_adals_tf.attacks`. All attacks have these four:

                `bounds=(low, high)` says where inputs may lie: two numbers such as
                `(0, 255)`, or two arrays of an input's shape. `"data"` is each
                feature's range in `images`. `attacks.data_bounds(x_train)` is that in
                other data, which these may leave. None is no bounds.

                `at="embedding"` moves the output of the layer of this name, for inputs
                that are no floats: tokens, text, categories. Masks and all other
                inputs stay as they are. The default is then no bounds, which needs
                `margin`, `ddn` or `deepfool`.

                `attack_input="image"` moves one of several inputs and holds the others.

                `mask=` is True for values that must stay as they are, such as
                categories in a table; it is broadcast against one example.

                Distances are L2 norms in the unit of what moves: dollars, pixels, or
                values of an embedding. `metadata["unit"]` and `str(index)` say it.

        Raises:
            InputError: If arrays do not fit together, if an attack or a setting is
                unknown, if a label is no class of the model, if a dataset has another
                order at each reading and no ids, or if `shards_dir` belongs to another
                computation.
            NotFiniteError: If the model's output for an image is not finite. No shard
                is kept then.
        """
        shard_size = whole_number("shard_size", shard_size, hint="leave it out")
        source = as_source(model, images, labels, ids, dataset, split, settings)
        settings = resolved(source, settings)
        check_labels_are_classes(model, source)
        results = compute_distances(
            model,
            source,
            attack,
            settings,
            shards_dir=shards_dir,
            shard_size=shard_size,
            runner=runner,
            verbose=verbose,
        )
        return cls(*results, known_labels(source, results[0]))

    def levels(self, num_levels: int) -> np.ndarray:
        """Divide the images into `num_levels` equal parts by robustness.

        Returns:
            `(N,)` int64, `floor(rank * R / N)`. Level 0 is the least robust. Images
            of equal distance are ranked by a digest of the id, so that neither their
            order nor what the ids tell, such as a class, counts. An image that no
            attack flipped ranks last.

        Raises:
            InputError: If there are fewer images than levels, or if `num_levels` is no
                whole number, at least 1.
        """
        count = len(self)
        num_levels = whole_number("num_levels", num_levels)
        if num_levels > count:
            raise InputError(
                f"num_levels must be at most the {count} images of the index; "
                f"received {num_levels}; take fewer levels or more images"
            )
        levels = np.empty(count, np.int64)
        order = np.lexsort((self.ids, _tie_breakers(self), self.distances))
        levels[order] = np.arange(count) * num_levels // count
        return levels

    def aligned(self, ids: np.ndarray) -> np.ndarray:
        """Return the position of each id, `(M,)`, in the index.

        Returns:
            `(M,)` int64, such that `index.ids[index.aligned(ids)]` equals `ids`.

        Raises:
            InputError: If an id is not in the index.
        """
        missing = self.missing(ids)
        if len(missing):
            raise InputError(
                f"{len(missing)} of {len(ids)} images are not in the robustness index, "
                f"the first is {missing[0].item()!r}; compute the index of this very "
                "split"
            )
        order = np.argsort(self.ids)
        return order[np.searchsorted(self.ids, ids, sorter=order)]

    def missing(self, ids: np.ndarray) -> np.ndarray:
        """Return those of `ids` that the index does not have."""
        return ids[~np.isin(ids, self.ids)]

    def subset(self, ids: np.ndarray) -> "RobustnessIndex":
        """Return the index of some of its examples. It has no digest and no split."""
        at = self.aligned(ids)
        lost = ("digest", "split", "num_examples", "input_range", "accuracy")
        metadata = {k: v for k, v in self.metadata.items() if k not in lost}
        labels = None if self.labels is None else self.labels[at]
        return RobustnessIndex(
            ids, self.distances[at], self.found[at], metadata, labels
        )

    def verify(self, model: "keras.Model | None" = None, **expected: Any) -> None:
        """Refuse the index if it was computed from something else.

        Args:
            model: The model whose robustness the index should hold. Defaults to None,
                which accepts any model.
            **expected: Values that the metadata should have, such as
                `digest=digest_examples(ids, y_train, x_train)` or `attack="cw"`.

        Raises:
            InputError: On the first difference. The sentence names it.
        """
        if model is not None:
            expected["model_digest"] = digest_model(model)
        for name, value in expected.items():
            if self.metadata.get(name) != value:
                raise InputError(
                    f"this robustness index is of another {_TITLES.get(name, name)}: "
                    f"it says {_brief(self.metadata.get(name))}, wanted is "
                    f"{_brief(value)}; {REMEDY}"
                )

    def verify_examples(self, ids: np.ndarray, labels: np.ndarray) -> None:
        """Refuse the index unless it is of exactly these examples.

        Args:
            ids: `(N,)`, in any order.
            labels: `(N,)` integers. They count only if the index has labels too.

        Raises:
            InputError: If the ids are not the same, or labels differ.
        """
        at = self.aligned(ids)
        if len(ids) != len(self):
            raise InputError(
                f"the robustness index is of {len(self)} images, not of these "
                f"{len(ids)}; {REMEDY}"
            )
        if self.labels is not None:
            check_labels(ids, labels, self.labels[at])

    def save(self, path: str | Path) -> None:
        """Write the index as an `.npz` file, which is whole or absent at any time.

        The file has a digest of its arrays, which `load` compares.
        """
        write_index(
            path, self.ids, self.distances, self.found, self.labels, self.metadata
        )

    @classmethod
    def load(cls, path: str | Path) -> "RobustnessIndex":
        """Read an index. Nothing in the file is executed.

        Raises:
            InputError: If the file is absent, damaged, changed, of another kind or of a
                later version.
        """
        arrays, metadata = read_index(path)
        ids, distances, found = (arrays[n] for n in ("ids", "distances", "found"))
        try:
            return cls(ids, distances, found, metadata, arrays.get("labels"))
        except (TypeError, ValueError) as error:
            raise no_index(path, error) from error

    def __repr__(self) -> str:
        return f"<RobustnessIndex {self}>"

    def __str__(self) -> str:
        found = self.distances[self.found]
        about = {"attack": "robustness", "dataset": "unknown", "split": ""}
        attack, dataset, split = (self.metadata.get(k, v) for k, v in about.items())
        title = f"{attack} on {dataset} {split}".rstrip()
        text = f"{title}: {len(self):,} examples"
        if len(found):
            low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
            text += f", distance {low:.3f} / {middle:.3f} / {high:.3f} (10/50/90 %"
            if "unit" in self.metadata:
                text += f", {self.metadata['unit']}"
            text += ")"
        if "success_rate" in self.metadata:
            text += f", success {self.metadata['success_rate']:.1%}"
        if len(found) < len(self):
            never = len(self) - len(found)
            text += f"; {never} never flipped, ranked as the most robust"
        return text


def _tie_breakers(index: RobustnessIndex) -> np.ndarray:
    """Order images of equal distance as by chance, but always in the same way.

    Returns:
        `(N,)` uint64: the beginning of the id's SHA-256 where another image has the
        same distance, and 0 elsewhere.
    """
    _, inverse, counts = np.unique(
        index.distances, return_inverse=True, return_counts=True
    )
    tied = counts[inverse] > 1
    names = (i if isinstance(i, bytes) else b"%d" % i for i in index.ids[tied].tolist())
    keys = np.zeros(len(index), np.uint64)
    keys[tied] = [int.from_bytes(hashlib.sha256(n).digest()[:8]) for n in names]
    return keys


_TITLES = {
    "digest": "set of images or labels",
    "model_digest": "model",
    "settings": "attack setting",
}


def _brief(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and " " not in text else text
