"""Out-of-distribution images: predictions on the test set of another dataset."""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf import calibration, datasets
from ar_adals_tf.calibration.temperature import tempered
from ar_adals_tf.datasets.own import (
    describe,
    is_own,
    is_path,
    is_there,
    like,
    short_name,
)
from ar_adals_tf.datasets.records import prepare, prepared_builder
from ar_adals_tf.datasets.splits import MappedSplit, Split
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import Measures, nested
from ar_adals_tf.evaluation.predictions import (
    Predict,
    Predictions,
    PredictionStore,
    checked_settings,
    seen_images,
)
from ar_adals_tf.files import remove, write_json
from ar_adals_tf.reading import read_json


def evaluate_ood(
    predict: Predict,
    clean: Predictions,
    split: Split,
    names: Sequence[str],
    folder: str | Path,
    *,
    data_dir: str | None = None,
    limit_examples: int | None = None,
    temperature: float | None = None,
    identity: str = "",
    verbose: bool = True,
) -> dict[str, Measures]:
    """Predict out-of-distribution images and tell how well their entropy betrays them.

    Only test splits are read. Images of another shape are scaled to the model's. Grey
    ones are repeated to three channels, coloured ones turned grey. Predictions are kept
    in the folder, see `PredictionStore`. What lies in a file or a folder is read each
    time, and predicted again if it has changed.

    Args:
        predict: The model: `predict(split, verbose)` returns `Predictions`.
        clean: Its predictions on its own test set: the in-distribution images.
        split: That test set.
        names: Other datasets: keys of `ar_adals_tf.datasets.DATASETS`, or a user's own
            data, which go by their short names; see `datasets.own`.
        folder: Where the predictions go, a file `<dataset>.npz` each.
        data_dir: Where TFDS keeps its data. Defaults to TFDS's own folder.
        limit_examples: How many out-of-distribution images to take at most. Defaults
            to `None`: all.
        temperature: T of the run, to measure with it as well. Defaults to `None`.
        identity: What tells this model from others, such as a digest.
        verbose: Whether to show a progress bar.

    Returns:
        By dataset `score`, which is the predictive entropy, `num_examples`,
        `mean_entropy`, with `in_distribution` and `out_of_distribution`, and what
        `calibration.ood_scores` returns; with a temperature the same again under
        `temperature_scaled`.

    Raises:
        InputError: On the model's own dataset, on one that is not there, or on two of
            one short name.
    """
    check_names(names, split.dataset)
    settings = {"limit_examples": limit_examples, "model": identity}
    # The model's own images set the shape and the range of the others.
    images = {"images": seen_images(split)}
    _take_over(Path(folder), settings, images)
    store = PredictionStore(folder, settings | images, clean, same_dataset=False)

    own = {short_name(name): name for name in names}

    def results(name: str) -> Measures:
        @functools.cache
        def other() -> Split:
            return datasets.load(
                own[name],
                data_dir=data_dir,
                limit_examples=limit_examples,
                like=split.info,
                splits=("test",),
            )["test"]

        def make(_: str) -> Predictions:
            return predict(fitted(other(), split.info), verbose=verbose)

        # What TensorFlow Datasets has goes by its name; files and folders change.
        known = seen_images(other()) if is_path(own[name]) else None
        out_logits = store.get(name, make, known).logits
        return nested(
            temperature, lambda t: _scores(clean.logits, out_logits, t or 1.0)
        )

    return {name: results(name) for name in own}


def check_names(names: Sequence[str], dataset: str) -> None:
    """Refuse names that are not those of other datasets.

    Raises:
        InputError: On an unknown dataset, the model's own, or two of one short name.
    """
    called: dict[str, str] = {}
    for name in names:
        other = called.setdefault(short_name(name), name)
        if other != name:
            raise InputError(
                f"--ood={other},{name}: both are called {short_name(name)}, and so are "
                "their results; give one of them another name, or leave it out"
            )
        same = short_name(name) == short_name(dataset)
        if is_path(name) and not os.path.exists(name):
            raise InputError(
                f"--ood={name}: there is no such file or folder; give one that is there"
            )
        if same or not (name in DATASETS or is_there(name)):
            others = [other for other in DATASETS if other != dataset]
            raise InputError(
                f"--ood takes datasets other than {dataset} itself; received "
                f"{name!r}; choose from {', '.join(others)}, or give a folder, an .npz "
                "file or a name of TensorFlow Datasets"
            )


def check_data(
    names: Sequence[str], folder: Path, data_dir: str | None, info: DatasetInfo
) -> None:
    """Refuse datasets that are not predicted yet and neither there nor to be had.

    Files and folders are looked at in any case, as they are read each time.

    Raises:
        InputError: If TFDS does not have one of them and cannot download it, or if one
            has inputs of another kind than the model's data, of `info`.
    """
    for name in names:
        there = (folder / f"{short_name(name)}.npz").exists()
        if there and not is_path(name):
            continue
        if is_own(name):
            prepare(name, data_dir)
            like(describe(name, data_dir=data_dir), info)
        elif not DATASETS[name].embedded:
            prepared_builder(name, data_dir)


def describe_ood(found: Mapping[str, Measures]) -> str:
    """Return what `evaluate_ood` found, a line for each dataset."""
    return "\n".join(
        f"{name}: AUROC {scores['auroc']:.3f}, AUPR {scores['aupr']:.3f}, FPR at "
        f"95 % recall {scores['fpr_at_95_recall']:.3f} "
        f"({scores['num_examples']} images, by entropy)"
        for name, scores in found.items()
    )


def fitted(split: Split, info: DatasetInfo) -> Split:
    """Return a split whose images have the shape of another dataset's."""
    shape = info.image_shape
    if split.info.image_shape == shape:
        return split
    if len(shape) != 3 or not split.info.has_images:
        raise InputError(
            f"{split.dataset} has inputs of shape {split.info.image_shape}, the model "
            f"takes {shape}; give data of the same kind"
        )
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
    in_logits: np.ndarray, out_logits: np.ndarray, temperature: float
) -> Measures:
    in_entropy, out_entropy = (
        calibration.predictive_entropy(tempered(logits, temperature))
        for logits in (in_logits, out_logits)
    )
    return {
        "score": "predictive entropy",
        "num_examples": len(out_logits),
        "mean_entropy": {
            "in_distribution": float(in_entropy.mean()),
            "out_of_distribution": float(out_entropy.mean()),
        },
        **calibration.ood_scores(in_entropy, out_entropy),
    }


def _take_over(
    folder: Path, settings: Mapping[str, Any], images: Mapping[str, Any]
) -> None:
    """Give a folder of version 0.1.0 one settings.json instead of one for each set.

    Raises:
        InputError: See `checked_settings`.
    """
    if not folder.is_dir() or checked_settings(folder) is not None:
        return
    for path in sorted(folder.glob("*.npz")):
        own = path.with_suffix(".json")
        if not (own.exists() and read_json(own) == settings):
            remove(path)
        remove(own)
    write_json(folder / "settings.json", {**settings, **images})
