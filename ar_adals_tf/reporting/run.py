"""A finished run or evaluation, read from its folder. Nothing here needs a model."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.calibration.temperature import tempered
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.datasets.own import short_name
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import READY_MADE, Predictions
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.evaluation.subject_file import SUBJECT_FILE, Record, find_record
from ar_adals_tf.experiment.completion import OWN
from ar_adals_tf.experiment.flags import as_text, usual_settings
from ar_adals_tf.experiment.saved import saved_settings
from ar_adals_tf.experiment.settings import GROUP_SETTINGS
from ar_adals_tf.forms.run_files import read_history
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.reporting.known import check_names
from ar_adals_tf.reporting.names import (
    CONTROL,
    PAPERS_ENSEMBLE,
    network_title,
    of_model,
)
from ar_adals_tf.robustness import RobustnessIndex

#: What a recipe does not say: how the ECE is measured, which images validate, which of
#: two kernels computes the same, what the inputs of a file's model are, and how data
#: without a recipe are read.
_LEFT_OPEN = (
    *("num bins", "split seed", "deterministic", "model range"),
    *("image size", "input range", "split names", "data digest"),
)

_SHORT = {"num_levels": "R", "label_smoothing": "eps"}


@dataclass(frozen=True)
class Run:
    """One finished run, or one evaluation of a model or of predictions."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]  # see `ar_adals_tf.evaluation.results.read_metrics`
    predictions: Predictions  # on the clean test set
    temperature: float | None  # what was fitted to the validation set, if any
    record: Record | None = None  # of an evaluation without a run
    elsewhere: Path | None = None  # see `place`

    @classmethod
    def load(cls, folder: str | Path, place: Path | None = None) -> "Run":
        """Read a run directory, or the folder of an evaluation.

        Args:
            folder: The folder.
            place: Where commands say that it lies. Defaults to the folder.

        Raises:
            InputError: If the folder holds no finished one, or a damaged one.
        """
        folder = Path(folder)
        record = None if (folder / "config.json").exists() else find_record(folder)
        needed = SUBJECT_FILE if record else "config.json"
        for name in (needed, "metrics.json", "predictions.npz"):
            if not (folder / name).exists():
                has = f"it has no {name}"
                if not folder.is_dir():
                    there = folder.exists()
                    has = "it is a file, no .zip" if there else "it is not there"
                raise InputError(
                    f"{folder} is no finished run: {has}; give the --output_dir of a "
                    "python -m ar_adals_tf.train or evaluate that has ended"
                )
        metrics = read_metrics(folder)
        check_names(folder, metrics)
        return cls(
            folder,
            settings_of(record) if record else saved_settings(folder),
            metrics,
            Predictions.load(folder / "predictions.npz"),
            saved_temperature(folder),
            record,
            place,
        )

    @property
    def place(self) -> Path:
        """Where commands say that it lies: in its folder, unless it was unpacked."""
        return named_folder(self.elsewhere or self.folder)

    @property
    def dataset(self) -> str:
        """The dataset's name, as files are called by it; see `own.short_name`."""
        return short_name(self.config["dataset"])

    @property
    def num_bins(self) -> int:
        """The number of bins of every ECE."""
        return self.metrics["clean"]["num_bins"]

    @property
    def method(self) -> str:
        """The method's key in reports; see `names.of_model` for an evaluation's.

        It is the setting `method`, or tells apart what that setting does not:
        `ar_adals_by_own` (own levels), `ar_adals_by_random` and other controls,
        `ar_adals_on_the_fly`,
        `ensemble_of_<method>`, `<method>+<adversarial method>`.
        """
        method = self.config["method"]
        if self.record:
            return method
        levels_from = self.config.get("levels_from")
        if levels_from not in (None, "robustness"):
            method += f"{CONTROL}{levels_from}"
        if method == "ar_adals" and self.config.get("refresh_epochs"):
            method = "ar_adals_on_the_fly"
        size = self.config.get("ensemble_size") or 1
        if size > 1 and self.config["method"] != "ar_adals_of_ensemble":
            method = f"ensemble_of_{method}"
        adversarial = self.config.get("adversarial_training")
        if adversarial not in (None, self.config["method"]):
            method = f"{method}+{adversarial}"
        return method

    @property
    def examples(self) -> str:
        """What people call its test examples: images, or examples of any kind."""
        if self.record:
            return self.record.examples
        shape = self.config.get("image_size")  # of own data alone; rows have one side
        return "images" if not shape or "," in shape else "examples"

    @cached_property
    def p_by_epoch(self) -> np.ndarray:
        """The soft labels that each epoch was trained with, `(epochs, R)`.

        It is of length 0 where no history is kept, or where labels do not move. The
        levels of an ensemble's members stand side by side.

        Raises:
            InputError: If the file is damaged.
        """
        method = METHODS.get(self.config["method"])
        if self.record or method is None or not method.adaptive:
            return np.empty((0, 0))
        own = self.folder / "history.csv"
        paths = (
            [own] if own.exists() else sorted(self.folder.glob("member_*/" + own.name))
        )
        histories = [read_history(path) for path in paths]
        columns = [h[name] for h in histories for name in h if name.startswith("p/")]
        return np.array(columns).T

    @property
    def as_given(self) -> bool:
        """Whether the run is a trained model of a file as it is."""
        return bool(self.config.get("finetune")) and not self.config["epochs"]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that other runs of the group share."""
        found = {name: self.config.get(name) for name in GROUP_SETTINGS}
        return found | ({"digest": self.record.digest} if self.record else {})

    @property
    def can_measure_more(self) -> bool:
        """Whether a command measures what is missing: not of predictions alone."""
        return self.record is None or self.record.source == "model"

    def settings_without(self, *names: str) -> str:
        """Return `settings` but for some as a text, equal where they are equal."""
        kept = {k: v for k, v in self.settings.items() if k not in names}
        return json.dumps(kept, sort_keys=True)

    @cached_property
    def off_recipe(self) -> dict[str, str]:
        """The settings in which the run differs from its dataset's recipe, in words.

        What makes a method of its own, such as an ensemble of five, is no difference,
        nor is what the recipe leaves open; see `_LEFT_OPEN`. A dataset that is not
        known has no recipe.
        """
        kind = {n: self.config.get(n) for n in ("levels_from", "adversarial_training")}
        if self.record:
            return {}
        if (self.config.get("ensemble_size") or 1) > 1:
            kind["ensemble_size"] = PAPERS_ENSEMBLE
        if self.config.get("refresh_epochs") and kind["levels_from"] != OWN:
            kind["refresh_epochs"] = "recipe"
        try:
            usual = usual_settings(self.config, **kind)
        except InputError:  # a dataset or a method of another version
            return {}
        there = {k: v for k, v in self.settings.items() if k in self.config}
        attack = ATTACKS.get(str(self.config.get("attack")))
        defaults = dataclasses.asdict(attack()) if attack else {}
        defaults |= usual["attack_settings"]
        recipe = in_words_by_setting(usual | {"attack_settings": defaults})
        return {
            name: words
            for name, words in in_words_by_setting(there).items()
            if name not in _LEFT_OPEN and words != recipe.get(name)
        }

    @property
    def shift_types(self) -> list[str]:
        """The types of corruption that every mean under shift is over.

        They are the paper's if the run was measured on all of these.
        """
        found = self.metrics["shift"]
        return list((found.get("overall", {}).get("paper") or found)["types"])

    def probabilities(self, predictions: Predictions, scaled: bool) -> np.ndarray:
        """Return the probabilities of some predictions of this run, `(N, Z)`.

        If `scaled`, their logits are divided by the run's temperature.
        """
        if scaled and self.temperature is not None:
            return tempered(predictions.logits, self.temperature)
        return predictions.probabilities

    @cached_property
    def measured(self) -> dict[str, list[str]]:
        """The sets of predictions that were measured.

        By folder, `shift`, `ood`, `attacked` and `certified`, their names, such as
        `fog_3`, `cifar100`, `pgd_8` and `sigma_0.25`.
        """
        shift = self.metrics.get("shift", {})
        pairs = [(a, e) for a, own in self.attack_measures().items() for e in own]
        return {
            "shift": [
                f"{name}_{severity}"
                for name in shift.get("types", ())
                for severity in shift.get("severities", ())
            ],
            "ood": list(self.metrics.get("ood", ())),
            "attacked": [f"{attack}_{e}" for attack, e in pairs if float(e)],
            "certified": [
                f"{what}_{float(sigma):g}"
                for sigma, own in self.certified.items()
                for what in ["sigma"] + ["attack"] * ("attack" in own)
            ],
        }

    @cached_property
    def lost(self) -> dict[str, list[str]]:
        """Those of `measured` that are not there any more."""
        return {
            folder: [n for n in names if not self._path(folder, n).exists()]
            for folder, names in self.measured.items()
        }

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

    @property
    def certified(self) -> dict[str, Any]:
        """The measures of the smoothed classifier by sigma; empty if there are none."""
        return self.metrics.get("certified", {}).get("by_sigma", {})

    def votes(self, sigma: float) -> Votes:
        """Return the stored votes of noisy copies.

        Raises:
            InputError: If they are damaged, or of other images than the predictions.
        """
        path = self._path("certified", f"sigma_{sigma:g}")
        found, known = Votes.load(path), self.predictions
        labels = dict(zip(known.ids.tolist(), known.labels.tolist(), strict=True))
        own = [labels.get(name) for name in found.ids.tolist()]
        if own != found.labels.tolist() or found.votes.shape[1] != self.num_classes:
            raise InputError(
                f"{path} does not belong to the clean predictions; remove it and "
                "evaluate the run again with --certify"
            )
        return found

    def smoothed_distances(self, sigma: float) -> RobustnessIndex | None:
        """Return what the attack on the smoothed classifier found, if it is there."""
        path = self._path("certified", f"attack_{sigma:g}")
        there = "attack" in self.certified.get(f"{sigma:g}", {}) and path.exists()
        return RobustnessIndex.load(path) if there else None

    @property
    def num_classes(self) -> int:
        """Z."""
        return self.predictions.logits.shape[1]

    @property
    def class_names(self) -> list[str]:
        """The names of a user's classes, where they were kept; none otherwise."""
        kept = self.record.classes if self.record else self.metrics.get("classes")
        return list(kept or ())

    def _stored(self, folder: str, name: str) -> Predictions:
        path, clean = self._path(folder, name), self.predictions
        own, source = folder != "ood", self.metrics.get("shift", {}).get("source")
        ready_made = folder == "shift" and source in READY_MADE
        found = Predictions.load(path, name, same_dataset=own)
        try:
            found.check_beside(clean, same_dataset=own, ready_made=ready_made)
        except InputError as error:
            raise InputError(
                f"{path} does not belong to the clean predictions: {error}; evaluate "
                "the run again with python -m ar_adals_tf.evaluate"
            ) from error
        return found

    def _path(self, folder: str, name: str) -> Path:
        return self.folder / folder / f"{name}.npz"


