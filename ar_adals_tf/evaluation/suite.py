"""Everything that is measured of runs, models or predictions: what `evaluate` does."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ar_adals_tf.attacks.table import DEFAULT_EPSILONS
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.corruptions.apply import SEVERITIES
from ar_adals_tf.datasets.own import is_own
from ar_adals_tf.datasets.own_loading import check_test, describe_splits
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.images import (
    load_shared,
    posthoc_images,
    shift_to_make,
    temperature_images,
)
from ar_adals_tf.evaluation.ood import check_data, check_names
from ar_adals_tf.evaluation.predictions import checked_settings
from ar_adals_tf.evaluation.rivals import check_posthoc
from ar_adals_tf.evaluation.shift import evaluate_shift_together
from ar_adals_tf.evaluation.stages import Evaluation
from ar_adals_tf.evaluation.subject import model_subject, run_subject
from ar_adals_tf.evaluation.subject_file import refuse_results_among
from ar_adals_tf.evaluation.under_attack import (
    attacks_in_norm,
    parse_epsilons,
    sets_under_attack,
)
from ar_adals_tf.evaluation.vote_store import sigmas_in
from ar_adals_tf.evaluation.wanted import (
    Wanted,
    check_flags,
    given_arguments,
    parse_severities,
)
from ar_adals_tf.evaluation.without_model import evaluate_predictions
from ar_adals_tf.experiment.runs import RUN_FILES, FoundIndex
from ar_adals_tf.files import sweep
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.robustness import RobustnessIndex


def evaluate(
    run_dir: str | Path | Sequence[str | Path] | None = None,
    *,
    model_file: str | Path | None = None,
    predictions: str | Path | None = None,
    output_dir: str | Path | None = None,
    title: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    validation_examples: int | None = None,
    validation: str | None = None,
    limit_examples: int | None = None,
    image_size: str | None = None,
    input_range: str | None = None,
    split_names: str | None = None,
    num_bins: int | None = None,
    robustness_index: str | Path | None = None,
    model_range: str | None = None,
    shift: bool = False,
    shift_types: Sequence[str] | None = None,
    severities: Sequence[int | str] = SEVERITIES,
    shift_source: str = "auto",
    shift_cache_dir: str | Path | None = None,
    ood: Sequence[str] | None = None,
    attacks: Sequence[str] | None = None,
    epsilons: Sequence[float | str] = DEFAULT_EPSILONS,
    attack_norm: str = "linf",
    footprint: bool = False,
    posthoc: Sequence[str] | None = None,
    certify: bool = False,
    sigma: Sequence[float | str] | None = None,
    certify_samples: int | None = None,
    certify_selection_samples: int | None = None,
    certify_alpha: float | None = None,
    certify_images: int | None = None,
    certify_attack: bool = False,
    say: Callable[[str], Any] = print,
) -> dict[str, Any]:
    """Measure runs again, or any model of images, or predictions.

    `predictions.npz`, `metrics.json` and `figures/` are written into the folder, and
    for what is no run `subject.json`, so that `write_report` takes the folder. A run's
    other measures in `metrics.json` are kept. Predictions on other images are kept in
    the folder's `shift/`, `ood/` and `attacked/`, and what is there is not computed
    again.

    Args:
        run_dir: A run directory, or the folder of a model's evaluation. Its own
            settings say which images. Of several of one dataset each corrupted set is
            made once and predicted by all.
        model_file: A model in place of a run: a `.keras` file, or, for inference
            alone, a SavedModel folder or a `.tflite` file.
        predictions: A file of predictions in place of a model; see `read_given`. What
            needs a model or inputs cannot be measured.
        output_dir: Where the results of `model_file` or `predictions` go.
        title: What a report calls it. Defaults to the file's name.
        dataset: The test images for `model_file`: a key of `datasets.DATASETS`, or a
            user's own data, see `datasets.own`. Defaults to `fashion_mnist_small`. For
            `predictions`, what its test set is called; only on equal names are
            predictions compared.
        data_dir: Where TFDS keeps its data. Defaults to the run's setting.
        split_seed: Seed of the division of `model_file`'s dataset.
        validation_examples: Size of that division's validation set.
        validation: What the temperature of `model_file` is fitted to: `validation`, the
            dataset's own validation images, or an `.npz` file of `images` and `labels`.
            The model must not have been trained on them. Defaults to nothing: it has no
            temperature.
        limit_examples: For `model_file`, how many images of each split to take at
            most. For a run, a quick look at its first test images, which lies apart
            in `shift-first-N/` and so on.
        image_size: How own data are read for `model_file`; see `datasets.own.describe`.
        input_range: The same.
        split_names: The same.
        num_bins: Bins of every ECE. Defaults to the run's number, or 15.
        robustness_index: A file with an index of the test images, to measure by level.
            Defaults to the one in the run's vanilla run, if there is one; for
            `model_file` to its own, by the attack `margin`.
        model_range: The range of inputs that the model of `model_file` expects, such as
            `0,255`, or `data`: the numbers as the data have them. Defaults to `0,1`.
            What is written takes images in [0, 1].
        shift: Whether to measure on corrupted test images, see `evaluate_shift`.
        shift_types: Corruptions. Defaults to the paper's list for the dataset, or to
            all that change its images.
        severities: Severities of the corruptions, 1 to 5.
        shift_source: See `datasets.corrupted.find_source`.
        shift_cache_dir: A folder that keeps the corrupted images that are made, for
            other evaluations on the same images; see `datasets.shift_cache`. Defaults
            to none.
        ood: Datasets that are out-of-distribution, see `evaluate_ood`.
        attacks: Attacks such as `["fgsm", "pgd"]`, see `evaluate_attacks`.
        epsilons: Their strengths over 255, each a norm of [0, 1] pixels.
        attack_norm: The norm of AutoAttack, its parts and the attacks on confidence,
            `linf` or `l2`.
        footprint: Whether to measure costs, see `measure_footprint`.
        posthoc: Calibrations to fit to the validation images and to measure, such as
            `["vector", "margin"]`, also on the corrupted images that were measured; see
            `evaluate_posthoc`.
        certify: Whether to certify by randomised smoothing, see `evaluate_certified`.
        sigma: Standard deviations of the noise on inputs in [0, 1]. Defaults to 0.25.
        certify_samples: Noisy copies of an image whose votes are counted. Defaults to
            1,000.
        certify_selection_samples: Those that choose its class before. Defaults to 100.
        certify_alpha: The chance, at most, that a certificate is wrong. Defaults to
            0.001.
        certify_images: How many test images are certified at most, at equal steps.
            Defaults to 500.
        certify_attack: Whether to attack the smoothed classifier as well.
        say: Takes each line for people.

    Returns:
        The content of `metrics.json`, see `read_metrics`; of several runs a dictionary
        of them by folder.

    Raises:
        InputError: On arguments that do not fit or files that are absent or damaged.
    """
    check_flags(given_arguments(evaluate, locals()))  # before there are other names
    runs = _run_folders(run_dir)
    posthoc = None if posthoc is None else check_posthoc(posthoc)
    attacks = attacks_in_norm(attacks or (), attack_norm)
    certifying = Certifying.make(
        certify,
        sigma=sigma,
        samples=certify_samples,
        selection_samples=certify_selection_samples,
        alpha=certify_alpha,
        images=certify_images,
        attack=certify_attack,
    )
    wanted = Wanted(shift, ood or (), attacks, footprint, posthoc or (), certifying)
    numbers = parse_epsilons(epsilons, attacks) if attacks else []
    strengths = parse_severities(severities)
    if predictions:
        return evaluate_predictions(
            predictions,
            output_dir,
            title=title,
            dataset=dataset,
            num_bins=num_bins,
            say=say,
        )
    if posthoc and model_file and not validation:
        raise InputError(
            "--posthoc is fitted to images that the model was not trained on; give "
            "them as --validation"
        )
    if model_file:
        subjects = [
            model_subject(
                Path(model_file),
                output_dir,
                dataset or "fashion_mnist_small",
                data_dir=data_dir,
                split_seed=split_seed,
                validation_examples=validation_examples,
                limit_examples=limit_examples,
                num_bins=num_bins,
                validation=validation,
                robustness_index=robustness_index,
                model_range=model_range,
                title=title,
                reading={
                    "image_size": image_size,
                    "input_range": input_range,
                    "split_names": split_names,
                },
            )
        ]
    else:
        subjects = [run_subject(r, data_dir, num_bins, limit_examples) for r in runs]
    for subject in subjects:
        refuse_results_among(subject.folder, ood or ())
        if not subject.has_gradient:
            wanted.check_served(subject)
    splits = load_shared(subjects, wanted)
    test = splits["test"]
    if model_file:
        subjects = [subject.with_classes(test) for subject in subjects]
    subjects = [subject.in_units_of(test) for subject in subjects]
    if is_own(test.dataset):
        check_test(splits, subjects[0].limit)
        say("\n".join(describe_splits(splits)))
    found_index = None
    if robustness_index:
        index = RobustnessIndex.load(robustness_index)
        index.verify(digest=test.digest())
        words = f"the levels of the test images come from {robustness_index}"
        found_index = FoundIndex(index, Path(robustness_index), (words,))
    tasks = []
    for subject in subjects:
        subject.check(test)
        tasks.append(Evaluation(subject, test, found_index, say))
    for task in tasks:
        for kind in wanted.folders:
            checked_settings(task.place(kind))
        if ood:
            check_names(ood, test.dataset)
            own_data = task.subject.where["data_dir"]
            check_data(ood, task.place("ood"), own_data, test.info)
        if attacks:
            sets_under_attack(task.place("attacked"))
        if certifying:
            sigmas_in(task.place("certified"))
    fitted_to = [temperature_images(task.subject, splits) for task in tasks]
    held_out = [
        posthoc_images(task.subject, splits, own) if posthoc else None
        for task, own in zip(tasks, fitted_to, strict=True)
    ]
    if shift:
        shifts = shift_to_make(
            tasks[0], shift_types, strengths, shift_source, shift_cache_dir, say
        )
    with ExitStack() as locks:
        for folder in sorted(subject.folder for subject in subjects):
            locks.enter_context(only_writer(folder / LOCK, say))
            sweep(folder, *RUN_FILES, "subject.json")
        for task, own in zip(tasks, fitted_to, strict=True):
            task.measure_clean(own)
        if shift:
            source, types = shifts
            models = [task.shifting for task in tasks]
            found = evaluate_shift_together(
                models, tasks[0].part, types, strengths, source=source
            )
            for task, own_found in zip(tasks, found, strict=True):
                task.keep_shift(own_found, named=len(tasks) > 1)
        for task, held in zip(tasks, held_out, strict=True):
            if held is not None:
                task.fit_posthoc(wanted.posthoc, held, shift_cache_dir)
            if ood:
                task.measure_ood(ood, limit_examples)
            if attacks:
                task.measure_attacks(attacks, numbers)
            if certifying:
                task.certify(certifying)
            if footprint:
                task.measure_costs(splits)
            say(f"written to {task.subject.folder}")
    metrics = {str(task.subject.folder): task.metrics for task in tasks}
    return metrics if len(metrics) > 1 else tasks[0].metrics


def _run_folders(run_dir: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """Return the run directories that are named, each once."""
    if run_dir is None:
        return []
    several = [run_dir] if isinstance(run_dir, (str, Path)) else run_dir
    by_place = {Path(run).resolve(): Path(run) for run in reversed(several)}
    return list(by_place.values())[::-1]
