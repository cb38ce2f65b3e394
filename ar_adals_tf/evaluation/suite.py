"""Everything that is measured of a run or of a model: what `evaluate` does."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from ar_adals_tf import datasets
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.corruptions.apply import SEVERITIES
from ar_adals_tf.datasets.corrupted import ShiftSource, find_source, types_of
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.footprint import (
    QUANTISATION_IMAGES,
    describe_footprint,
    measure_footprint,
)
from ar_adals_tf.evaluation.measures import Measures, measure, saved_temperature
from ar_adals_tf.evaluation.ood import check_names, describe_ood, evaluate_ood
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.results import (
    describe_run,
    read_metrics,
    write_metrics,
    write_results,
)
from ar_adals_tf.evaluation.shift import describe_shift, evaluate_shift
from ar_adals_tf.evaluation.under_attack import (
    DEFAULT_EPSILONS,
    describe_attacks,
    evaluate_attacks,
    parse_epsilons,
)
from ar_adals_tf.experiment.runs import (
    digest_run,
    find_test_index,
    load_model,
    load_models,
    member_folders,
    own_test_index,
    saved_config,
)
from ar_adals_tf.files import writable_folder
from ar_adals_tf.outputs import num_classes
from ar_adals_tf.robustness import RobustnessIndex


@dataclasses.dataclass(frozen=True)
class Data:
    """Where images come from; see `ar_adals_tf.datasets.load`."""

    dataset: str
    data_dir: str | None = None
    split_seed: int = 0
    validation_examples: int | None = None
    limit_examples: int | None = None

    def load(self, name: str) -> Split:
        """Read one split."""
        settings = dataclasses.asdict(self)
        return datasets.load(settings.pop("dataset"), **settings, splits=(name,))[name]


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated: a run, or the model of a file.

    Attributes:
        title: What people call it.
        path: The run directory or the model file.
        folder: Where the results go.
        models: One, or the members of an ensemble.
        model_files: Their `.keras` files.
        data: Where its images come from.
        test: Its test images.
        num_bins: Bins of every ECE.
        num_levels: R, of the measures by level.
        temperature: T, if there is one.
        index: Robustness index that the test images' levels are cut from, if any.
        quick: How many test images a quick look takes; None for no quick look.
    """

    title: str
    path: Path
    folder: Path
    models: list[keras.Model]
    model_files: list[Path]
    data: Data
    test: Split
    num_bins: int
    num_levels: int = 10
    temperature: float | None = None
    index: RobustnessIndex | None = None
    quick: int | None = None

    def name(self, kind: str) -> str:
        """Return what results are called; those of a quick look lie apart."""
        return kind if self.quick is None else f"{kind}-first-{self.quick}"

    def part(self) -> Split:
        """Return the images that are changed and measured: all, or the first ones.

        Raises:
            InputError: On a quick look at streamed images.
        """
        split, count = self.test, self.quick
        if count is None:
            return split
        if not isinstance(split, ArraySplit):
            raise InputError(
                "--limit_examples with --run_dir does not work on streamed images; "
                "train with --limit_examples instead"
            )
        arrays = (split.ids[:count], split.images[:count], split.labels[:count])
        return ArraySplit(split.dataset, split.name, split.info, *arrays)


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
        dataset: The test images for `model_file`, a key of `datasets.DATASETS`.
        data_dir: Where TFDS keeps its data. Defaults to the run's setting.
        split_seed: Seed of the division of `model_file`'s dataset.
        validation_examples: Size of that division's validation set.
        limit_examples: For `model_file`, how many images of each split to take at
            most. For a run, a quick look at its first test images, which lies apart
            in `shift-first-N/` and so on.
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
        say: Takes each line for people.

    Returns:
        The content of `metrics.json`, see `read_metrics`.

    Raises:
        InputError: On arguments that do not fit or files that are absent or damaged.

    Example:
        ```python
        metrics = evaluate("runs/cifar10-ar_adals-0", shift=True, ood=["cifar100"])
        metrics["shift"]["mean"]["5"]["ece"]
        ```
    """
    if bool(run_dir) == bool(model_file):
        raise InputError(
            "evaluate needs either --run_dir=RUN or --model_file=FILE.keras; received "
            + ("both" if run_dir else "neither")
        )
    if attacks:
        epsilons = parse_epsilons(epsilons, attacks)
    if run_dir:
        subject = _run_subject(Path(run_dir), data_dir, num_bins, limit_examples)
    else:
        division = (split_seed, validation_examples, limit_examples)
        data = Data(dataset, data_dir, *division)
        subject = _model_subject(Path(str(model_file)), output_dir, data, num_bins)
    if robustness_index:
        index = RobustnessIndex.load(robustness_index)
        index.verify(digest=subject.test.digest())
        subject = dataclasses.replace(subject, index=index)
    _check_classes(subject)
    if ood:
        check_names(ood, subject.test.dataset)
    if attacks or footprint:
        subject.part()  # refuses what it cannot cut, before the long work
    if shift:
        types = shift_types or types_of(subject.test.dataset)
        strengths = _parse_severities(severities)
        source = _shift_source(subject, shift_source, types, strengths)

    predict = Predictor(subject.models)
    clean = predict(subject.test)
    metrics = _measure_clean(subject, clean)
    say(describe_run(subject.title, metrics))

    def keep(kind: str, found: Measures, words: str) -> None:
        metrics[subject.name(kind)] = found
        write_metrics(subject.folder, metrics)
        if words:
            say(words)

    if shift:
        found = _on_shift(subject, predict, source, types, strengths)
        keep("shift", found, describe_shift(found))
    if ood:
        found = _on_ood(subject, predict, clean, ood, limit_examples)
        before = metrics.get(subject.name("ood"), {})
        keep("ood", before | found, describe_ood(found))
    if attacks:
        found = _under_attack(subject, clean, attacks, [*map(float, epsilons)])
        keep("attacks", found, describe_attacks(found))
        if len(subject.models) > 1:
            say("attacked: the averaged probabilities of the ensemble")
    if footprint:
        found = _footprint(subject, clean)
        keep("footprint", found, describe_footprint(found))
    say(f"written to {subject.folder}")
    return metrics


def _run_subject(
    run: Path, data_dir: str | None, num_bins: int | None, quick: int | None
) -> Subject:
    config = saved_config(run)
    data = Data(
        config.dataset,
        data_dir or config.data_dir,
        config.split_seed,
        config.validation_examples,
        config.limit_examples,
    )
    return Subject(
        title=config.title,
        path=run,
        folder=run,
        test=data.load("test"),
        models=load_models(run),
        model_files=[one / "model.keras" for one in member_folders(config, run)],
        data=data,
        num_bins=num_bins or config.num_bins,
        num_levels=config.num_levels or 10,
        temperature=saved_temperature(run),
        index=find_test_index(config),
        quick=quick,
    )


def _model_subject(
    file: Path, output_dir: str | Path | None, data: Data, num_bins: int | None
) -> Subject:
    if not output_dir:
        raise InputError("--model_file needs --output_dir, a folder for the results")
    return Subject(
        title=file.stem,
        path=file,
        folder=writable_folder(output_dir, "--output_dir"),
        test=data.load("test"),
        models=[load_model(file)],
        model_files=[file],
        data=data,
        num_bins=num_bins or DEFAULT_NUM_BINS,
    )


def _check_classes(subject: Subject) -> None:
    here, there = num_classes(subject.models[0]), subject.test.info.num_classes
    if here != there:
        raise InputError(
            f"{subject.path} tells {here} classes apart, {subject.test.dataset} has "
            f"{there}; choose the model's own --dataset"
        )


def _measure_clean(subject: Subject, clean: Predictions) -> Measures:
    """Measure, write, and return all that `metrics.json` has then."""
    folder, how = subject.folder, (subject.index, subject.num_levels)
    metrics = measure(clean, subject.num_bins, *how, subject.temperature)
    if subject.path == folder and (folder / "metrics.json").exists():
        metrics = read_metrics(folder) | metrics
    write_results(folder, clean, metrics, subject.title)
    return metrics


def _parse_severities(values: Sequence[int | str]) -> list[int]:
    try:
        return [int(value) for value in values]
    except ValueError as error:
        raise InputError(
            "--severities must be among 1, 2, 3, 4 and 5; received "
            f"{','.join(map(str, values))}; such as --severities=1,3,5"
        ) from error


def _shift_source(
    subject: Subject, kind: str, types: Sequence[str], severities: Sequence[int]
) -> ShiftSource:
    return find_source(
        subject.part(),
        kind,
        types,
        severities,
        data_dir=subject.data.data_dir,
        split_seed=subject.data.split_seed,
        validation_examples=subject.data.validation_examples,
    )


def _on_shift(
    subject: Subject,
    predict: Predictor,
    source: ShiftSource,
    types: Sequence[str],
    severities: Sequence[int],
) -> Measures:
    return evaluate_shift(
        predict,
        subject.part(),
        subject.folder / subject.name("shift"),
        types,
        severities,
        source=source,
        num_bins=subject.num_bins,
        temperature=subject.temperature,
        identity=digest_run(subject.path),
    )


def _on_ood(
    subject: Subject,
    predict: Predictor,
    clean: Predictions,
    names: Sequence[str],
    limit_examples: int | None,
) -> Measures:
    return evaluate_ood(
        predict,
        clean,
        subject.test,
        names,
        subject.folder / subject.name("ood"),
        data_dir=subject.data.data_dir,
        limit_examples=limit_examples,
        temperature=subject.temperature,
        identity=digest_run(subject.path),
    )


def _under_attack(
    subject: Subject,
    clean: Predictions,
    attacks: Sequence[str],
    epsilons: Sequence[float],
) -> Measures:
    part, own_index = subject.part(), None
    if len(subject.models) == 1:
        own_index = own_test_index(subject.folder, subject.models[0])
    return evaluate_attacks(
        subject.models,
        part,
        clean.first(len(part)),
        subject.folder / subject.name("attacked"),
        attacks,
        epsilons,
        index=subject.index,
        num_levels=subject.num_levels,
        num_bins=subject.num_bins,
        temperature=subject.temperature,
        own_index=own_index,
        identity=digest_run(subject.path),
    )


def _footprint(subject: Subject, clean: Predictions) -> Measures:
    part, train = subject.part(), subject.data.load("train")
    return measure_footprint(
        subject.models,
        subject.model_files,
        part,
        clean.first(len(part)),
        next(iter(train.batches(QUANTISATION_IMAGES)))[1].numpy(),
        subject.folder / subject.name("footprint"),
        num_bins=subject.num_bins,
        temperature=subject.temperature,
    )