def named_folder(folder: Path) -> Path:
    """Return a folder by a path that ends with its name, as `.` and `..` do not."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def settings_of(record: Record) -> dict[str, Any]:
    """Return what stands in for the settings of a run where nothing was trained."""
    return {
        "dataset": record.dataset,
        "method": of_model(record.title),
        "seed": 0,
        "model": record.title,
    }


def in_words_by_setting(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as people read them; those of an attack stand one by one.

    Example:
        >>> in_words_by_setting({"num_levels": 4, "attack_settings": {"steps": 50}})
        {'R': '4', 'attack steps': '50'}
    """
    words = {}
    if digest := settings.get("model_digest"):
        # Two files of one name are two models.
        of = "weights_file" if settings.get("weights_file") else "model"
        named = f"{Path(str(settings.get(of))).name} {digest[:8]}"
        named += " fine-tuned" * bool(settings.get("finetune"))
        settings = {k: v for k, v in settings.items() if k != "finetune"} | {of: named}
    for name, value in settings.items():
        if name == "model_digest":
            continue
        inner = value if isinstance(value, dict) else {}
        prefix = "attack_" if name == "attack_settings" else ""
        for key, own in inner.items():
            words[f"{prefix}{key}".replace("_", " ")] = as_text(own)
        if not isinstance(value, dict):
            plain = _SHORT.get(name, name.replace("_", " "))
            told = network_title(value) if name == "model" else as_text(value)
            words[plain] = "none" if value in (None, []) else told
    return words
