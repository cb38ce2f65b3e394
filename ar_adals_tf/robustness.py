"""The robustness index: how far each image is from another class, by example id."""

import hashlib
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples import Source, as_examples
from ar_adals_tf.files import (
    atomic_write,
    not_whole,
    parse_json,
    read_json,
    read_npz,
    writable_folder,
    write_json,
)
from ar_adals_tf.forms.run_files import INDEX
from ar_adals_tf.progress import move_from_here, progress_bar
from ar_adals_tf.version import versions

if TYPE_CHECKING:
    import keras

    from ar_adals_tf.attacks.runner import Runner

_WHAT = "robustness index"

_REMEDY = "compute it again with python -m ar_adals_tf.compute_robustness"


_ARRAYS = ("ids", "distances", "found", "within")


@dataclass(frozen=True, eq=False)
class RobustnessIndex:
    """The adversarial robustness of the images of one split under one model.

    Args:
        ids: `(N,)` bytes or integers, unique.
        distances: `(N,)` float32, at least 0. The L2 norm, in [0, 1] pixels, of the
            smallest perturbation found that changes the model's prediction; infinite
            if none was found.
        found: `(N,)` bool. Whether a perturbation was found.
        metadata: Where the distances come from: `dataset`, `split`, `num_examples`,
            `digest` of ids, labels and pixels, `model_digest`, `attack`, its
            `settings`, `success_rate` after the search steps asked for, `seconds` and
            `versions`.

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

    def __post_init__(self) -> None:
        count = len(self.ids)
        if not np.shape(self.distances) == np.shape(self.found) == (count,):
            raise InputError(
                f"an index needs one distance and one `found` an id; received {count} "
                f"ids, distances of shape {np.shape(self.distances)} and found of "
                f"shape {np.shape(self.found)}; give arrays of one length"
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

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def compute(
        cls,
        model: "keras.Model",
        images: np.ndarray | Source,
        labels: np.ndarray | None = None,
        *,
        ids: np.ndarray | None = None,
        attack: str = "cw",
        dataset: str = "arrays",
        split: str = "",
        shards_dir: str | Path | None = None,
        shard_size: int = 4096,
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
            model: A built Keras classifier that returns logits or probabilities.
            images: float `(N, H, W, C)` in [0, 1], or uint8, or a split of
                `ar_adals_tf.datasets`.
            labels: int `(N,)`, the true classes. They only enter the digest, because
                the attack starts from the model's own predictions.
            ids: `(N,)` bytes or integers. Defaults to the positions 0 to N - 1.
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
                `ar_adals_tf.attacks`.

        Raises:
            InputError: If arrays do not fit together, if an attack or a setting is
                unknown, or if `shards_dir` belongs to another computation.
        """
        from ar_adals_tf.attacks import prepare

        if shard_size < 1:
            raise InputError(
                f"shard_size must be at least 1; received {shard_size}; leave it out"
            )
        source: Any = images
        if not hasattr(images, "shards"):
            source = as_examples(images, labels, ids, dataset, split)
        runner = runner or prepare(attack, model, keep_adversarial=False, **settings)
        metadata = describe(model, source, attack, settings)
        shards = None
        if shards_dir is not None:
            shards = Shards(shards_dir, metadata | {"shard_size": shard_size})
        started = time.perf_counter()
        parts: list[dict[str, np.ndarray]] = []
        title = f"{attack} on {source.dataset} {source.name}".rstrip()
        with progress_bar(len(source), title, show=verbose) as bar:
            for number, (shard_ids, pixels) in enumerate(source.shards(shard_size)):
                move = move_from_here(bar)
                part = shards.load(number, shard_ids) if shards else None
                if part is None:
                    result = runner(pixels, progress=move)
                    part = {
                        "ids": shard_ids,
                        "distances": result.distances,
                        "found": result.found,
                        "within": result.found_within_steps,
                    }
                    if shards:
                        shards.save(number, part)
                move(len(shard_ids))
                parts.append(part)
        joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        metadata["success_rate"] = float(joined["within"].mean())
        metadata["seconds"] = round(time.perf_counter() - started, 3)
        return cls(joined["ids"], joined["distances"], joined["found"], metadata)

    def levels(self, num_levels: int) -> np.ndarray:
        """Divide the images into `num_levels` equal parts by robustness.

        Returns:
            `(N,)` int64, `floor(rank * R / N)`. Level 0 is the least robust. Images
            of equal distance are ranked by id. An image that no attack flipped ranks
            last.

        Raises:
            InputError: If there are fewer images than levels.
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
        """Return the index of some of its examples. It has no digest."""
        at = self.aligned(ids)
        metadata = {k: v for k, v in self.metadata.items() if k != "digest"}
        return RobustnessIndex(ids, self.distances[at], self.found[at], metadata)

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
                    f"{_brief(value)}; {_REMEDY}"
                )

    def save(self, path: str | Path) -> None:
        """Write the index as an `.npz` file, which is whole or absent at any time."""
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
        """Read an index. Nothing in the file is executed.

        Raises:
            InputError: If the file is absent, damaged or of another kind.
        """
        names = ("ids", "distances", "found", "metadata")
        arrays = read_npz(path, names, _WHAT, _REMEDY)
        ids, distances, found, metadata = (arrays[name] for name in names)
        try:
            metadata = parse_json(str(metadata))
            INDEX.form(metadata, "metadata")
            return cls(ids, distances, found, metadata)
        except (TypeError, ValueError) as error:
            raise not_whole(path, _WHAT, error, _REMEDY) from error

    def __str__(self) -> str:
        found = self.distances[self.found]
        about = {"attack": "robustness", "dataset": "unknown", "split": ""}
        attack, dataset, split = (self.metadata.get(k, v) for k, v in about.items())
        title = f"{attack} on {dataset} {split}".rstrip()
        text = f"{title}: {len(self):,} images, "
        if len(found):
            low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
            text += f"distance {low:.3f} / {middle:.3f} / {high:.3f} (10/50/90 %)"
        if "success_rate" in self.metadata:
            text += f", success {self.metadata['success_rate']:.1%}"
        if len(found) < len(self):
            never = len(self) - len(found)
            text += f"; {never} never flipped, ranked as the most robust"
        return text


def describe(
    model: "keras.Model", source: Source, attack: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides the distances: images, model, attack and versions."""
    from ar_adals_tf.attacks import attack_settings

    return {
        "format": 1,
        "dataset": source.dataset,
        "split": source.name,
        "num_examples": len(source),
        "digest": source.digest(),
        "model_digest": digest_model(model),
        "attack": attack,
        "settings": attack_settings(attack, **settings).deciding(),
        "versions": versions(),
    }


