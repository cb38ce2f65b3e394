"""A few test images, each with its nearest image of another class: `gallery.npz`.

They are the least and the most robust images of a robustness index, and the file lies
beside the index. A report shows them: it reads neither data nor models.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.attacks.table import prepare
from ar_adals_tf.calibration.checks import check_integers, check_probabilities
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write, sweep
from ar_adals_tf.forms.form import File, list_of, maybe, record, text
from ar_adals_tf.process.locks import lock_beside, only_writer
from ar_adals_tf.reading import not_whole, parse_json, read_npz
from ar_adals_tf.robustness import RobustnessIndex

if TYPE_CHECKING:
    import keras

    from ar_adals_tf.datasets.splits import Split

#: As many images of the least robust, and as many of the most robust.
EACH = 4

#: DDN finds images next to CW-L2's in 100 passes, which is seconds for eight images.
ATTACK = "ddn"

_WHAT = "gallery of images"

_REMEDY = "evaluate the run again with python -m ar_adals_tf.evaluate"

_ABOUT = File(
    record(
        {
            "digest": maybe(text()),
            "model_digest": maybe(text()),
            "class_names": list_of(text()),
        }
    ),
    _REMEDY,
)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Test images by robustness, the least robust first, and what a model says of them.

    Attributes:
        ids: `(n,)` bytes.
        labels: `(n,)`, the true classes.
        images: `(n, H, W, C)` in [0, 1], of 1 or 3 channels.
        differences: `(n, H, W, C)`, adversarial image less image; 0 where there is no
            adversarial image.
        clean: `(n, Z)`, the attacked model's probabilities for the images.
        attacked: `(n, Z)`, its probabilities for the adversarial images.
        class_names: `(Z,)`, or nothing.
        source: Digests of the index's images and model: whose images these are.
    """

    ids: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    differences: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray
    class_names: tuple[str, ...]
    source: Mapping[str, str | None]

    @property
    def distances(self) -> np.ndarray:
        """`(n,)`, the L2 norms of the differences, in [0, 1] pixels."""
        flat = self.differences.reshape(len(self.ids), -1).astype(np.float64)
        return np.linalg.norm(flat, axis=1)

    def is_of(self, index: RobustnessIndex) -> bool:
        """Tell whether these are the images that an index has at its ends."""
        same = self.source == _source(index)
        return same and np.array_equal(self.ids, ends_of(index))

    def save(self, path: str | Path) -> None:
        """Write the file, aside and then renamed.

        Images are rounded to 8 bits, differences to float16: they are to be looked at.
        """
        about = {**self.source, "class_names": list(self.class_names)}
        with atomic_write(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(
                file,
                ids=self.ids,
                labels=self.labels,
                images=np.rint(255 * np.clip(self.images, 0, 1)).astype(np.uint8),
                differences=self.differences.astype(np.float16),
                clean=self.clean.astype(np.float32),
                attacked=self.attacked.astype(np.float32),
                about=np.array(json.dumps(about)),
            )

    @classmethod
    def load(cls, path: str | Path) -> "Gallery":
        """Read what `save` wrote. Nothing in the file is executed.

        Raises:
            InputError: If the file is absent or damaged.
        """
        names = ("ids", "labels", "images", "differences", "clean", "attacked", "about")
        arrays = read_npz(path, names, _WHAT, _REMEDY)
        try:
            about = parse_json(str(arrays["about"]))
            _ABOUT.form(about, "about")
            found = cls(
                arrays["ids"],
                arrays["labels"],
                arrays["images"].astype(np.float32) / np.float32(255),
                arrays["differences"].astype(np.float32),
                arrays["clean"],
                arrays["attacked"],
                tuple(about.pop("class_names")),
                about,
            )
            found._check()
        except (TypeError, ValueError) as error:
            raise not_whole(path, _WHAT, error, _REMEDY) from error
        return found

    def _check(self) -> None:
        shape = self.images.shape
        if len(shape) != 4 or shape[-1] not in (1, 3) or not all(shape):
            raise InputError(f"its images have shape {shape}")
        if self.differences.shape != shape or not np.isfinite(self.differences).all():
            raise InputError("its differences are not those of its images")
        if self.ids.shape != shape[:1] or self.ids.dtype.kind != "S":
            raise InputError("its ids are not bytes, one for each image")
        if self.clean.ndim != 2 or self.clean.shape[1] < 2:
            raise InputError(f"its predictions have shape {self.clean.shape}")
        for p in (self.clean, self.attacked):
            check_probabilities(p)
            if p.shape != (shape[0], self.clean.shape[1]):
                raise InputError("its predictions are not those of its images")
        check_integers("labels", self.labels, shape[0], self.clean.shape[1])
        if len(self.class_names) not in (0, self.clean.shape[1]):
            raise InputError("its class names are not as many as the classes")


def gallery_path(index: str | Path) -> Path:
    """Return where the gallery of an index lies.

    Example:
        >>> str(gallery_path("runs/vanilla/robustness/cw/test.npz"))
        'runs/vanilla/robustness/cw/gallery.npz'
    """
    return Path(index).with_name("gallery.npz")


def ends_of(index: RobustnessIndex) -> np.ndarray:
    """Return the ids of the least and of the most robust images that were flipped.

    They are `EACH` and `EACH`, ordered by distance and then by id; all if there are
    fewer.
    """
    flipped = np.flatnonzero(index.found & np.isfinite(index.distances))
    ids = index.ids[flipped]
    ids = ids[np.lexsort((ids, index.distances[flipped]))]
    return ids if len(ids) <= 2 * EACH else np.concatenate([ids[:EACH], ids[-EACH:]])


def keep_gallery(
    path: str | Path,
    index: RobustnessIndex,
    model: "Callable[[], keras.Model | None]",
    split: "Split",
) -> None:
    """Make the gallery of an index of test images, unless it is there.

    There is none of inputs that are no images of 1 or 3 channels, and none beside an
    index in a folder of somebody else, which cannot be written to.

    Args:
        path: The file of the index.
        index: The index.
        model: Returns the model that the index is of, or None if it is lost.
        split: The test images.
    """
    info, file, wanted = split.info, gallery_path(path), ends_of(index)
    if not info.has_images or info.image_shape[-1] not in (1, 3) or not len(wanted):
        return
    if _is_there(file, index) or not os.access(file.parent, os.W_OK):
        return
    with only_writer(lock_beside(file)):
        sweep(file.parent, file.name)
        # A process that this one waited for may have made it.
        attacked = None if _is_there(file, index) else model()
        if attacked is not None:
            images, labels = _found(split, wanted)
            names = tuple(info.class_names)
            found = make_gallery(attacked, images, labels, index, class_names=names)
            found.save(file)


def _is_there(file: Path, index: RobustnessIndex) -> bool:
    """Tell whether a file has the gallery of an index."""
    try:
        return Gallery.load(file).is_of(index)
    except InputError:  # absent, damaged or of an earlier form
        return False


def make_gallery(
    model: "keras.Model",
    images: np.ndarray,
    labels: np.ndarray,
    index: RobustnessIndex,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    class_names: tuple[str, ...] = (),
    from_logits: bool | None = None,
) -> Gallery:
    """Attack the images at the ends of an index.

    Args:
        model: The model that the index is of.
        images: `(n, H, W, C)`, those of `ends_of(index)`, in the model's own range.
        labels: `(n,)`, their classes.
        index: The index.
        bounds: The range of the images.
        class_names: `(Z,)`, if they are known.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
    """
    from ar_adals_tf.outputs import probabilities_fn

    images = np.asarray(images, np.float32)
    how = {"bounds": bounds, "from_logits": from_logits}
    attack = prepare(ATTACK, model, like=images, **how)
    attack.limit_batch_size(len(images))
    found = attack(images)
    probabilities = probabilities_fn(model, from_logits)
    low, high = bounds
    return Gallery(
        ends_of(index),
        np.asarray(labels),
        (images - low) / (high - low),
        (found.adversarial - images) / (high - low),
        np.asarray(probabilities(images)),
        np.asarray(probabilities(found.adversarial)),
        tuple(map(str, class_names)),
        _source(index),
    )


def _source(index: RobustnessIndex) -> dict[str, str | None]:
    about: Mapping[str, Any] = index.metadata
    return {name: about.get(name) for name in ("digest", "model_digest")}


def _found(split: "Split", ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of some ids of a split, in the order of the ids."""
    from ar_adals_tf.datasets.splits import example_ids

    known = getattr(split, "part", None)
    if known is not None:
        order = {one: place for place, one in enumerate(example_ids(split))}
        split = known(split.name, np.array([order[one] for one in ids]))
    there: dict[bytes, tuple[np.ndarray, int]] = {}
    wanted = set(ids.tolist())
    for batch in split.batches(256).as_numpy_iterator():
        for one, image, label in zip(*batch, strict=True):
            if bytes(one) in wanted:
                there[bytes(one)] = image, label
        if len(there) == len(wanted):
            break
    images, labels = zip(*(there[one] for one in ids.tolist()), strict=True)
    return np.stack(images), np.array(labels)
