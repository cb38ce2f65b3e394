"""The stages of an evaluation: what is measured of one subject, and kept."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.certified import describe_certified, evaluate_certified
from ar_adals_tf.evaluation.compressed import find_compressed
from ar_adals_tf.evaluation.doubts import misfit, range_flag, seen_validation
from ar_adals_tf.evaluation.footprint import (
    QUANTISATION_IMAGES,
    describe_footprint,
    measure_footprint,
)
from ar_adals_tf.evaluation.gallery import gallery_path, keep_gallery
from ar_adals_tf.evaluation.measures import (
    Measures,
    fit_and_save_temperature,
    measure,
    saved_temperature,
    summary,
)
from ar_adals_tf.evaluation.ood import describe_ood, evaluate_ood
from ar_adals_tf.evaluation.posthoc import (
    HeldOut,
    describe_posthoc,
    evaluate_posthoc,
    stored_shift,
)
from ar_adals_tf.evaluation.predictions import Predict, adopt_store, seen_images
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.results import (
    describe_run,
    digests,
    read_metrics,
    write_metrics,
    write_results,
)
from ar_adals_tf.evaluation.shift import Shifting, describe_shift
from ar_adals_tf.evaluation.subject import Subject, first_images, save_calibrated
from ar_adals_tf.evaluation.subject_file import find_record
from ar_adals_tf.evaluation.under_attack import describe_attacks, evaluate_attacks
from ar_adals_tf.experiment.runs import (
    FoundIndex,
    find_test_index,
    index_path,
    load_model,
    own_test_index,
    saved_config,
)
from ar_adals_tf.files import remove
from ar_adals_tf.indexing import compute_and_save
from ar_adals_tf.robustness import RobustnessIndex

#: What cuts a model's own levels: one look at the gradient of its largest logits.
OWN_ATTACK = "margin"


class Evaluation:
    """A subject and its test images, measured stage by stage.

    Args:
        subject: What is evaluated.
        test: The clean test set.
        given_index: What `--robustness_index` gives, if anything.
        say: Takes each line for people.
    """

    def __init__(
        self,
        subject: Subject,
        test: Split,
        given_index: FoundIndex | None = None,
        say: Callable[[str], Any] = print,
    ) -> None:
        self.subject, self.test = subject, test
        self._index, self._say = given_index, say
        self._suffix = "" if subject.quick is None else f"-first-{subject.quick}"
        self.part = first_images(test, subject.quick)

    def place(self, kind: str) -> Path:
        """Return the folder of a kind of predictions, such as `shift`."""
        return self.subject.folder / f"{kind}{self._suffix}"

    def _store(self, kind: str, split: Split) -> Path:
        """Return the folder of a kind of predictions on a split, or changes of it."""
        place = self.place(kind)
        if self.subject.record is None:
            adopt_store(place, seen_images(split))
        return place

    def measure_clean(self, validation: Split | None = None) -> None:
        """Predict the test set, measure it, and write the results.

        Args:
            validation: What the temperature of a model's file is fitted to.
        """
        subject = self.subject
        self._predict: Predict = subject.served or Predictor(subject.models)
        self.clean = self._predict(self.test)
        # What was compressed here fits its data as well as its run does.
        if subject.record and not find_compressed(subject.folder):
            flag = range_flag(vectors=not self.test.info.has_images)
            found = misfit(self.clean.labels, self.clean.probabilities, flag)
            if found:
                self._say(f"{subject.title} {found}")
        before = self._forget_others(validation)
        metrics: Measures = {}
        if validation is not None:
            temperature, metrics = self._fitted(validation)
            subject = dataclasses.replace(subject, temperature=temperature)
        if subject.record:
            accuracy = {
                "accuracy": self.clean.accuracy,
                "num_examples": len(self.clean.labels),
            }
            self._doubt(before | metrics | {"clean": accuracy})
        if self._index is None:
            self._index = self._find_index()
            self._keep_gallery(self._index)
        self.subject, index = subject, self._index.index
        how = (index, subject.num_levels, subject.temperature)
        metrics |= measure(self.clean, subject.num_bins, *how)
        metrics["digests"] = digests(self.test, subject.models)
        self.metrics = before | metrics
        write_results(subject.folder, self.clean, self.metrics, subject.title)
        self._say("\n".join([describe_run(subject.title, metrics), *self._index.words]))

    def _doubt(self, metrics: Measures) -> None:
        """Warn, before longer work, of validation images that the model knows."""
        if words := seen_validation(self.subject.title, metrics):
            warnings.warn(words, stacklevel=3)

    def _forget_others(self, validation: Split | None) -> Measures:
        """Return what is measured already; remove what is of others, and say so.

        Others are another subject, other test images or other validation images.
        """
        folder, record = self.subject.folder, self.subject.record
        there = (folder / "metrics.json").exists()
        if record is not None:
            fitted_to = "" if validation is None else seen_images(validation)
            record = dataclasses.replace(
                record, images=seen_images(self.test), validation_images=fitted_to
            )
        before = find_record(folder)
        if record is None or before == record:
            return read_metrics(folder) if there else {}
        if before is None:  # a new folder: `results_folder` has refused all others
            record.save(folder)
            return {}
        if there:
            warnings.warn(
                f"{folder} has an evaluation of other things "
                f"({', '.join(before.other_than(record))}); what was measured is "
                "removed",
                stacklevel=3,
            )
        names = ("metrics.json", "temperature.json", "calibrated.keras")
        # The same weights behind another range of inputs have other distances.
        index = index_path(folder, OWN_ATTACK, {}, "test")
        fitted = [*folder.glob("posthoc*/*.json"), *folder.glob("posthoc*/*.keras")]
        of_index = [index, gallery_path(index)]
        for path in [*(folder / name for name in names), *of_index, *fitted]:
            if path.exists():
                remove(path)
        record.save(folder)
        return {}

    def _fitted(self, validation: Split) -> tuple[float, Measures]:
        """Return the temperature, which is fitted unless it was, and its measures."""
        folder, subject = self.subject.folder, self.subject
        known = saved_temperature(folder)
        whole = not subject.models or (folder / "calibrated.keras").exists()
        if known is not None and whole:
            return known, {}
        predictions = self._predict(validation)
        temperature = fit_and_save_temperature(folder, predictions)
        if subject.models:
            save_calibrated(folder, subject.models, temperature)
        own = predictions.labels, predictions.probabilities
        return temperature, {"validation": summary(*own, subject.num_bins)}

    def _find_index(self) -> FoundIndex:
        """Return the index that the levels of the test images are cut from."""
        subject, images = self.subject, self.test.digest()
        if subject.record is None:
            run = subject.path
            return find_test_index(run, saved_config(run), images)
        if not subject.has_gradient:
            words = f"{subject.path} has no gradient, so nothing is measured by level"
            return FoundIndex(None, None, (words,))
        path = index_path(subject.folder, OWN_ATTACK, {}, "test")
        words = f"the levels of the test images come from the model itself, in {path}"
        (model,) = subject.models
        try:
            index = RobustnessIndex.load(path)
            index.verify(model, digest=images)
        except InputError:  # absent, damaged, or of another model
            index = compute_and_save(path, model, self.test, attack=OWN_ATTACK)
        return FoundIndex(index, path, (words,))

    def _keep_gallery(self, found: FoundIndex) -> None:
        """Keep pictures of the test images at the ends of the index that was found."""
        if found.index is None or found.path is None:
            return
        file, own = found.path.parents[2] / "model.keras", self.subject

        def model() -> keras.Model | None:
            if own.record is not None:
                return own.models[0]
            return load_model(file) if file.is_file() else None

        keep_gallery(found.path, found.index, model, self.test)

    def keep(self, kind: str, found: Measures, words: str) -> None:
        """Add measures to `metrics.json`, and say them."""
        self.metrics[f"{kind}{self._suffix}"] = found
        write_metrics(self.subject.folder, self.metrics)
        if words:
            self._say(words)

    def _kept(self, kind: str) -> Measures:
        return self.metrics.get(f"{kind}{self._suffix}", {})

    @property
    def shifting(self) -> Shifting:
        """The subject for `evaluate_shift_together`."""
        return Shifting(
            self._predict,
            self._store("shift", self.part),
            self.subject.num_bins,
            self.subject.temperature,
            self.subject.identity,
            self.clean.first(len(self.part)),
        )

    def keep_shift(self, found: Measures, named: bool = False) -> None:
        """Keep what was measured under shift; `named` says whose it is."""
        words = describe_shift(found)
        self.keep("shift", found, f"{self.subject.title}, {words}" if named else words)

    def fit_posthoc(
        self,
        names: Sequence[str],
        held_out: HeldOut,
        shift_cache_dir: str | Path | None = None,
    ) -> None:
        """Fit calibrations to validation images, and measure them."""
        subject = self.subject
        shifted = stored_shift(
            self._store("shift", self.part),
            self._kept("shift") or None,
            subject.identity,
            self.part,
            shift_cache_dir,
            **subject.where,
        )
        found = evaluate_posthoc(
            names,
            subject.models,
            self._predict,
            held_out,
            self.test,
            self.clean,
            self.place("posthoc"),
            shifted=shifted,
            index=self._level_index,
            num_levels=subject.num_levels,
            num_bins=subject.num_bins,
            identity=subject.identity,
        )
        words = describe_posthoc(subject.title, found)
        self.keep("posthoc", self._kept("posthoc") | found, words)

    @property
    def _level_index(self) -> RobustnessIndex | None:
        return self._index.index if self._index else None

    def measure_ood(self, names: Sequence[str], limit: int | None) -> None:
        """Measure on other datasets."""
        found = evaluate_ood(
            self._predict,
            self.clean,
            self.test,
            names,
            self._store("ood", self.test),
            data_dir=self.subject.where["data_dir"],
            limit_examples=limit,
            temperature=self.subject.temperature,
            identity=self.subject.identity,
        )
        self.keep("ood", self._kept("ood") | found, describe_ood(found))

    def measure_attacks(
        self, attacks: Sequence[str], epsilons: Sequence[float]
    ) -> None:
        """Measure under attack."""
        subject, own_index = self.subject, None
        one_model = len(subject.models) == 1
        if one_model:
            images = self.test.digest()
            own_index = own_test_index(subject.folder, subject.models[0], images)
        if own_index and own_index.metadata.get("attack") == OWN_ATTACK:
            own_index = None  # it estimates the distance and flips no prediction
        found = evaluate_attacks(
            subject.models,
            self.part,
            self.clean.first(len(self.part)),
            self._store("attacked", self.part),
            attacks,
            epsilons,
            index=self._level_index,
            num_levels=subject.num_levels,
            num_bins=subject.num_bins,
            temperature=subject.temperature,
            own_index=own_index,
            identity=subject.identity,
            served=subject.served.logits if subject.served else None,
        )
        self.keep("attacks", found, describe_attacks(found))
        if len(subject.models) > 1:
            self._say("attacked: the averaged probabilities of the ensemble")

    def certify(self, how: Certifying) -> None:
        """Certify test images by randomised smoothing."""
        found = evaluate_certified(
            self.subject.models,
            self.part,
            self.clean.first(len(self.part)),
            self._store("certified", self.part),
            how,
            num_bins=self.subject.num_bins,
            identity=self.subject.identity,
            served=self.subject.served.logits if self.subject.served else None,
        )
        self.keep("certified", found, describe_certified(found))

    def measure_costs(self, splits: Mapping[str, Split]) -> None:
        """Measure time, size and memory."""
        ranging = next(iter(splits["train"].batches(QUANTISATION_IMAGES)))[1].numpy()
        found = measure_footprint(
            self.subject.models,
            self.subject.model_files,
            self.part,
            self.clean.first(len(self.part)),
            ranging,
            self.place("footprint"),
            num_bins=self.subject.num_bins,
            temperature=self.subject.temperature,
        )
        self.keep("footprint", found, describe_footprint(found))
