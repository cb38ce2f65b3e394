"""A few more epochs of a run's own training, with pruned weights kept at 0.

Loss, batches, augmentation and adversarial training are the run's. Its soft labels stay
as they were in the end: what a compressed model's calibration is compared with is the
run's, and a new adaptation would hide what the compression does.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf

from ar_adals_tf.compression.pruning import prune
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import (
    check_same_vanilla,
    load_model,
    vanilla_folders,
)
from ar_adals_tf.files import remove
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.methods.table import make_smoothing
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.reading import read_json
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training.bookkeeping import EpochVariable, RunKeeper
from ar_adals_tf.training.building import to_train_further
from ar_adals_tf.training.data import training_data
from ar_adals_tf.training.indexes import level_indexes

#: What the run's learning rate is multiplied by, as in Han et al. (2015).
RATE = 0.1


class Finetuning:
    """What further epochs of a finished run need, found out once for all sparsities.

    Args:
        run: The run directory.
        config: Its settings.
        splits: Its data: `train`, `validation` and `test`.
        learning_rate: Constant. Defaults to a tenth of the run's.

    Raises:
        InputError: If what the training depended on is not there any more.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        splits: Mapping[str, Split],
        learning_rate: float | None = None,
    ) -> None:
        refuse_feedback(config)
        folders = vanilla_folders(
            run, config.dataset, config.output_dir, config.vanilla_dir
        )
        there = [one for one in folders if (one / "model.keras").is_file()]
        vanilla = str((there or folders)[0]) if config.needs_vanilla else None
        self._run = run
        self._plan = Plan.make(
            dataclasses.replace(
                config, output_dir=str(run), vanilla_dir=vanilla, verbose=False
            ),
            splits,
        )
        self.learning_rate = learning_rate or default_rate(config)
        self._smoothing = self._last_labels()
        self._levels = self._last_levels()

    def pruned(
        self, network: keras.Model, sparsity: float, epochs: int, folder: Path
    ) -> None:
        """Prune a network of the run, and train it further, in place.

        An interrupted training goes on after its last whole epoch.

        Args:
            network: The run's own, freshly loaded.
            sparsity: See `pruning.prune`.
            epochs: Their number.
            folder: Where `checkpoint.npz` and `history.csv` are kept.

        Raises:
            InputError: If the network has nothing to prune.
            FloatingPointError: If the loss is no longer a number.
        """
        prune(network, sparsity)
        config = self._plan.config
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        optimizer = (
            keras.optimizers.Adam(self.learning_rate)
            if self._plan.recipe.optimizer == "adam"
            else keras.optimizers.SGD(self.learning_rate, momentum=0.9, nesterov=True)
        )
        model = to_train_further(self._plan, network, optimizer)
        # The batches go on where the run's ended: no epoch's order comes twice.
        first, last = config.epochs, config.epochs + epochs
        epoch = tf.Variable(first, trainable=False, dtype=tf.int64)
        keeper = RunKeeper(folder, [model], self._smoothing)
        done = keeper.restore()
        title = f"training {sparsity:.0%} pruned"
        with progress_bar(epochs, title, "epoch", initial=done) as bar:
            counts = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda *_: bar.update(1)
            )
            model.fit(
                self.batches(epoch),
                initial_epoch=first + done,
                epochs=last,
                callbacks=[EpochVariable(epoch), keeper, counts],
                shuffle=False,
                verbose=0,
            )
        remove(folder / "checkpoint.npz")

    def batches(self, epoch: tf.Variable) -> tf.data.Dataset:
        """Return batches of training images and soft labels, in an epoch's order."""
        seed = self._plan.config.seed
        return training_data(self._plan, seed, epoch, self._smoothing, self._levels)

    def _last_labels(self) -> AdaptiveLabelSmoothing:
        """Return the soft labels as the run's training left them."""
        config, method = self._plan.config, self._plan.method
        classes = self._plan.splits["train"].info.num_classes
        smoothing = make_smoothing(
            method,
            classes,
            config.num_levels or 1,
            config.alpha,
            config.label_smoothing,
        )
        path = self._run / "smoothing.json"
        state = read_json(path) if path.exists() else None
        if not isinstance(state, dict):
            raise InputError(
                f"{path} with the soft labels that training would go on with is not "
                "there, or damaged; give --epochs=0, or another run"
            )
        smoothing.restore(state)
        return smoothing

    def _last_levels(self) -> RobustnessLevels | None:
        """Return the levels of the training images that the run ended with."""
        config = self._plan.config
        count = int(config.num_levels or 1)
        if count == 1 or not self._plan.method.by_robustness:
            return None
        if config.refresh_epochs:
            last = max(config.refresh_epochs)
            path = self._run / "robustness" / f"epoch_{last}" / "train.npz"
            index = RobustnessIndex.load(path)
            index.verify(digest=self._plan.loaded["train"].digest())
        else:
            file = self._plan.vanilla_folder / "model.keras"
            if config.levels_from != "random" and not file.is_file():
                raise InputError(
                    f"{self._run} was trained with levels of the vanilla model {file}, "
                    "which is not there; put it back, or give --epochs=0"
                )
            vanilla = None if config.levels_from == "random" else load_model(file)
            if vanilla is not None:
                check_same_vanilla(self._run, file.parent, vanilla)
            index = level_indexes(self._plan, vanilla)["train"]
        return RobustnessLevels(index, count)


def default_rate(config: Config) -> float:
    """Return the learning rate of further epochs: a tenth of the run's.

    A rate that the recipe scales by the batch size is scaled.

    Example:
        >>> default_rate(Config.make("cifar10", "vanilla"))
        0.0001
    """
    per_batch = config.recipe.per_batch if config.schedule == "recipe" else None
    scale = config.batch_size / per_batch if per_batch else 1
    return RATE * config.learning_rate * scale


def refuse_feedback(config: Config) -> None:
    """Refuse a run whose loss cannot go on.

    Raises:
        InputError: If the loss has learnt something that no file has.
    """
    if config.kind.feedback is not None:
        raise InputError(
            f"the loss of --method={config.method} learns from the validation images "
            "as it trains, and a finished run does not keep what it learnt; give "
            "--epochs=0, or another run"
        )
