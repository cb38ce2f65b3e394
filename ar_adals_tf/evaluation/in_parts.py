"""Predictions under attacks that take long, made part by part so that work goes on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.auto.autoattack import Prepared
from ar_adals_tf.attacks.bounded import image_seeds
from ar_adals_tf.attacks.device import default_batch_size
from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.evaluation.predictions import (
    Predictions,
    PredictionStore,
    stored_settings,
)
from ar_adals_tf.evaluation.predictor import finite
from ar_adals_tf.files import write_json
from ar_adals_tf.outputs import ensemble_logits_fn

#: Images of a part. Another number gives the same predictions.
PART = 500

_SERVED_BATCH = 128


class PartedAttacks:
    """The attacks of `attacks.auto` on one model, ready for many strengths.

    Finished parts of a set lie in `parts/<set>/` until the set is whole.

    Args:
        models: What is attacked; several are an ensemble.
        served: In their place, a function from images to logits without a gradient.
        split: The clean test set.
        clean: The predictions on it.
        folder: The folder of predictions under attack.
        settings: What decides the predictions, ready for JSON.
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        served: Callable[[np.ndarray], np.ndarray] | None,
        split: Split,
        clean: Predictions,
        folder: str | Path,
        settings: Mapping[str, Any],
    ) -> None:
        self._models, self._served = models, served
        self._split, self._clean = split, clean
        self._folder, self._settings = Path(folder) / "parts", dict(settings)
        self._prepared: dict[str, Prepared] = {}

    def predict(
        self,
        attack: str,
        epsilon: float,
        seed: int,
        batch_size: int | None,
        progress: Callable[[int], Any],
    ) -> Predictions:
        """Return the predictions on the images under an attack.

        Args:
            attack: A key of `BOUNDED_ATTACKS` with `parts`.
            epsilon: The strength over 255.
            seed: The common seed of the images' own.
            batch_size: How many images each replica attacks at once. None: what suits
                the model and the device.
            progress: Called with the number of images that were finished.
        """
        prepared = self._attacks(attack, batch_size)
        place = self._folder / f"{attack}_{epsilon:g}"
        let_grow(place, self._settings)

        def predicted() -> Iterator[Predictions]:
            start = 0
            for ids, images, labels in self._split.batches(PART).as_numpy_iterator():
                rows = slice(start, start + len(ids))
                clean = Predictions(*(column[rows] for column in self._clean))
                store = PredictionStore(place, self._settings, clean)

                def make(
                    _: str, ids: Any = ids, images: Any = images, labels: Any = labels
                ) -> Predictions:
                    seeds = image_seeds(ids, seed).numpy()
                    moved, _wrong = prepared(images, labels, seeds, epsilon / 255)
                    logits = prepared.logits(moved)
                    found = Predictions(ids.astype("S"), labels, logits)
                    return finite(found, self._models) if self._models else found

                yield store.get(f"part_{start:08d}", make)
                start += len(ids)
                progress(len(ids))

        return Predictions.joined(predicted())

    def _attacks(self, attack: str, batch_size: int | None) -> Prepared:
        if attack not in self._prepared:
            entry, models = BOUNDED_ATTACKS[attack], self._models
            if self._served is not None:
                made = Prepared(
                    entry.parts,
                    entry.norm,
                    self._served,
                    batch_size or min(_SERVED_BATCH, max(len(self._split), 1)),
                    num_classes=self._clean.logits.shape[1],
                )
            else:
                size = default_batch_size(models[0]) // len(models)
                strategy: tf.distribute.Strategy = models[0].distribute_strategy
                logits = ensemble_logits_fn(models)
                size = batch_size or max(1, min(size, len(self._split)))
                made = Prepared(entry.parts, entry.norm, logits, size, strategy)
            self._prepared[attack] = made
        return self._prepared[attack]


def let_grow(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Let a store's settings name attacks that did not exist when it was made."""
    there = stored_settings(folder)
    if there is None or there == settings:
        return
    known, now = there.get("attacks"), settings["attacks"]
    if not isinstance(known, dict) or {**there, "attacks": now} != settings:
        return
    if all(now.get(name) == own for name, own in known.items()):
        write_json(Path(folder) / "settings.json", settings)
