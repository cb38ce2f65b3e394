"""What a folder's model was compressed from, and what it costs: `compression.json`.

It lies beside the evaluation of a compressed model, so that a report can tell which run
it came from. Nothing here needs a model.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar_adals_tf.files import write_json
from ar_adals_tf.forms.compression import COMPRESSION
from ar_adals_tf.forms.form import read

COMPRESSION_FILE = "compression.json"

#: What people call the number formats, in the order of tables.
FORMATS = {
    "float32": "float32, TensorFlow",
    "float16": "float16, LiteRT",
    "int8": "int8, LiteRT",
}


@dataclass(frozen=True)
class Compressed:
    """One compressed model.

    Attributes:
        title: What people call the run that it was made of.
        run_digest: What tells that run's model from others.
        sparsity: The share of weights that were pruned away, in [0, 1).
        format: A key of `FORMATS`.
        epochs: The epochs of training after the pruning.
        learning_rate: Their learning rate; None where there are none.
        digest: Of the model's file.
        costs: `hardware`, `batch_size`, `repeats`, `seconds_per_image`, `file_bytes`,
            `gzip_bytes`, `peak_bytes`; empty until they are measured.
        runs_temperature: `temperature`, that of the run, and the measures of the
            compressed model on the clean test set with it; empty without one.
    """

    title: str
    run_digest: str
    sparsity: float
    format: str
    epochs: int
    learning_rate: float | None
    digest: str
    costs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    runs_temperature: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def recipe(self) -> tuple[Any, ...]:
        """How it was made; equal for two models that should be equal."""
        how = self.sparsity, self.format, self.epochs, self.learning_rate
        return self.run_digest, *how

    @property
    def name(self) -> str:
        """What people call it, without the run."""
        pruned = f"{100 * self.sparsity:g} % pruned" if self.sparsity else "not pruned"
        return f"{pruned}, {self.format}"

    def save(self, folder: str | Path) -> None:
        """Write `compression.json` into a folder."""
        content = {"kind": "compression"} | dataclasses.asdict(self)
        write_json(Path(folder) / COMPRESSION_FILE, content)


def find_compressed(folder: str | Path) -> Compressed | None:
    """Return what a folder's model was compressed from; None if it was not.

    Raises:
        InputError: If the file is damaged.
    """
    path = Path(folder) / COMPRESSION_FILE
    if not path.exists():
        return None
    content = read(path, COMPRESSION)
    names = [field.name for field in dataclasses.fields(Compressed)]
    return Compressed(**{name: content[name] for name in names if name in content})
