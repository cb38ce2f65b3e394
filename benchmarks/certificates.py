"""What certificates cost: noisy copies a second, by batch size, and the attack.

    python -m benchmarks.certificates --model_file=runs/cifar10-vanilla-0/model.keras \
        --dataset=cifar10 --images=20 --samples=1000 --batch_sizes=60,120,240,500

A line for each batch size has the seconds of a first call, which compiles, and of a
second one, the copies a second, and the images a second with 1,000 and with the paper's
100,000 copies. Above it: the plain model's images a second at the same time, the most
that copies can reach. `--attack` times the attack on the smoothed classifier too.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.process import hardware

#: Copies that choose an image's class, as evaluate has them by default.
SELECTION = 100


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and its seconds."""
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model_file", type=Path, required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--batch_sizes", default="", help="default: the device's own")
    parser.add_argument("--attack", action="store_true")
    args = parser.parse_args()

    from ar_adals_tf import datasets
    from ar_adals_tf.certification.drawing import NoisyCopies
    from ar_adals_tf.evaluation.smoothed_attack import SmoothedAttack
    from ar_adals_tf.experiment.runs import load_model
    from ar_adals_tf.outputs import logits_fn, num_classes

    model = load_model(args.model_file)
    how = {"data_dir": args.data_dir, "limit_examples": args.images}
    split = datasets.load(args.dataset, splits=("test",), **how)["test"]
    some = next(iter(split.batches(args.images).as_numpy_iterator()))
    print(hardware.describe_hardware())
    print(f"{len(some[0])} test images of {args.dataset}, {args.samples:,} copies each")
    rate = plain_rate(logits_fn(model), some[1])
    print(f"the plain model: {rate:,.0f} images a second, in batches of 500")
    print(
        f"{'batch':>7}{'first s':>9}{'again s':>9}{'copies/s':>10}"
        f"{'images/s, 1,000':>17}{'100,000':>10}"
    )
    total = len(some[0]) * (SELECTION + args.samples)
    copies = votes = None
    for text in args.batch_sizes.split(","):
        copies = NoisyCopies(
            [model], num_classes(model), batch_size=int(text) if text else None
        )
        arguments = (*some, args.sigma, (SELECTION, args.samples))
        _, first = timed(lambda a=arguments, c=copies: c(*a))  # type: ignore[misc]
        votes, again = timed(lambda a=arguments, c=copies: c(*a))  # type: ignore[misc]
        speed = total / again
        few, many = (speed / (SELECTION + n) for n in (1000, 100_000))
        print(
            f"{text or 'own':>7}{first:>9.1f}{again:>9.1f}{speed:>10,.0f}"
            f"{few:>17.2f}{many:>10.4f}",
            flush=True,
        )
    if args.attack and copies is not None and votes is not None:
        attack = SmoothedAttack([model], copies, args.sigma, 0.001, 0)
        found, first = timed(lambda: attack(some[0], some[1], votes))
        _, again = timed(lambda: attack(some[0], some[1], votes))
        print(
            f"the attack: {first:.1f} s with compiling, {again:.1f} s again, "
            f"{len(some[0]) / again:.2f} images a second, "
            f"{int(found.found.sum())} of {len(some[0])} changed"
        )


def plain_rate(logits: Callable[[Any], Any], images: np.ndarray) -> float:
    """Return how many images a second the model itself predicts, once compiled."""
    import tensorflow as tf

    predict = tf.function(logits, autograph=False)
    batch = tf.constant(images[np.arange(500) % len(images)])
    predict(batch)
    _, seconds = timed(lambda: [predict(batch).numpy() for _ in range(4)])
    return 2000 / seconds


if __name__ == "__main__":
    main()
