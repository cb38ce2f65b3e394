"""What an evaluation's folder is of, where no run was trained there: `subject.json`.

A run directory has a `config.json`. The folder of an evaluated model, of predictions or
of an audit has this file in its place, so that a report takes it beside runs. Nothing
here needs a model.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.runs import RUN_FILES
from ar_adals_tf.files import (
    refuse_overwriting,
    refuse_strangers,
    writable_folder,
    write_json,
)
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import SUBJECT

SUBJECT_FILE = "subject.json"

#: What an evaluation overwrites or removes in its folder, by names and patterns. Its
#: stores of predictions know theirs; see `predictions.checked_settings`.
EVALUATION_FILES = (
    "predictions.npz",
    "metrics.json",
    "temperature.json",
    "calibrated.keras",
    "figures/reliability.png",
    "figures/levels.png",
    "posthoc*/*.json",
    "posthoc*/*.keras",
    "robustness/margin/test.npz",
    "robustness/margin/gallery.npz",
)


@dataclass(frozen=True)
class Record:
    """What was evaluated.

    Attributes:
        title: What people call the model.
        dataset: What its test examples are called; a key of `datasets.DATASETS`, or
            words of the user.
        source: `model`, a file of a model; `predictions`, a file of predictions;
            `python`, the objects of a Python program.
        examples: What people call one more than one of them: `images` or `examples`.
        digest: What tells the model, or the predictions, from others.
        images: What tells the test images of a model from others; see
            `predictions.seen_images`.
        validation_images: The same of those that its temperature is fitted to.
        flags: Those of `python -m ar_adals_tf.evaluate` that made it, without
            `output_dir`. Empty for `python`.
        classes: Names of the classes, if they are known.
    """

    title: str
    dataset: str
    source: str
    digest: str = ""
    examples: str = "images"
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classes: Sequence[str] | None = None
    images: str = ""
    validation_images: str = ""

    def save(self, folder: str | Path) -> None:
        """Write `subject.json` into a folder."""
        content = {"kind": "evaluation"} | dataclasses.asdict(self)
        write_json(Path(folder) / SUBJECT_FILE, content)

    def other_than(self, other: "Record") -> list[str]:
        """Return what differs from another record: names of fields, in their order."""
        names = [field.name for field in dataclasses.fields(self)]
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    @classmethod
    def load(cls, folder: str | Path) -> "Record":
        """Read the `subject.json` of a folder.

        Raises:
            InputError: If it is damaged.
            FileNotFoundError: If there is none.
        """
        content = read(Path(folder) / SUBJECT_FILE, SUBJECT)
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: content[name] for name in names if name in content})


def find_record(folder: str | Path) -> Record | None:
    """Return the record of a folder; None if it has none.

    Raises:
        InputError: If it is damaged.
    """
    there = (Path(folder) / SUBJECT_FILE).exists()
    return Record.load(folder) if there else None


def results_folder(
    output_dir: str | Path | None, flag: str, inputs: Iterable[str | Path | None]
) -> Path:
    """Return the folder for the results of what is no run.

    Args:
        output_dir: As given.
        flag: Which flag needs it, for the sentence.
        inputs: What is read; see `refuse_results_among`.

    Raises:
        InputError: If there is none, if it is a run, if it has inputs or files of
            something else that would be overwritten, or if it cannot be written to.
    """
    if not output_dir:
        raise InputError(f"{flag} needs --output_dir, a folder for the results")
    if (Path(output_dir) / "config.json").exists():
        raise InputError(
            f"--output_dir {output_dir} is a run directory (it has a config.json), and "
            "its results would be overwritten; give another folder, or the run itself "
            "as --run_dir"
        )
    refuse_results_among(output_dir, inputs)
    refuse_strangers(output_dir, EVALUATION_FILES, SUBJECT_FILE)
    return writable_folder(output_dir, "--output_dir")


def refuse_results_among(
    folder: str | Path, inputs: Iterable[str | Path | None]
) -> None:
    """Refuse inputs that lie in a folder where results will be written.

    Args:
        folder: The folder, which may be absent.
        inputs: What is read; None is left out. Names that are no files do no harm.

    Raises:
        InputError: If one does. The user's own `model.keras` may lie there.
    """
    inputs = list(inputs)
    for pattern in RUN_FILES:
        for result in Path(folder).glob(pattern):
            if pattern != "model.keras" and result.is_file():
                refuse_overwriting(result, inputs, "the result")


def check_classes(classes: Sequence[Any] | None, num_classes: int) -> list[str] | None:
    """Return the names of the classes as text, if there are any.

    Raises:
        InputError: If they are not as many as the classes, or two are equal.

    Example:
        >>> check_classes(("cat", "dog"), 2)
        ['cat', 'dog']
    """
    if classes is None:
        return None
    named = [plain_text(str(name)) for name in classes]
    if len(named) != num_classes or len(set(named)) != num_classes:
        raise InputError(
            f"class_names must be {num_classes} different names, one for each class; "
            f"received {len(named)}, of which {len(set(named))} are different"
        )
    return named


def plain_text(text: str) -> str:
    r"""Return a text that can be printed; what cannot, such as half a character, is ?.

    Example:
        >>> plain_text("caf\u00e9 \ud800\0")
        'café ??'
    """
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
