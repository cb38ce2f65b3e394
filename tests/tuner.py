"""What a search of KerasTuner does, where it is not installed.

The names and the steps are those of `keras_tuner.RandomSearch` 1.4: the session is
cleared and a model built for each trial, the callbacks are deep-copied, and one that
keeps the best weights stands after them.
"""

import copy
import random
from pathlib import Path
from typing import Any

import keras


class HyperParameters:
    """Settings that are drawn when they are asked for first."""

    def __init__(self, seed: int) -> None:
        self.values: dict[str, Any] = {}
        self._random = random.Random(seed)

    def Choice(self, name: str, values: list[Any]) -> Any:  # noqa: N802
        """Return one of the values."""
        return self.values.setdefault(name, self._random.choice(values))


class HyperModel:
    """Builds a model and trains it."""

    def build(self, hp: HyperParameters) -> keras.Model:
        """Return a compiled model."""
        raise NotImplementedError

    def fit(self, hp: HyperParameters, model: keras.Model, *args: Any, **kwargs: Any):
        """Train a model."""
        return model.fit(*args, **kwargs)


class RandomSearch:
    """Trains a model for each trial."""

    def __init__(
        self,
        hypermodel: HyperModel,
        objective: str,
        max_trials: int,
        *,
        directory: str | Path = ".",
        overwrite: bool = False,
    ) -> None:
        self.hypermodel, self.objective = hypermodel, objective
        self.max_trials, self.directory = max_trials, Path(directory)

    def search(self, *fit_args: Any, callbacks: Any = (), **fit_kwargs: Any) -> None:
        """Run the trials."""
        for trial in range(self.max_trials):
            own = copy.deepcopy(list(callbacks))
            path = self.directory / f"trial_{trial}.weights.h5"
            own.append(_SaveBestEpoch(self.objective, path))
            keras.backend.clear_session()
            hp = HyperParameters(trial)
            model = self.hypermodel.build(hp)
            self.hypermodel.fit(hp, model, *fit_args, callbacks=own, **fit_kwargs)


class _SaveBestEpoch(keras.callbacks.Callback):
    def __init__(self, objective: str, path: Path) -> None:
        super().__init__()
        self.objective, self.path, self.best = objective, path, float("inf")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs[self.objective] < self.best:
            self.best = logs[self.objective]
            self.model.save_weights(self.path)
