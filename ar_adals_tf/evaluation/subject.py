"""What is evaluated: a run, or the model of a file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from ar_adals_tf.attacks.inputs import check_input_type
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.datasets.from_files import FileSplit
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.experiment.completion import OF_READING
from ar_adals_tf.experiment.runs import (
    load_model,
    load_models,
    member_folders,
    saved_config,
)
from ar_adals_tf.files import writable_folder
from ar_adals_tf.outputs import num_classes
from ar_adals_tf.robustness import RobustnessIndex


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated: a run, or the model of a file.

    Attributes:
        title: What people call it.
        path: The run directory or the model file.
        folder: Where the results go.
        models: One, or the members of an ensemble.
        model_files: Their `.keras` files.
        dataset: The dataset of its images.
        where: Where these come from: `data_dir`, `split_seed`, `validation_examples`.
        reading: How data without a recipe are read; see `datasets.load`.
        limit: How many images of each split there are at most.
        quick: How many test images a quick look takes; None for no quick look.
        num_bins: Bins of every ECE.
        num_levels: R, of the measures by level.
        temperature: T, if there is one.
        index: Robustness index that the test images' levels are cut from, if any.
    """

    title: str
    path: Path
    folder: Path
    models: list[keras.Model]
    model_files: list[Path]
    dataset: str
    where: dict[str, Any]
    limit: int | None
    num_bins: int
    quick: int | None = None
    num_levels: int = 10
    temperature: float | None = None
    index: RobustnessIndex | None = None
    reading: Mapping[str, str | None] = dataclasses.field(default_factory=dict)


def run_subject(
    run: Path, data_dir: str | None, num_bins: int | None, quick: int | None
) -> Subject:
    """Return a run, with its models.

    Raises:
        InputError: If it is no run, or a file is missing or damaged.
    """
    # What is damaged is refused before the models are loaded.
    config, temperature = saved_config(run), saved_temperature(run)
    if (run / "metrics.json").exists():
        read_metrics(run)
    return Subject(
        title=config.title,
        path=run,
        folder=run,
        models=load_models(run),
        model_files=[one / "model.keras" for one in member_folders(config, run)],
        dataset=config.dataset,
        where={
            "data_dir": data_dir or config.data_dir,
            "split_seed": config.split_seed,
            "validation_examples": config.validation_examples,
        },
        reading={n: getattr(config, n) for n in (*OF_READING, "data_digest")},
        limit=config.limit_examples,
        quick=quick,
        num_bins=num_bins or config.num_bins,
        num_levels=config.num_levels or 10,
        temperature=temperature,
    )


def model_subject(
    file: Path,
    output_dir: str | Path | None,
    dataset: str,
    where: dict[str, Any],
    limit: int | None,
    num_bins: int | None,
    reading: Mapping[str, str | None],
) -> Subject:
    """Return the model of a file.

    Raises:
        InputError: If the file is no model, or the folder for the results does not do.
    """
    if not output_dir:
        raise InputError("--model_file needs --output_dir, a folder for the results")
    if (Path(output_dir) / "config.json").exists():
        raise InputError(
            f"--output_dir {output_dir} is a run directory (it has a config.json), and "
            "its results would be overwritten; give another folder, or the run itself "
            "as --run_dir"
        )
    return Subject(
        title=file.stem,
        path=file,
        folder=writable_folder(output_dir, "--output_dir"),
        models=[load_model(file)],
        model_files=[file],
        dataset=dataset,
        where=where,
        reading=reading,
        limit=limit,
        num_bins=num_bins or DEFAULT_NUM_BINS,
    )


def check_model(subject: Subject, test: Split) -> None:
    """Refuse a model that cannot be asked about the test images.

    Raises:
        InputError: If it takes no floats, or tells other classes apart.
    """
    check_input_type(subject.models[0])
    here, there = num_classes(subject.models[0]), test.info.num_classes
    if here != there:
        raise InputError(
            f"{subject.path} tells {here} classes apart, {test.dataset} has "
            f"{there}; choose the model's own --dataset"
        )


def first_images(split: Split, count: int | None) -> Split:
    """Return the images that are changed and measured: all, or the first ones."""
    if count is None:
        return split
    if not isinstance(split, (ArraySplit, FileSplit)):
        raise InputError(
            "--limit_examples with --run_dir does not work on streamed images; "
            "train with --limit_examples instead"
        )
    return split.part(split.name, slice(count))
