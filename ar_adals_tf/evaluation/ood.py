"""Predictions on images of another dataset, of which none belongs to any class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf import calibration, datasets
from ar_adals_tf.calibration.temperature import apply_temperature
from ar_adals_tf.datasets.splits import DatasetInfo, MappedSplit, Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.shift import Predict
from ar_adals_tf.files import read_json, write_json


def evaluate_ood(
    predict: Predict,
    usual: Predictions,
    split: Split,
    names: Sequence[str],
    folder: str | Path,
    *,
    data_dir: str | None = None,
    limit_examples: int | None = None,
    temperature: float | None = None,
    identity: str = "",
    verbose: bool = True,
) -> dict[str, dict[str, Any]]:
    """Predict foreign test images and tell how well their entropy gives them away.

    Only test splits are read. Images of another shape are scaled to the model's,
    grey ones repeated to three channels and coloured ones turned grey.

    Args:
        predict: The model: `predict(split, verbose)` returns `Predictions`.
        usual: Its predictions on its own test set.
        split: Its own test split.
        names: Keys of `ar_adals_tf.datasets.DATASETS`.
        folder: Where the predictions go, a file `<dataset>.npz` each.
        data_dir: Where TFDS keeps its data.
        limit_examples: At most so many foreign images.
        temperature: Of the run's temperature scaling, to measure with it as well.
        identity: What tells this model from others, such as a digest.
        verbose: Whether to show a progress bar.

    Returns:
        By dataset `score`, which is the predictive entropy, `num_examples`,
        `mean_entropy` of the usual and of the foreign images, and what
        `calibration.ood_scores` returns; with a temperature the same again under
        `temperature_scaled`.

    Raises:
        InputError: On the model's own dataset, or one that is not there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in datasets.DATASETS or name == split.dataset:
            others = [other for other in datasets.DATASETS if other != split.dataset]
            raise InputError(
                f"--ood takes datasets other than {split.dataset} itself; received "
                f"{name!r}; choose from {', '.join(others)}"
            )
        path, facts = folder / f"{name}.npz", folder / f"{name}.json"
        settings = {"limit_examples": limit_examples, "model": identity}
        if not (path.exists() and facts.exists() and read_json(facts) == settings):
            foreign = datasets.load(
                name, data_dir=data_dir, limit_examples=limit_examples, splits=("test",)
            )["test"]
            predict(fitted(foreign, split.info), verbose=verbose).save_compactly(path)
            write_json(facts, settings)
        logits = Predictions.load(path).logits
        results[name] = _scores(usual.logits, logits, 1.0)
        if temperature is not None:
            results[name]["temperature_scaled"] = _scores(
                usual.logits, logits, temperature
            )
    return results


def fitted(split: Split, info: DatasetInfo) -> Split:
    """Return a split whose images have the shape of another dataset's."""
    shape = info.image_shape
    if split.info.image_shape == shape:
        return split
    height, width, channels = shape

    def change(ids: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        del ids
        if images.shape[-1] == 3 and channels == 1:
            images = tf.image.rgb_to_grayscale(images)
        elif images.shape[-1] == 1 and channels == 3:
            images = tf.image.grayscale_to_rgb(images)
        images = tf.image.resize(images, (height, width), antialias=True)
        return tf.clip_by_value(images, 0, 1)

    return MappedSplit(split, change, info=replace(split.info, image_shape=shape))


def _scores(
    usual: np.ndarray, foreign: np.ndarray, temperature: float
) -> dict[str, Any]:
    entropy = [
        calibration.predictive_entropy(apply_temperature(logits, temperature))
        for logits in (usual, foreign)
    ]
    return {
        "score": "predictive entropy",
        "num_examples": len(foreign),
        "mean_entropy": {
            name: float(e.mean())
            for name, e in zip(("usual", "foreign"), entropy, strict=True)
        },
        **calibration.ood_scores(*entropy),
    }
