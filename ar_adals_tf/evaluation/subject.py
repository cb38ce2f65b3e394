"""What is evaluated: a run directory, or the file of a model."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from ar_adals_tf.attacks.inputs import check_input_type
from ar_adals_tf.calibrated import averaged, with_temperature
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.datasets.folder import refuse_among_pictures
from ar_adals_tf.datasets.from_files import FileSplit
from ar_adals_tf.datasets.own import is_own
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.distribution.strategy import scope
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictor import check_shape
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.evaluation.served import Served, is_served
from ar_adals_tf.evaluation.subject_file import (
    Record,
    find_record,
    plain_text,
    results_folder,
)
from ar_adals_tf.experiment import start
from ar_adals_tf.experiment.completion import OF_READING
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import (
    digest_run,
    load_model,
    load_models,
    member_folders,
    saved_config,
)
from ar_adals_tf.files import atomic_write
from ar_adals_tf.models.given import UNIT, in_range
from ar_adals_tf.outputs import is_softmax, num_classes
from ar_adals_tf.process.imports import imported

#: The value of `--validation` that names the dataset's own validation images.
OWN_VALIDATION = "validation"


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated: a run, or the model of a file.

    Attributes:
        title: What people call it.
        path: The run directory or the model's file.
        folder: Where the results go.
        models: One, or the members of an ensemble, all of images in [0, 1]; none of
            what is for inference alone.
        model_files: Their `.keras` files.
        dataset: The dataset of its images.
        where: Where these come from: `data_dir`, `split_seed`, `validation_examples`.
        reading: How data without a recipe are read; see `datasets.load`.
        limit: How many images of each split there are at most.
        num_bins: Bins of every ECE.
        quick: How many test images a quick look takes; None for no quick look.
        num_levels: R, of the measures by level.
        temperature: T, if there is one already.
        served: The model for inference alone, if it is one.
        record: What its folder says of it; None for a run.
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
    served: Served | None = None
    reading: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    record: Record | None = None

    @cached_property
    def identity(self) -> str:
        """What tells its models, and the range of their inputs, from others."""
        own_range = self.record.flags.get("model_range") if self.record else None
        return digest(self.path) + (f" of {own_range}" if own_range else "")

    @property
    def validation(self) -> str | None:
        """What `--validation` names, of a model's file."""
        return self.record.flags.get("validation") if self.record else None

    @property
    def has_gradient(self) -> bool:
        """Whether it can be attacked."""
        return self.served is None

    def with_classes(self, test: Split) -> "Subject":
        """Return the subject with what its record says of the test examples."""
        if self.record is None:
            return self
        names = getattr(test.info, "class_names", None) or ()
        record = dataclasses.replace(
            self.record,
            classes=[*map(str, names)] or None,
            examples="images" if test.info.has_images else "examples",
        )
        return dataclasses.replace(self, record=record)

    def in_units_of(self, test: Split) -> "Subject":
        """Return the subject with a model of [0, 1], where its range is the data's.

        Raises:
            InputError: If the model does not take as many columns as a table has.
        """
        recorded = self.record.flags.get("model_range") if self.record else None
        if recorded != start.OF_DATA:
            return self
        own_range = start.model_range(recorded, test.info.low, test.info.high)
        if self.served is not None:
            return dataclasses.replace(self, served=Served(self.path, own_range))
        models = [in_range(model, own_range) for model in self.models]
        return dataclasses.replace(self, models=models)

    def check(self, test: Split) -> None:
        """Refuse a model that cannot be asked about the test images.

        Raises:
            InputError: If it takes no floats, or tells other classes apart.
        """
        if self.served is not None:
            self.served.check(test)
            return
        check_input_type(self.models[0])
        here, there = num_classes(self.models[0]), test.info.num_classes
        if here != there:
            raise InputError(
                f"{self.path} tells {here} classes apart, {test.dataset} has "
                f"{there}; choose the model's own --dataset"
            )
        for model in self.models:
            is_softmax(model)  # refuses heads that are no classifier's
            check_shape(tuple(model.input_shape[1:]), test)


#: The files of a SavedModel. Others, such as our results, may lie in its folder.
_SAVED_MODEL = ("*.pb", "variables/**/*", "assets*/**/*")


def digest(path: Path) -> str:
    """Return a short digest of a model's file, a run directory, or a SavedModel."""
    if not (path / "saved_model.pb").is_file():
        return digest_run(path)
    total = hashlib.sha256()
    files = {one for pattern in _SAVED_MODEL for one in path.glob(pattern)}
    for file in sorted(one for one in files if one.is_file()):
        total.update(str(file.relative_to(path)).encode("utf-8", "replace"))
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def run_subject(
    run: Path, data_dir: str | None, num_bins: int | None, quick: int | None
) -> Subject:
    """Return a run with its models, or a model whose evaluation lies in a folder.

    Raises:
        InputError: If it is neither, if the run is not finished, or if a file is
            missing, damaged or changed.
    """
    if record := find_record(run):
        return _again(run, record, data_dir, num_bins, quick)
    # What is damaged is refused before the models are loaded.
    config, temperature = saved_config(run), saved_temperature(run)
    if (run / "metrics.json").exists():
        read_metrics(run)
    elif _is_unfinished(config, run):
        raise InputError(
            f"{run} is not finished: its training has yet to fit the temperature and "
            "to write metrics.json; give its command of ar_adals_tf.train again"
        )
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


