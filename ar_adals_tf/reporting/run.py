"""A finished run, read from its folder. Nothing here needs a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.calibration.temperature import apply_temperature
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.experiment.config import GROUP_SETTINGS
from ar_adals_tf.experiment.saved import saved_settings


@dataclass(frozen=True)
class Run:
    """One finished run."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]  # see `ar_adals_tf.evaluation.results.read_metrics`
    predictions: Predictions  # on the clean test set
    temperature: float | None  # what was fitted to the validation set, if any

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Read a run directory.

        Raises:
            InputError: If the folder holds no finished run, or a damaged one.
        """
        folder = Path(folder)
        for name in ("config.json", "metrics.json", "predictions.npz"):
            if not (folder / name).exists():
                raise InputError(
                    f"{folder} is no finished run (it has no {name}); give the "
                    "--output_dir of a python -m ar_adals_tf.train that has ended"
                )
        return cls(
            folder,
            saved_settings(folder),
            read_metrics(folder),
            Predictions.load(folder / "predictions.npz"),
            saved_temperature(folder),
        )

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.config["dataset"]

    @property
    def num_bins(self) -> int:
        """The number of bins of every ECE."""
        return self.metrics["clean"]["num_bins"]

    @property
    def method(self) -> str:
        """The method's key in reports.

        It is the setting `method`, or tells apart what that setting does not:
        `ar_adals_on_the_fly`, `ensemble_of_<method>`, `<method>+<adversarial method>`.
        """
        method = self.config["method"]
        if method == "ar_adals" and self.config.get("refresh_epochs"):
            method = "ar_adals_on_the_fly"
        size = self.config.get("ensemble_size") or 1
        if size > 1 and method != "ar_adals_of_ensemble":
            method = f"ensemble_of_{method}"
        adversarial = self.config.get("adversarial_training")
        if adversarial not in (None, self.config["method"]):
            method = f"{method}+{adversarial}"
        return method

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that other runs of the group share."""
        return {name: self.config.get(name) for name in GROUP_SETTINGS}

    def probabilities(self, predictions: Predictions, scaled: bool) -> np.ndarray:
        """Return the probabilities of some predictions of this run, `(N, Z)`.

        If `scaled`, their logits are divided by the run's temperature.
        """
        if scaled and self.temperature is not None:
            return apply_temperature(predictions.logits, self.temperature)
        return predictions.probabilities

    def under_shift(self, name: str, severity: int) -> Predictions:
        """Return the stored predictions on one corrupted test set."""
        return self._stored("shift", f"{name}_{severity}")

    def out_of_distribution(self, name: str) -> Predictions:
        """Return the stored predictions on another dataset."""
        return self._stored("ood", name)

    def under_attack(self, attack: str, epsilon: float) -> Predictions:
        """Return the stored predictions under an attack; at strength 0 the clean."""
        if not epsilon:
            return self.predictions
        return self._stored("attacked", f"{attack}_{epsilon:g}")

    def attack_measures(self, scaled: bool = False) -> dict[str, dict[str, Any]]:
        """Return the measures by attack and strength; empty if there are none."""
        found = self.metrics.get("attacks", {})
        found = found.get("temperature_scaled", {}) if scaled else found
        return found.get("by_attack", {})

    def _stored(self, folder: str, name: str) -> Predictions:
        path, clean = self.folder / folder / f"{name}.npz", self.predictions
        found = Predictions.load(path, name)
        try:
            found.check_beside(clean, same_images=folder != "ood")
        except InputError as error:
            raise InputError(
                f"{path} does not belong to the clean predictions: {error}; evaluate "
                "the run again with python -m ar_adals_tf.evaluate"
            ) from error
        return found
