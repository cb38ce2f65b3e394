"""What a trained model predicts, and how well its confidence agrees with the truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from scipy import special

from ar_adals_tf import calibration, figures, runs
from ar_adals_tf.datasets import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write, read_json, write_json
from ar_adals_tf.outputs import ensemble_logits_fn
from ar_adals_tf.progress import progress_bar
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.strategies import map_rows
from ar_adals_tf.temperature import apply_temperature, fit_temperature

_BATCH = 500


class Predictions(NamedTuple):
    """What a model predicts on one split.

    Attributes:
        ids: `(N,)` bytes.
        labels: `(N,)` int64, the true classes.
        logits: `(N, Z)` float32, up to a constant an image.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, `(N, Z)` float32."""
        return special.softmax(self.logits, axis=1)

    def first(self, count: int) -> "Predictions":
        """Return the predictions on the first so many images."""
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
        try:
            with np.load(path, allow_pickle=False) as file:
                ids, labels = file["ids"], file["labels"]
                if "logits" in file.files:
                    return cls(ids, labels, file["logits"].astype(np.float32))
                smallest = calibration.SMALLEST_PROBABILITY
                probabilities = np.maximum(file["probabilities"], smallest)
        except Exception as error:  # a wrong byte makes NumPy raise nearly anything
            raise InputError(
                f"the predictions {path} cannot be read ({type(error).__name__}); "
                "evaluate the run again with python -m ar_adals_tf.evaluate"
            ) from error
        return cls(ids, labels, np.log(probabilities))


class Predictor:
    """A model's predictions, or an ensemble's, compiled once for many splits.

    The logits of an ensemble are the logarithm of its averaged probabilities.

    Args:
        model: A built classifier of images in [0, 1], or several of one shape, whose
            probabilities are averaged.
        from_logits: Whether it returns logits; None finds out.

    Example:
        >>> predict = Predictor(model)
        >>> predict(splits["test"]).probabilities     # (N, Z)
    """

    def __init__(
        self,
        model: keras.Model | Sequence[keras.Model],
        from_logits: bool | None = None,
    ) -> None:
        models = [model] if isinstance(model, keras.Model) else list(model)
        self._shape = tuple(models[0].input_shape[1:])
        self._function = map_rows(
            models[0].distribute_strategy, ensemble_logits_fn(models, from_logits)
        )

    def __call__(self, split: Split, verbose: bool = True) -> Predictions:
        """Predict a split, in its order.

        Raises:
            InputError: If its images are not of the model's shape.
        """
        if self._shape != split.info.image_shape:
            raise InputError(
                f"the model takes images of shape {self._shape}, {split.dataset} has "
                f"{split.info.image_shape}; choose the model's own --dataset"
            )
        columns: tuple[list[np.ndarray], ...] = ([], [], [])
        title = f"predicting {split.dataset} {split.name}"
        with progress_bar(len(split), title, show=verbose) as bar:
            for ids, images, labels in split.batches(_BATCH).as_numpy_iterator():
                batch = (ids, labels, self._function(images))
                for column, part in zip(columns, batch, strict=True):
                    column.append(part)
                bar.update(len(ids))
        ids, labels, logits = (np.concatenate(column) for column in columns)
        return Predictions(ids.astype("S"), labels, logits)


def run_predictor(run_dir: str | Path) -> Predictor:
    """Return the predictor of a run, a single model or an ensemble.

    Raises:
        InputError: If it is no run, or a model is missing or damaged.

    Example:
        >>> predict = run_predictor("runs/cifar10-vanilla-ensemble5-0")
        >>> predict(splits["test"]).probabilities     # the members' mean
    """
    return Predictor(runs.load_models(run_dir))


def scaled(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions with their logits divided by a temperature.

    Example:
        >>> scaled(predictions, saved_temperature("runs/cifar10-vanilla-0"))
    """
    return predictions._replace(
        logits=(predictions.logits / temperature).astype(np.float32)
    )


def fit_and_save_temperature(folder: str | Path, validation: Predictions) -> float:
    """Fit the temperature on validation predictions and keep it in the run.

    Returns:
        T, also in `temperature.json` beside the validation NLL before and after.
    """
    labels, logits = validation.labels, validation.logits
    value = fit_temperature(labels, logits)
    before, after = (
        calibration.negative_log_likelihood(labels, apply_temperature(logits, t))
        for t in (1.0, value)
    )
    content = {
        "temperature": value,
        "validation_examples": len(labels),
        "nll_before": float(before),
        "nll_after": float(after),
    }
    write_json(Path(folder) / "temperature.json", content)
    return value


