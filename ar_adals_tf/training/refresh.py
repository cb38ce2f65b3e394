"""On-the-fly AR-AdaLS: new robustness levels while the model trains."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from ar_adals_tf.attacks.table import prepare
from ar_adals_tf.digests import digest_model
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import compute_index
from ar_adals_tf.indexing import sweep_index
from ar_adals_tf.pipeline import RobustnessLevels
from ar_adals_tf.robustness import RobustnessIndex


class Refresh(keras.callbacks.Callback):
    """Attacks the model in training before given epochs, and cuts the levels anew.

    The soft label of each level carries over; only which image is in which level
    changes, and nothing is compiled again. Each index is kept in the run directory as
    `robustness/epoch_<epoch>/<split>.npz`. An interrupted run reads it from there.
    """

    def __init__(self, plan: Plan, levels: Mapping[str, RobustnessLevels]) -> None:
        super().__init__()
        self._plan, self._levels = plan, levels
        self._last: int | None = None
        self._attack: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        due = [e for e in self._plan.config.refresh_epochs if e <= epoch]
        if not due or due[-1] == self._last:
            return
        self._last = due[-1]
        folder = self._plan.folder / "robustness" / f"epoch_{self._last}"
        for name, levels in self._levels.items():
            path = folder / f"{name}.npz"
            if self._last == epoch:
                levels.update(self._find_or_compute(path, name))
            else:  # the run was interrupted after this refresh
                levels.update(RobustnessIndex.load(path))

    def _find_or_compute(self, path: Path, name: str) -> RobustnessIndex:
        """Return a split's index under the model as it is now."""
        if path.exists():
            index = RobustnessIndex.load(path)
            if index.metadata.get("model_digest") == digest_model(self.model):
                sweep_index(path, index)  # under the lock of the run
                return index
        config = self._plan.config
        if self._attack is None:  # compiled once for all refreshes
            self._attack = prepare(
                str(config.attack),
                self.model,
                keep_adversarial=False,
                **config.attack_settings,
            )
        split = self._plan.splits[name]
        return compute_index(config, path, self.model, split, self._attack)
