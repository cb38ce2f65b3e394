"""Seconds of the floors, the intervals and the measures without bins.

    python -m benchmarks.inference [--images=10000] [--draws=1000] [--repeats=5]

Random predictions of ten classes. The last rows are three runs of two methods on 20
sets of a shift.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags
from scipy import special

from ar_adals_tf import calibration

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 10_000, "How many images.", lower_bound=100)
flags.DEFINE_integer("draws", 1000, "How many draws.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Counted calls, after one to warm up.")


def main(argv: list[str]) -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(FLAGS.images, 10))
    p = special.softmax(logits, axis=1)
    labels = (p.cumsum(axis=1) > rng.random((FLAGS.images, 1))).argmax(axis=1)
    confidence, levels = p.max(axis=1), np.arange(FLAGS.images) % 10
    sharp = special.softmax(1.5 * logits, axis=1)
    runs = [[calibration.image_scores(labels, q)] * 3 for q in (p, sharp)]
    shift = [[calibration.stacked_scores([run[0]] * 20)] * 3 for run in runs]
    n = FLAGS.draws
    tasks: dict[str, Callable[[], object]] = {
        "calibration_floor": lambda: calibration.calibration_floor(confidence, draws=n),
        "floor_by_level, 10 levels": lambda: calibration.floor_by_level(
            confidence, levels, 10, draws=n
        ),
        "classwise_floor, 10 classes": lambda: calibration.classwise_floor(p, draws=n),
        "bootstrap_intervals": lambda: calibration.bootstrap_intervals(
            labels, p, draws=n
        ),
        "paired_difference of the ECE, 3 runs each": lambda: (
            calibration.paired_difference(*runs, "ece", draws=n)
        ),
        "smooth_calibration_error": lambda: calibration.smooth_calibration_error(
            labels, p
        ),
        "smooth_reliability, 200 draws": lambda: calibration.smooth_reliability(
            labels, p
        ),
        "decompose_nll": lambda: calibration.decompose_nll(labels, p),
        "intervals_of_runs, 3 runs, 20 sets": lambda: calibration.intervals_of_runs(
            shift[0], draws=n
        ),
        "paired_difference of the ECE, 3 runs, 20 sets": lambda: (
            calibration.paired_difference(*shift, "ece", draws=n)
        ),
    }
    print(f"{FLAGS.images:,} images, {n:,} draws")
    print(f"{'task':48}{'seconds (median)':>18}{'min':>8}{'max':>8}")
    for name, task in tasks.items():
        times = []
        for _ in range(FLAGS.repeats + 1):
            started = time.perf_counter()
            task()
            times.append(time.perf_counter() - started)
        middle = statistics.median(times[1:])
        print(f"{name:48}{middle:>18.3f}{min(times[1:]):>8.3f}{max(times[1:]):>8.3f}")


if __name__ == "__main__":
    app.run(main)