def saved_temperature(run_dir: str | Path) -> float | None:
    """Return a run's temperature; None if there were no validation images to fit it."""
    path = Path(run_dir) / "temperature.json"
    return read_json(path)["temperature"] if path.exists() else None


def _save_npz(path: str | Path, **arrays: Any) -> None:
    with atomic_write(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, **arrays)


def measure(
    predictions: Predictions,
    num_bins: int,
    index: RobustnessIndex | None = None,
    num_levels: int = 10,
    temperature: float | None = None,
) -> dict[str, Any]:
    """Return the measures of clean predictions, ready for JSON.

    Args:
        predictions: On the test set.
        num_bins: Of every ECE.
        index: Robustness index of the test set, for the measures by level.
        num_levels: R; fewer if there are fewer images.
        temperature: T of the run, for the same measures with it.

    Returns:
        `clean`, see `calibration.summary`, `more`, see `calibration.more_measures`,
        and with an index `by_level` with `accuracy`, `confidence`, `ece` and `counts`,
        level 0 first. With a temperature also `temperature_scaled`, which has
        `temperature` besides, `temperature_scaled_more` and
        `temperature_scaled_by_level`.
    """
    if temperature is not None:
        unscaled = measure(predictions, num_bins, index, num_levels)
        other = measure(scaled(predictions, temperature), num_bins, index, num_levels)
        clean = other.pop("clean") | {"temperature": temperature}
        renamed = {f"temperature_scaled_{name}": found for name, found in other.items()}
        return unscaled | {"temperature_scaled": clean} | renamed
    labels, probabilities = predictions.labels, predictions.probabilities
    metrics: dict[str, Any] = {
        "clean": calibration.summary(labels, probabilities, num_bins),
        "more": calibration.more_measures(labels, probabilities, num_bins),
    }
    if index is not None:
        num_levels = min(num_levels, len(index))
        levels = levels_of(predictions.ids, index, num_levels)
        by_level = calibration.by_level(
            labels, probabilities, levels, num_levels, num_bins
        )
        metrics["by_level"] = {
            name: [None if np.isnan(v) else float(v) for v in values]
            for name, values in by_level._asdict().items()
        }
        metrics["by_level"]["num_levels"] = num_levels
    return metrics


def levels_of(ids: np.ndarray, index: RobustnessIndex, num_levels: int) -> np.ndarray:
    """Return the robustness level of each id, `(N,)` int64.

    Raises:
        InputError: If the index lacks an id.
    """
    missing = index.missing(ids)
    if len(missing):
        raise InputError(
            f"{len(missing)} of {len(ids)} images are not in the robustness index, the "
            f"first is {missing[0]!r}; compute the index of this very split"
        )
    order = np.argsort(index.ids)
    positions = order[np.searchsorted(index.ids, ids, sorter=order)]
    return index.levels(num_levels)[positions]


def write_results(
    folder: str | Path,
    predictions: Predictions,
    metrics: dict[str, Any],
    title: str,
    p_by_epoch: np.ndarray | None = None,
    refresh_epochs: Sequence[int] = (),
) -> None:
    """Write predictions, pictures and, last of all, `metrics.json` into a folder.

    Args:
        folder: The run directory.
        predictions: On the test set.
        metrics: From `measure`.
        title: What the pictures are titled.
        p_by_epoch: `(epochs, R)`, the soft labels of the correct class, if they moved.
        refresh_epochs: When the levels were cut anew.
    """
    folder = Path(folder)
    predictions.save(folder / "predictions.npz")
    pictures = folder / "figures"
    pictures.mkdir(exist_ok=True)
    labels, probabilities = predictions.labels, predictions.probabilities
    bins = calibration.reliability_bins(
        labels, probabilities, metrics["clean"]["num_bins"]
    )
    figures.save(figures.reliability_diagram(bins, title), pictures / "reliability.png")
    if "by_level" in metrics:
        measures = level_measures(metrics)
        figures.save(
            figures.levels({title: measures}, ece=True), pictures / "levels.png"
        )
    if p_by_epoch is not None and len(p_by_epoch) > 1:
        figures.save(
            figures.soft_labels(p_by_epoch, refresh_epochs, title),
            pictures / "soft_labels.png",
        )
    write_json(folder / "metrics.json", metrics)


def level_measures(metrics: dict[str, Any]) -> calibration.LevelMeasures:
    """Return `metrics["by_level"]` as arrays again."""
    return calibration.LevelMeasures(
        *(
            np.array([np.nan if v is None else v for v in metrics["by_level"][name]])
            for name in calibration.LevelMeasures._fields
        )
    )
