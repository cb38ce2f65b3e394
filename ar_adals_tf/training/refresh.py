"""On-the-fly AR-AdaLS: new robustness levels while the model trains."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from ar_adals_tf.attacks.table import prepare
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.digests import digest_model
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import compute_index
from ar_adals_tf.pipeline import RobustnessLevels
from ar_adals_tf.robustness import RobustnessIndex

Splits = Mapping[str, Split]


class Refresh(keras.callbacks.Callback):
    """Attacks the model in training at given epochs, and cuts the levels anew.

    The soft label of each level carries over; only which image is in it changes, and
    nothing is compiled again. Each index is kept as `epoch_<epoch>/<split>.npz`, from
    which an interrupted run takes its levels again.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        splits: Splits,
        levels: Mapping[str, RobustnessLevels],
    ) -> None:
        super().__init__()
        self._config, self._folder = config, folder
        self._splits, self._levels = splits, levels
        self._last: int | None = None
        self._attack: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        due = [e for e in self._config.refresh_epochs if e <= epoch]
        if not due or due[-1] == self._last:
            return
        self._last = due[-1]
        for name, levels in self._levels.items():
            path = self._folder / f"epoch_{self._last}" / f"{name}.npz"
            if self._last == epoch:
                levels.update(self._find_or_compute(path, name))
            else:
                levels.update(RobustnessIndex.load(path))

    def _find_or_compute(self, path: Path, name: str) -> RobustnessIndex:
        digest = digest_model(self.model)
        if path.exists():
            index = RobustnessIndex.load(path)
            if index.metadata.get("model_digest") == digest:
                return index
        if self._attack is None:  # compiled once for all refreshes
            self._attack = prepare(
                str(self._config.attack),
                self.model,
                keep_adversarial=False,
                **self._config.attack_settings,
            )
        split = self._splits[name]
        return compute_index(self._config, path, self.model, split, self._attack)
