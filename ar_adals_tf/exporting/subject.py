"""The calibrated model to export: that of a run, or of a file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ar_adals_tf.bounds import Range
from ar_adals_tf.calibrated import averaged, with_temperature
from ar_adals_tf.calibration.temperature import fit_temperature
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.subject_file import Record, find_record
from ar_adals_tf.experiment import start
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import finished_config, load_model, load_models
from ar_adals_tf.experiment.settings import OF_THE_DATA
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.exporting.formats import INPUT
from ar_adals_tf.models.given import UNIT, to_unit
from ar_adals_tf.training.building import check_given, load_given
from ar_adals_tf.training.run import load_splits


@dataclass(frozen=True)
class Calibrated:
    """A model to export.

    Attributes:
        title: What people call it.
        model: From images in [0, 1] to calibrated probabilities.
        temperature: T, which is inside.
        own_range: The range of inputs that the user's model expects.
        test: The images to check it on.
        num_bins: Bins of the ECE.
        given: Whether it is of a user's file, which may not fit the data.
    """

    title: str
    model: keras.Model
    temperature: float
    own_range: Range
    test: Split
    num_bins: int
    given: bool = False

    def about(self) -> dict[str, Any]:
        """Return what says whether two exports are of one model."""
        return {
            "digest": digest_model(self.model),
            "temperature": self.temperature,
            "input_range": [np.asarray(end).tolist() for end in self.own_range],
        }

    def served(self) -> keras.Model:
        """Return the model as people call it: with inputs in its own range."""
        inputs = x = keras.Input(self.model.input_shape[1:], name=INPUT)
        if self.own_range != UNIT:
            x = to_unit(self.own_range)(x)
        return keras.Model(inputs, self.model(x), name="calibrated")


def of_run(run: Path, data_dir: str | None) -> Calibrated:
    """Return the calibrated model of a finished run."""
    if record := find_record(run):
        raise InputError(_of_evaluation(run, record))
    config, temperature = finished_config(run), saved_temperature(run)
    if temperature is None:
        raise InputError(
            f"{run} has no temperature, because it has no validation images; train it "
            "with some, or export its model with --model_file"
        )
    if data_dir:
        config = dataclasses.replace(config, data_dir=data_dir)
    test = load_splits(config, ("test",))["test"]
    whole = run / "calibrated.keras"
    if whole.exists():
        model = load_model(whole)
    else:  # version 0.1.0
        model = with_temperature(averaged(load_models(run)), temperature=temperature)
    return Calibrated(
        config.title,
        model,
        temperature,
        _range_of(config, test),
        test,
        config.num_bins,
    )


def _range_of(config: Config, split: Split) -> Range:
    return start.model_range(config.model_range, split.info.low, split.info.high)


def _of_evaluation(folder: Path, record: Record) -> str:
    """Say how the model of an evaluation is exported, whose folder has no run."""
    words = f"{folder} is no run, but has an evaluation of {record.title}"
    file = str(record.flags.get("model_file", ""))
    if not start.is_file(file):
        return f"{words}, which is no .keras file; give one as --model_file"
    names = {"dataset", "model_range", "import", *OF_THE_DATA}
    own = {name: v for name, v in record.flags.items() if name in names}
    flags = {"model_file": file} | own | {"output_dir": folder / "export"}
    return f"{words}; give {shell_command('export', flags)}"


def of_file(file: str, data: Mapping[str, Any]) -> Calibrated:
    """Return the model of a file, calibrated on the validation images of a dataset."""
    if not start.is_file(file):
        raise InputError(f"--model_file must be a .keras file; received {file}")
    given = {name: value for name, value in data.items() if value is not None}
    dataset = given.pop("dataset", "fashion_mnist_small")
    config = Config.make(dataset, "vanilla", model=file, finetune=True, **given)
    check_given(config)
    splits = load_splits(config, ("validation", "test"))
    if not len(splits["validation"]):
        raise InputError(
            f"the temperature is fitted to validation images, and {dataset} has none "
            "with these settings; leave --validation_examples out"
        )
    model = load_given(config, splits["test"].info, config.seed)
    held_out = Predictor(model)(splits["validation"])
    temperature = fit_temperature(held_out.labels, held_out.logits)
    return Calibrated(
        config.title,
        with_temperature(model, temperature=temperature),
        temperature,
        _range_of(config, splits["test"]),
        splits["test"],
        config.num_bins,
        given=True,
    )
