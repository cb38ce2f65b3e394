"""The checks of the images and labels that are to be attacked."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.attacks.box import UNIT, Bounds, Box, DataBounds, checked_bounds
from ar_adals_tf.errors import InputError

if TYPE_CHECKING:
    import keras


def checked_images(
    images: Any,
    shape: tuple[int, ...],
    bounds: Bounds = UNIT,
    free: np.ndarray | None = None,
    at: str | None = None,
) -> np.ndarray:
    """Return floats within bounds as float32 `(N, *shape)`, or raise an `InputError`.

    Whole numbers are taken where bounds other than [0, 1] say what they mean. Features
    that are not `free`, `(D,)` bool, may lie anywhere. `at` names the layer whose
    output the floats are, if they are no inputs.
    """
    images = np.asarray(images)
    if images.dtype.kind not in ("f" if Box.unit(bounds) else "fiu"):
        raise InputError(
            f"images must be floats in [0, 1]; received {images.dtype}; divide 8-bit "
            "images by 255 first"
        )
    if images.shape == shape:
        raise InputError(
            f"the model takes images of shape {shape}; received an array of shape "
            f"{images.shape}, a single one; give it a first axis: images[None]"
        )
    if images.shape[1:] != shape or images.ndim == 0:
        raise InputError(
            f"the model takes images of shape {shape}; received an array of shape "
            f"{images.shape}; pass one of shape {('N', *shape)}"
        )
    if not len(images):
        raise InputError(
            "there is no image to attack; received an empty array; pass at least one"
        )
    images = np.ascontiguousarray(images, np.float32)
    if broken := not_finite(images):
        raise InputError(f"inputs must be finite; {broken}")
    if bounds is None or isinstance(bounds, DataBounds):
        return images
    least, most = checked_bounds(bounds, shape)
    within = (images >= least) & (images <= most)
    if free is not None:
        within |= ~free.reshape(shape)
    if not within.all():
        low, high = float(images.min()), float(images.max())
        span = f"[{np.min(least):g}, {np.max(most):g}]"
        cure = (
            "rescale them and put any normalisation into the model as a layer, or, in "
            "Python, give bounds=(low, high), the range of the model's own inputs"
        )
        what = "images"
        if at is not None:
            what = f"with these bounds the output of layer {at!r}"
            cure = "leave bounds out, which is none for a layer's output, or widen them"
        raise InputError(
            f"{what} must lie in {span}; received values from {low:g} to {high:g}; "
            f"{cure}"
        )
    return images


def check_input_type(model: "keras.Model") -> None:
    """Refuse a model of whole numbers, to which images in [0, 1] would be 0 or 1."""
    import keras

    kind = getattr(getattr(model, "input", None), "dtype", "float32")
    if not keras.backend.is_float_dtype(kind):
        raise InputError(
            f"model {model.name!r} takes inputs of type {kind}; images are floats in "
            "[0, 1]; give the model an Input of floats, and change their type inside"
        )


def not_finite(images: np.ndarray) -> str:
    """Say how many images are not finite and where; nothing if all are.

    Example:
        >>> not_finite(np.array([[0.0, 1.0], [np.nan, 1.0]])).partition(",")[0]
        '1 of 2 images have NaN or infinity'
    """
    finite = np.isfinite(images.reshape(len(images), -1)).all(axis=1)
    bad = np.flatnonzero(~finite)
    if not len(bad):
        return ""
    return (
        f"{len(bad)} of {len(images)} images have NaN or infinity, the first of them "
        f"lies at position {bad[0]}; mend them or leave them out"
    )


def checked_labels(labels: Any, count: int, num_classes: int) -> np.ndarray:
    """Return `count` classes below `num_classes` as int32, or raise an `InputError`."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels must be {count} integers, one for each image; received "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"labels must lie in 0 to {num_classes - 1}, the model's classes; received "
            f"{labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32)