def _is_unfinished(config: Config, run: Path) -> bool:
    """Tell whether a run without measures has still to make them itself.

    One model that was trained to its end keeps no checkpoint, so its measures were
    lost, and `evaluate` makes them. What was not trained as one model, an ensemble or a
    model as it is given, has its measures from `train` in little time.
    """
    folders = [run, *member_folders(config, run)]
    begun = any((one / "checkpoint.npz").exists() for one in folders)
    untrained = not (run / "model.keras").is_file()
    return begun or untrained or config.ensemble_size > 1 or config.as_given


def _again(
    folder: Path,
    record: Record,
    data_dir: str | None,
    num_bins: int | None,
    quick: int | None,
) -> Subject:
    """Return the model that a folder has an evaluation of."""
    if record.source != "model":
        raise InputError(
            f"{folder} has an evaluation of predictions alone, without a model that "
            "could predict more; give the model's file as --model_file"
        )
    flags = dict(record.flags)
    file = Path(flags["model_file"])
    if file.exists() and digest(file) != record.digest:
        raise InputError(
            f"{file} is not the model that {folder} has an evaluation of; evaluate it "
            "with --model_file and another --output_dir"
        )
    temperature = saved_temperature(folder)
    found = model_subject(
        file,
        folder,
        flags["dataset"],
        data_dir=data_dir or flags.get("data_dir"),
        split_seed=flags.get("split_seed", 0),
        validation_examples=flags.get("validation_examples"),
        limit_examples=flags.get("limit_examples"),
        num_bins=num_bins or flags.get("num_bins"),
        validation=flags.get("validation"),
        robustness_index=flags.get("robustness_index"),
        model_range=flags.get("model_range"),
        title=flags.get("title"),
        reading={name: flags.get(name) for name in OF_READING},
    )
    return dataclasses.replace(
        found, temperature=temperature, quick=quick, record=record
    )


def model_subject(
    file: Path,
    output_dir: str | Path | None,
    dataset: str,
    *,
    data_dir: str | None = None,
    split_seed: int = 0,
    validation_examples: int | None = None,
    limit_examples: int | None = None,
    num_bins: int | None = None,
    validation: str | None = None,
    robustness_index: str | Path | None = None,
    model_range: str | None = None,
    title: str | None = None,
    reading: Mapping[str, str | None] | None = None,
) -> Subject:
    """Return the model of a file: `.keras`, a SavedModel folder, or `.tflite`.

    Raises:
        InputError: If the file is no model, or the folder for the results does not do.
    """
    inputs: list[str | Path | None] = [file, dataset, validation, robustness_index]
    folder = results_folder(output_dir, "--model_file", inputs)
    if is_own(dataset):
        names = (reading or {}).get("split_names")
        refuse_among_pictures(folder, dataset, names, "--output_dir")
    own_range = start.model_range(model_range)
    if model_range == start.OF_DATA:  # what these are is known when they are read
        own_range = UNIT
    served = Served(file, own_range) if is_served(file) else None
    where = {
        "data_dir": data_dir,
        "split_seed": split_seed,
        "validation_examples": validation_examples,
    }
    flags: dict[str, Any] = {"model_file": str(file), "dataset": dataset} | where
    flags |= {"limit_examples": limit_examples, "num_bins": num_bins}
    flags |= {"validation": validation, "title": title} | dict(reading or {})
    flags |= {"model_range": model_range, "import": ",".join(imported()) or None}
    if robustness_index is not None:
        flags["robustness_index"] = str(robustness_index)
    given = {n: v for n, v in flags.items() if v is not None and (n, v) != _SEED}
    name = plain_text(title or file.name)
    return Subject(
        title=name,
        path=file,
        folder=folder,
        models=[] if served else [in_range(load_model(file), own_range)],
        model_files=[] if served else [file],
        dataset=dataset,
        where=where,
        limit=limit_examples,
        num_bins=num_bins or DEFAULT_NUM_BINS,
        served=served,
        reading=reading or {},
        record=Record(name, dataset, "model", digest(file), flags=given),
    )


_SEED = ("split_seed", 0)  # the default


def save_calibrated(
    folder: Path, models: Sequence[keras.Model], temperature: float
) -> None:
    """Save a model, or an ensemble as one, with its temperature: `calibrated.keras`."""
    with scope():
        model = with_temperature(averaged(models), temperature=temperature)
    with atomic_write(folder / "calibrated.keras") as aside:
        model.save(aside)


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
