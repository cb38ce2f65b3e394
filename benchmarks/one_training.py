"""How well calibrated AR-AdaLS is with one training, and with which alpha.

    python -m benchmarks.one_training --folder=runs/one_training
    python -m benchmarks.one_training --folder=runs/one_training --epochs=5,10,20 \
        --products=1,2,5,10 --methods=vanilla,adals,own

trains every method with every seed, number of epochs and alpha, measures the clean test
images and corrupted ones, and prints a row for each method: means over the seeds, with
95 % intervals over seeds and test images. alpha is a product over the number of epochs.
The last column is the ECE under shift less that of AR-AdaLS with pre-computed levels
(or of AdaLS, where those are not trained) with the same epochs and alpha, paired.

The methods are `vanilla`, `adals`, `ar_adals` (levels by `margin` on the vanilla model
of seed 0) and `own` (one training: own levels). All else is the recipe's. A command
that was interrupted goes on where it was.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.process import hardware
from ar_adals_tf.reporting.certainty import Sample
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.training.run import train

FLAGS = flags.FLAGS
flags.DEFINE_string("folder", "runs/one_training", "Where the runs go.")
flags.DEFINE_string("dataset", "fashion_mnist_small", "Which images and recipe.")
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds.")
flags.DEFINE_list("epochs", ["20"], "Numbers of epochs.")
flags.DEFINE_list("products", ["5"], "Values of alpha times the number of epochs.")
flags.DEFINE_list("methods", ["vanilla", "adals", "ar_adals", "own"], "Methods.")
flags.DEFINE_list("rankings", [""], "For own levels: epochs such as 2+6+10.")
flags.DEFINE_list(
    "shift_types", ["gaussian_noise", "contrast", "gaussian_blur"], "Corruptions."
)
flags.DEFINE_list("severities", ["1", "3", "5"], "Severities, 1 to 5.")


class Row(NamedTuple):
    """What stands in a row of the table; alpha is None for the vanilla model."""

    epochs: int
    method: str
    alpha: float | None
    rankings: str

    def run(self, seed: int) -> Path:
        """Train and measure, unless it is done, and return the run directory."""
        base = Path(FLAGS.folder)
        by_method: dict[str, dict[str, Any]] = {
            "vanilla": {},
            "adals": {},
            "ar_adals": {
                "attack": "margin",
                "attack_settings": {"top_k": 2},
                "vanilla_dir": str(base / f"vanilla-{self.epochs}-0"),
            },
            "own": {"vanilla": "none"},
        }
        settings = by_method[self.method]
        if self.rankings:
            settings["refresh_epochs"] = self.rankings.replace("+", ",")
        parts = [self.method, self.epochs, self.alpha, self.rankings, seed]
        name = "-".join(str(part) for part in parts if part not in (None, ""))
        config = Config.make(
            FLAGS.dataset,
            {"own": "ar_adals"}.get(self.method, self.method),
            seed=seed,
            epochs=self.epochs,
            alpha=None if self.alpha is None else str(self.alpha),
            output_dir=str(base / name),
            tensorboard=False,
            verbose=False,
            **settings,
        )
        run = train(config)
        if not (run / "measured").exists():
            evaluate(
                run,
                shift=True,
                shift_types=FLAGS.shift_types,
                severities=FLAGS.severities,
                say=lambda line: None,
            )
            (run / "measured").touch()
        return run


def rows() -> Iterator[Row]:
    """Yield the rows of the table, in an order that trains vanilla models first."""
    for epochs in map(int, FLAGS.epochs):
        if "vanilla" in FLAGS.methods:
            yield Row(epochs, "vanilla", None, "")
        for product in map(float, FLAGS.products):
            alpha = round(product / epochs, 6)
            for method in FLAGS.methods:
                if method == "own":
                    for rankings in FLAGS.rankings:
                        yield Row(epochs, method, alpha, rankings)
                elif method != "vanilla":
                    yield Row(epochs, method, alpha, "")


def group(row: Row) -> Group:
    """Return the runs of a row, one for each seed."""
    runs = [row.run(int(seed)) for seed in FLAGS.seeds]
    (collection,) = load_collections(runs)
    (found,) = collection.groups
    return found


def shown(interval: tuple[float, float, float]) -> str:
    """Return an estimate and its interval in per cent."""
    estimate, low, high = (100 * value for value in interval)
    return f"{estimate:5.2f} [{low:5.2f}, {high:5.2f}]"


def main(_: list[str]) -> None:
    print(hardware.describe_hardware())
    print(
        f"{FLAGS.dataset}, {len(FLAGS.seeds)} seeds; shift: "
        f"{', '.join(FLAGS.shift_types)} at severities {', '.join(FLAGS.severities)}\n"
    )
    print(
        f"{'epochs':>6} {'method':24}{'alpha':>7}  {'accuracy %':22}{'ECE %':22}"
        f"{'ECE under shift %':22}{'NLL under shift':>16}  less pre-computed"
    )
    base: dict[tuple[int, float | None], Sample] = {}
    for row in rows():
        own = group(row)
        # Every run here is measured on clean and on shifted images.
        assert own.clean_sample and own.shift_sample
        clean, shift = own.clean_sample.intervals, own.shift_sample.intervals
        title = row.method + (f" before {row.rankings}" if row.rankings else "")
        line = f"{row.epochs:6} {title:24}{row.alpha or 0:7.3f}  "
        for found in (clean["accuracy"], clean["ece"], shift["ece"]):
            line += f"{shown(found):22}"
        line += f"{shift['nll'][0]:16.3f}"
        key = row.epochs, row.alpha
        if key in base:
            difference = own.shift_sample.difference(base[key], "ece")
            line += f"  {shown(difference)}"
        if row.method == "ar_adals" or key not in base:
            base[key] = own.shift_sample
        print(line, flush=True)


if __name__ == "__main__":
    app.run(main)