_TITLES = {
    "digest": "set of images or labels",
    "model_digest": "model",
    "settings": "attack setting",
}


def _brief(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and " " not in text else text


class Shards:
    """The finished shards of one robustness index, in a folder, each with a digest.

    `plan` is everything that decides the results, as JSON can hold it. A folder of
    another plan is refused.
    """

    def __init__(self, folder: str | Path, plan: Mapping[str, Any]) -> None:
        self._folder = writable_folder(folder, "shards_dir")
        path = self._folder / "plan.json"
        self._plan = json.dumps(plan, sort_keys=True)
        if path.exists() and read_json(path) != json.loads(self._plan):
            raise InputError(
                f"{self._folder} holds the shards of another computation; remove it "
                "or give another folder"
            )
        write_json(path, json.loads(self._plan))

    def load(self, number: int, ids: np.ndarray) -> dict[str, np.ndarray] | None:
        """Return the arrays of a finished shard, numbered from 0, of these images.

        None, with a warning if it is damaged: the shard must be computed.
        """
        path = self._path(number)
        if not path.exists():
            return None
        try:
            part = read_npz(path, (*_ARRAYS, "digest"), "shard", "remove it")
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

    def save(self, number: int, part: Mapping[str, np.ndarray]) -> None:
        """Write a shard with its digest."""
        arrays: dict[str, Any] = {**part, "digest": np.array(self._digest(part))}
        with atomic_write(self._path(number)) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)

    def _path(self, number: int) -> Path:
        return self._folder / f"shard-{number:05d}.npz"

    def _digest(self, part: Mapping[str, np.ndarray]) -> str:
        """Return the digest of a shard's arrays and of the plan behind them."""
        content = hashlib.sha256(self._plan.encode())
        for name in _ARRAYS:
            content.update(np.ascontiguousarray(part[name]).tobytes())
        return content.hexdigest()
