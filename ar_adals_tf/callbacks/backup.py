"""The soft labels after every epoch, in a file by which a training goes on."""

from pathlib import Path

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import write_json
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import SOFT_LABELS


class Backup:
    """Keeps p after every epoch in `ar_adals.json`.

    Args:
        folder: Where the file lies. It is made with the first epoch.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder, "ar_adals.json")
        self._history: dict[str, list[float]] = {}

    def begin(self) -> None:
        """Forget the training before: the next one may begin at another epoch."""
        self._history = {}

    def save(self, epoch: int, p: np.ndarray) -> None:
        """Keep p after an epoch."""
        self._history[str(epoch)] = p.tolist()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, self._history)

    def found(self, epoch: int) -> list[float] | None:
        """Return p for the start of an epoch, if the training goes on with it.

        None where it starts, or has come there by itself.

        Raises:
            InputError: If the file does not have it.
        """
        before = str(epoch - 1)
        if epoch == 0 or before in self._history:
            return None
        saved = read(self._path, SOFT_LABELS) if self._path.exists() else {}
        if before not in saved:
            raise InputError(
                f"training goes on at epoch {epoch}, but {self._path} has no soft "
                f"labels after epoch {before}; start from epoch 0, or give the "
                "backup_dir of the interrupted run"
            )
        self._history = {e: p for e, p in saved.items() if int(e) < epoch}
        return self._history[before]
