"""Everything that is measured of a run or of a model: what `evaluate` does."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ar_adals_tf import datasets
from ar_adals_tf.corruptions.apply import SEVERITIES
from ar_adals_tf.datasets.corrupted import find_source
from ar_adals_tf.datasets.own import is_own
from ar_adals_tf.datasets.own_loading import describe_splits
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.footprint import (
    QUANTISATION_IMAGES,
    describe_footprint,
    measure_footprint,
)
from ar_adals_tf.evaluation.measures import Measures, measure
from ar_adals_tf.evaluation.ood import (
    check_data,
    check_names,
    describe_ood,
    evaluate_ood,
)
from ar_adals_tf.evaluation.posthoc import (
    describe_posthoc,
    evaluate_posthoc,
    held_out_images,
    stored_shift,
)
from ar_adals_tf.evaluation.predictions import Predictions, stored_settings
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.results import (
    describe_run,
    digests,
    read_metrics,
    write_metrics,
    write_results,
)
from ar_adals_tf.evaluation.rivals import check_posthoc
from ar_adals_tf.evaluation.shift import (
    check_available,
    describe_shift,
    evaluate_shift,
    types_of,
)
from ar_adals_tf.evaluation.subject import (
    Subject,
    check_model,
    first_images,
    model_subject,
    run_subject,
)
from ar_adals_tf.evaluation.under_attack import (
    DEFAULT_EPSILONS,
    describe_attacks,
    evaluate_attacks,
    parse_epsilons,
    sets_under_attack,
)
from ar_adals_tf.experiment.runs import (
    RUN_FILES,
    FoundIndex,
    digest_run,
    find_test_index,
    own_test_index,
    saved_config,
)
from ar_adals_tf.files import sweep
from ar_adals_tf.locks import LOCK, only_writer
from ar_adals_tf.robustness import RobustnessIndex


def evaluate(
    run_dir: str | Path | None = None,
    *,
    model_file: str | Path | None = None,
    output_dir: str | Path | None = None,
    dataset: str = "fashion_mnist_small",
    data_dir: str | None = None,
    split_seed: int = 0,
    validation_examples: int | None = None,
    limit_examples: int | None = None,
    image_size: str | None = None,
    input_range: str | None = None,
    split_names: str | None = None,
    num_bins: int | None = None,
    robustness_index: str | Path | None = None,
    shift: bool = False,
    shift_types: Sequence[str] | None = None,
    severities: Sequence[int | str] = SEVERITIES,
    shift_source: str = "auto",
    ood: Sequence[str] | None = None,
    attacks: Sequence[str] | None = None,
    epsilons: Sequence[float | str] = DEFAULT_EPSILONS,
    footprint: bool = False,
    posthoc: Sequence[str] | None = None,
    say: Callable[[str], Any] = print,
) -> dict[str, Any]:
    """Measure a run again, or any Keras model of images in [0, 1].

    `predictions.npz`, `metrics.json` and `figures/` are written into the folder. A
    run's other measures in `metrics.json` are kept. Predictions on other images are
    kept in the folder's `shift/`, `ood/` and `attacked/`, and what is there is not
    computed again.

    Args:
        run_dir: A run directory. Its own settings say which images.
        model_file: A `.keras` file in place of a run.
        output_dir: Where the results of `model_file` go.
        dataset: The test images for `model_file`: a key of `datasets.DATASETS`, or a
            user's own data, see `datasets.own`.
        data_dir: Where TFDS keeps its data. Defaults to the run's setting.
        split_seed: Seed of the division of `model_file`'s dataset.
        validation_examples: Size of that division's validation set.
        limit_examples: For `model_file`, how many images of each split to take at
            most. For a run, a quick look at its first test images, which lies apart
            in `shift-first-N/` and so on.
        image_size: How own data are read for `model_file`; see `datasets.own.describe`.
        input_range: The same.
        split_names: The same.
        num_bins: Bins of every ECE. Defaults to the run's number, or 15.
        robustness_index: A file with an index of the test images, to measure by level.
            Defaults to the one in the run's vanilla run, if there is one.
        shift: Whether to measure on corrupted test images, see `evaluate_shift`.
        shift_types: Corruptions. Defaults to the paper's list for the dataset, or to
            all that change its images.
        severities: Severities of the corruptions, 1 to 5.
        shift_source: See `datasets.corrupted.find_source`.
        ood: Datasets that are out-of-distribution, see `evaluate_ood`.
        attacks: Attacks such as `["fgsm", "pgd"]`, see `evaluate_attacks`.
        epsilons: Their strengths over 255.
        footprint: Whether to measure costs, see `measure_footprint`.
        posthoc: Calibrations to fit to the run's validation images and to measure,
            such as `["vector", "margin"]`, also on the corrupted images that were
            measured; see `evaluate_posthoc`.
        say: Takes each line for people.

    Returns:
        The content of `metrics.json`, see `read_metrics`.

    Raises:
        InputError: On arguments that do not fit or files that are absent or damaged.
    """
    if bool(run_dir) == bool(model_file):
        raise InputError(
            "evaluate needs either --run_dir=RUN or --model_file=FILE.keras; received "
            + ("both" if run_dir else "neither")
        )
    if posthoc is not None:
        posthoc = check_posthoc(posthoc)
        if not run_dir:
            raise InputError(
                "--posthoc is fitted to the validation images of a run, so it does not "
                "work with --model_file; give --run_dir"
            )
    numbers = parse_epsilons(epsilons, attacks) if attacks else []
    strengths = _parse_severities(severities)
    if run_dir:
        subject = run_subject(Path(run_dir), data_dir, num_bins, limit_examples)
    else:
        where = {"data_dir": data_dir, "split_seed": split_seed}
        subject = model_subject(
            Path(str(model_file)),
            output_dir,
            dataset,
            where | {"validation_examples": validation_examples},
            limit_examples,
            num_bins,
            {
                "image_size": image_size,
                "input_range": input_range,
                "split_names": split_names,
            },
        )
    splits = datasets.load(
        subject.dataset,
        **subject.where,
        **subject.reading,
        limit_examples=subject.limit,
        splits=(*["train"] * footprint, *["validation"] * bool(posthoc), "test"),
    )
    test = splits["test"]
    if is_own(subject.dataset):
        say("\n".join(describe_splits(splits)))
    if robustness_index:
        index = RobustnessIndex.load(robustness_index)
        index.verify(digest=test.digest())
        words = f"the levels of the test images come from {robustness_index}"
        found_index = FoundIndex(index, Path(robustness_index), (words,))
    elif run_dir:
        found_index = find_test_index(run_dir, saved_config(run_dir), test.digest())
    else:
        found_index = FoundIndex(None, None, ())
    subject = dataclasses.replace(subject, index=found_index.index)
    check_model(subject, test)
    suffix = "" if subject.quick is None else f"-first-{subject.quick}"
    if ood:
        check_names(ood, test.dataset)
        check_data(
            ood, subject.folder / f"ood{suffix}", subject.where["data_dir"], test.info
        )
    if posthoc:
        held_out = held_out_images(str(run_dir), splits["validation"])
    if shift or attacks or footprint or posthoc:
        part = first_images(test, subject.quick)
    if shift:
        types = shift_types or types_of(test.dataset, test.info)
        source = find_source(part, shift_source, types, strengths, **subject.where)
        if not shift_types:  # what is asked for by name is made or refused
            for name in source.lacks:
                say(f"{name} is left out: {source.lacks[name]}")
            types = [name for name in types if name not in source.lacks]
        check_available(types, source)
        if source.note:
            say(source.note)

    def place(kind: str) -> Path:
        return subject.folder / f"{kind}{suffix}"

    for kind, wanted in {"shift": shift, "ood": ood, "attacked": attacks}.items():
        if wanted:
            stored_settings(place(kind))
    if attacks:
        sets_under_attack(place("attacked"))

    with only_writer(subject.folder / LOCK, say):
        sweep(subject.folder, *RUN_FILES)
        predict = Predictor(subject.models)
        clean = predict(test)
        metrics = _measure_clean(subject, test, clean)
        say("\n".join([describe_run(subject.title, metrics), *found_index.words]))
        identity = digest_run(subject.path)

        def keep(kind: str, found: Measures, words: str) -> None:
            metrics[f"{kind}{suffix}"] = found
            write_metrics(subject.folder, metrics)
            if words:
                say(words)

        if shift:
            found = evaluate_shift(
                predict,
                part,
                place("shift"),
                types,
                strengths,
                source=source,
                num_bins=subject.num_bins,
                temperature=subject.temperature,
                identity=identity,
                clean=clean.first(len(part)),
            )
            keep("shift", found, describe_shift(found))
        if posthoc:
            shifted = stored_shift(
                place("shift"),
                metrics.get(f"shift{suffix}"),
                identity,
                part,
                **subject.where,
            )
            found = evaluate_posthoc(
                posthoc,
                subject.models,
                predict,
                held_out,
                test,
                clean,
                place("posthoc"),
                shifted=shifted,
                index=subject.index,
                num_levels=subject.num_levels,
                num_bins=subject.num_bins,
                identity=identity,
            )
            before = metrics.get(f"posthoc{suffix}", {})
            keep("posthoc", before | found, describe_posthoc(subject.title, found))
        if ood:
            found = evaluate_ood(
                predict,
                clean,
                test,
                ood,
                place("ood"),
                data_dir=subject.where["data_dir"],
                limit_examples=limit_examples,
                temperature=subject.temperature,
                identity=identity,
            )
            before = metrics.get(f"ood{suffix}", {})
            keep("ood", before | found, describe_ood(found))
        if attacks:
            one_model = len(subject.models) == 1
            found = evaluate_attacks(
                subject.models,
                part,
                clean.first(len(part)),
                place("attacked"),
                attacks,
                numbers,
                index=subject.index,
                num_levels=subject.num_levels,
                num_bins=subject.num_bins,
                temperature=subject.temperature,
                own_index=own_test_index(
                    subject.folder, subject.models[0], test.digest()
                )
                if one_model
                else None,
                identity=identity,
            )
            keep("attacks", found, describe_attacks(found))
            if not one_model:
                say("attacked: the averaged probabilities of the ensemble")
        if footprint:
            found = measure_footprint(
                subject.models,
                subject.model_files,
                part,
                clean.first(len(part)),
                next(iter(splits["train"].batches(QUANTISATION_IMAGES)))[1].numpy(),
                place("footprint"),
                num_bins=subject.num_bins,
                temperature=subject.temperature,
            )
            keep("footprint", found, describe_footprint(found))
        say(f"written to {subject.folder}")
        return metrics


def _parse_severities(values: Sequence[int | str]) -> list[int]:
    try:
        found = list(dict.fromkeys(int(value) for value in values))
    except ValueError:
        found = []
    if not found or not set(found) <= set(SEVERITIES):
        raise InputError(
            "--severities must be among 1, 2, 3, 4 and 5; received "
            f"{','.join(map(str, values)) or 'none'}; such as --severities=1,3,5"
        )
    return found


def _measure_clean(subject: Subject, test: Split, clean: Predictions) -> Measures:
    """Measure, write, and return all that `metrics.json` has then."""
    folder, how = subject.folder, (subject.index, subject.num_levels)
    metrics = measure(clean, subject.num_bins, *how, subject.temperature)
    metrics["digests"] = digests(test, subject.models)
    if subject.path == folder and (folder / "metrics.json").exists():
        metrics = read_metrics(folder) | metrics
    write_results(folder, clean, metrics, subject.title)
    return metrics
