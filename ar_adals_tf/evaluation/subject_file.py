"""What an evaluation's folder is of, where no run was trained there: `subject.json`.

A run directory has a `config.json`. The folder of an evaluated model, of predictions or
of an audit has this file in its place, so that a report takes it beside runs. Nothing
here needs a model.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import write_json
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import SUBJECT

SUBJECT_FILE = "subject.json"


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
