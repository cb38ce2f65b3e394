"""The evaluation of predictions that came without a model."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ar_adals_tf.calibration.checks import check_enough, few_words
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.evaluation.doubts import misfit, seen_validation
from ar_adals_tf.evaluation.given import read_given
from ar_adals_tf.evaluation.measures import (
    Measures,
    fit_and_save_temperature,
    measure,
    summary,
)
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import describe_run, write_results
from ar_adals_tf.evaluation.subject_file import Record, plain_text, results_folder
from ar_adals_tf.experiment.runs import RUN_FILES
from ar_adals_tf.files import remove, sweep
from ar_adals_tf.process.locks import LOCK, only_writer

#: What a test set without a name is called.
UNNAMED = "Own data"


def evaluate_predictions(
    path: str | Path,
    output_dir: str | Path | None,
    *,
    title: str | None = None,
    dataset: str | None = None,
    num_bins: int | None = None,
    say: Callable[[str], Any] = print,
) -> Measures:
    """Measure what needs no model and no inputs, and write an evaluation's folder.

    Args:
        path: The `.npz` file; see `read_given`.
        output_dir: Where the results go.
        title: What a report calls it. Defaults to the file's name.
        dataset: What the test set is called. Defaults to "Own data".
        num_bins: Bins of every ECE. Defaults to 15.
        say: Takes each line for people.

    Returns:
        The content of `metrics.json`.

    Raises:
        InputError: If the file or the folder cannot be used.
    """
    given = read_given(path)
    check_enough(len(given.test.labels), str(path))
    folder = results_folder(output_dir, "--predictions", [path])
    flags: dict[str, Any] = {"predictions": str(path), "title": title}
    flags |= {"dataset": dataset, "num_bins": num_bins}
    record = Record(
        plain_text(title or Path(path).name),
        dataset or UNNAMED,
        "predictions",
        given.digest,
        "examples",
        {name: value for name, value in flags.items() if value is not None},
        given.classes,
    )
    if few := few_words(len(given.test.labels)):
        say(few)
    if words := misfit(given.test.labels, given.test.probabilities):
        say(f"{record.title} {words}")
    with only_writer(folder / LOCK, say):
        sweep(folder, *RUN_FILES, "subject.json")
        return write_evaluation(
            folder, record, given.test, given.validation, num_bins, say=say
        )


def write_evaluation(
    folder: Path,
    record: Record,
    test: Predictions,
    validation: Predictions | None,
    num_bins: int | None = None,
    say: Callable[[str], Any] = print,
    **by_level: Any,
) -> Measures:
    """Measure predictions and write all files of an evaluation into a folder.

    Args:
        folder: The folder. Old results in it are removed.
        record: What it is of.
        test: Predictions on the test set.
        validation: Those that the temperature is fitted to, if any.
        num_bins: Bins of every ECE. Defaults to 15.
        say: Takes each line for people.
        **by_level: `index` and `num_levels` of `measure`.
    """
    num_bins = num_bins or DEFAULT_NUM_BINS
    for name in ("metrics.json", "temperature.json"):
        if (folder / name).exists():
            remove(folder / name)
    record.save(folder)
    temperature, metrics = None, {}
    if validation is not None:
        temperature = fit_and_save_temperature(folder, validation)
        own = validation.labels, validation.probabilities
        metrics["validation"] = summary(*own, num_bins)
    metrics |= measure(test, num_bins, temperature=temperature, **by_level)
    if words := seen_validation(record.title, metrics, record.examples):
        warnings.warn(words, stacklevel=2)
    write_results(folder, test, metrics, record.title)
    say(describe_run(record.title, metrics))
    return metrics
