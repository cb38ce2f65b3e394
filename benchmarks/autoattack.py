"""What AutoAttack and its parts cost, and what they leave standing.

    python -m benchmarks.autoattack --model_file=runs/cifar10-vanilla-0/model.keras \
        --dataset=cifar10 --images=500 --epsilons=8
    python -m benchmarks.autoattack ... --attack_norm=l2 --epsilons=128 --peer

Each attack runs alone on the first test images, then AutoAttack runs. A line has the
accuracy that is left, the seconds with and without compiling (the same call again), and
the images a second. `--peer` runs `torchattacks`'s
AutoAttack: a process of its own reads the same file with KERAS_BACKEND=torch. It needs
`pip install torch torchattacks` and a model of Keras's own layers. It has not been run
yet.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.process import hardware

ATTACKS = ("fgsm", "pgd", "apgd_ce", "apgd_t", "fab_t", "square", "autoattack")

# A program of its own: Keras has one backend in a process.
_PEER = """
import json, sys, time
import keras, numpy as np, torch, torchattacks

file, arrays, norm, epsilon = sys.argv[1:]
model, data = keras.saving.load_model(file), np.load(arrays)
layer = model.layers[-1]
softmax = getattr(layer, "activation", None) is keras.activations.softmax
if softmax:
    layer.activation = keras.activations.linear


class Classifier(torch.nn.Module):
    def forward(self, images):
        return model(images.permute(0, 2, 3, 1), training=False)


images = torch.tensor(data["images"]).permute(0, 3, 1, 2)
labels = torch.tensor(data["labels"])
classes = int(model.output_shape[-1])
attack = torchattacks.AutoAttack(
    Classifier(), norm={"linf": "Linf", "l2": "L2"}[norm], eps=float(epsilon),
    version="standard", n_classes=classes, seed=0,
)
device = "cuda" if torch.cuda.is_available() else "cpu"
begin, right = time.perf_counter(), 0
for first in range(0, len(images), 128):
    some = slice(first, first + 128)
    moved = attack(images[some].to(device), labels[some].to(device))
    right += int((Classifier()(moved).argmax(1).cpu() == labels[some]).sum())
print(json.dumps([right / len(images), time.perf_counter() - begin]))
"""


def measured(
    name: str, norm: str, model: Any, split: Any, epsilon: float
) -> tuple[float, ...]:
    """Return the accuracy that is left, the seconds of a first and of a second call."""
    from ar_adals_tf.evaluation.predictor import Predictor
    from ar_adals_tf.evaluation.under_attack import attacks_in_norm, evaluate_attacks

    clean = Predictor(model)(split, verbose=False)
    plain = name in ("fgsm", "pgd")
    (key,) = [name] if plain else attacks_in_norm([name], norm)
    seconds, accuracy = [], 0.0
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            arguments = ([model], split, clean, folder, [key], [epsilon])
            found = evaluate_attacks(*arguments, verbose=False)
            seconds.append(time.perf_counter() - begin)
            accuracy = found["by_attack"][key][f"{epsilon:g}"]["accuracy"]
    return accuracy, *seconds


def peers(file: Path, split: Any, norm: str, epsilon: float) -> tuple[float, float]:
    """Return what `torchattacks` leaves of the same images, and its seconds."""
    _, images, labels = next(iter(split.batches(len(split)).as_numpy_iterator()))
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "images.npz"
        np.savez(arrays, images=images, labels=labels)
        done = subprocess.run(
            [sys.executable, "-c", _PEER, file, arrays, norm, str(epsilon / 255)],
            env=os.environ | {"KERAS_BACKEND": "torch"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model_file", type=Path, required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--epsilons", default="8", help="over 255")
    parser.add_argument("--attack_norm", choices=("linf", "l2"), default="linf")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--peer", action="store_true", help="torchattacks beside it")
    args = parser.parse_args()

    from ar_adals_tf import datasets
    from ar_adals_tf.experiment.runs import load_model

    model = load_model(args.model_file)
    how = {"data_dir": args.data_dir, "limit_examples": args.images}
    split = datasets.load(args.dataset, splits=("test",), **how)["test"]
    print(hardware.describe_hardware())
    print(f"{len(split)} test images of {args.dataset}, {args.attack_norm}")
    print(
        f"{'':14}{'epsilon':>9}{'accuracy':>10}{'first s':>9}{'again s':>9}{'a s':>8}"
    )
    for epsilon in map(float, args.epsilons.split(",")):
        for name in args.attacks.split(","):
            if args.attack_norm == "l2" and name in ("fgsm", "pgd"):
                continue
            accuracy, first, again = measured(
                name, args.attack_norm, model, split, epsilon
            )
            print(
                f"{name:14}{epsilon:>6g}/255{100 * accuracy:>9.2f}%{first:>9.1f}"
                f"{again:>9.1f}{len(split) / again:>8.1f}",
                flush=True,
            )
        if args.peer:
            accuracy, seconds = peers(args.model_file, split, args.attack_norm, epsilon)
            print(
                f"{'torchattacks':14}{epsilon:>6g}/255{100 * accuracy:>9.2f}%"
                f"{seconds:>9.1f}{'':9}{len(split) / seconds:>8.1f}"
            )


if __name__ == "__main__":
    main()
