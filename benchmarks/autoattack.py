"""What AutoAttack and its parts cost, and what they leave standing.

    python -m benchmarks.autoattack --model_file=runs/cifar10-vanilla-0/model.keras \
        --dataset=cifar10 --images=500 --epsilons=8
    python -m benchmarks.autoattack ... --attack_norm=l2 --epsilons=128 --peer

Each attack runs alone on the first test images, then AutoAttack runs. A line has the
accuracy that is left, the seconds by the clock and of processor time, with compiling,
and the images a second. `--peer` runs `torchattacks`'s AutoAttack: a process of its own
reads the same file with KERAS_BACKEND=torch. It needs `pip install torch torchattacks`
and a model of Keras's own layers. Its APGD and FAB would make 10 steps; here they make
the paper's 100, as ours do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.process import hardware

ATTACKS = ("fgsm", "pgd", "apgd_ce", "apgd_t", "fab_t", "square", "autoattack")

PEER = ("torch", "torchattacks")

PEER_STEPS = 100  # its own default is 10

# A program of its own: Keras has one backend in a process.
_PEER = """
import json, sys, time
import keras, numpy as np, torch, torchattacks

file, arrays, norm, epsilon, steps = sys.argv[1:]
data = np.load(arrays)
# Without training it is no matter, and this backend refuses it.
kind = keras.layers.BatchNormalization
made = kind.from_config
kind.from_config = lambda config: made(config | {"synchronized": False})


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = keras.saving.load_model(file)
        layer = self.inner.layers[-1]
        if getattr(layer, "activation", None) is keras.activations.softmax:
            layer.activation = keras.activations.linear

    def forward(self, images):
        return self.inner(images.permute(0, 2, 3, 1), training=False)


model = Classifier()
images = torch.tensor(data["images"]).permute(0, 3, 1, 2).contiguous()
labels = torch.tensor(data["labels"]).long()
attack = torchattacks.AutoAttack(
    model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=float(epsilon),
    version="standard", n_classes=int(model.inner.output_shape[-1]), seed=0,
)
for part in attack._autoattack.attacks[:3]:
    part.steps = int(steps)
begin, processor, right = time.perf_counter(), time.process_time(), 0
for some, true in zip(images.split(512), labels.split(512)):
    some, true = some.to(attack.device), true.to(attack.device)
    moved = attack(some, true)
    far = (moved - some).flatten(1).norm(float("inf") if norm == "linf" else 2, dim=1)
    assert far.max() <= float(epsilon) * 1.001, far.max()
    with torch.no_grad():
        right += int((model(moved).argmax(1) == true).sum())
seconds = time.perf_counter() - begin, time.process_time() - processor
print(json.dumps([right / len(images), *seconds]))
"""


class Run(NamedTuple):
    """What an attack leaves, and what it takes."""

    accuracy: float
    seconds: float
    processor: float

    def line(self, name: str, epsilon: float, images: int) -> str:
        """Return the run as a line of the table."""
        return (
            f"{name:14}{epsilon:>6g}/255{100 * self.accuracy:>9.2f}%"
            f"{self.seconds:>9.1f}{self.processor:>9.1f}{images / self.seconds:>8.1f}"
        )


def measured(
    name: str, norm: str, model: Any, split: Any, clean: Any, epsilon: float
) -> Run:
    """Run one attack of ours."""
    from ar_adals_tf.evaluation.under_attack import attacks_in_norm, evaluate_attacks

    plain = name in ("fgsm", "pgd")
    (key,) = [name] if plain else attacks_in_norm([name], norm)
    with tempfile.TemporaryDirectory() as folder:
        begin, processor = time.perf_counter(), time.process_time()
        arguments = ([model], split, clean, folder, [key], [epsilon])
        found = evaluate_attacks(*arguments, verbose=False)
        seconds = time.perf_counter() - begin, time.process_time() - processor
    return Run(found["by_attack"][key][f"{epsilon:g}"]["accuracy"], *seconds)


def peers(file: Path, split: Any, norm: str, epsilon: float) -> Run:
    """Run `torchattacks` on the same images."""
    _, images, labels = next(iter(split.batches(len(split)).as_numpy_iterator()))
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "images.npz"
        np.savez(arrays, images=images, labels=labels)
        given: list[str | Path] = [
            file,
            arrays,
            norm,
            str(epsilon / 255),
            str(PEER_STEPS),
        ]
        done = subprocess.run(
            [sys.executable, "-c", _PEER, *given],
            env=os.environ | {"KERAS_BACKEND": "torch"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return Run(*json.loads(done.stdout.splitlines()[-1]))


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
    try:
        peer = " ".join(f"{n} {version(n)}" for n in PEER) if args.peer else ""
    except PackageNotFoundError as missing:
        parser.error(f"--peer needs `pip install {' '.join(PEER)}`; absent: {missing}")

    from ar_adals_tf import datasets
    from ar_adals_tf.evaluation.predictor import Predictor
    from ar_adals_tf.experiment.runs import load_model

    model = load_model(args.model_file)
    how = {"data_dir": args.data_dir, "limit_examples": args.images}
    split = datasets.load(args.dataset, splits=("test",), **how)["test"]
    print(hardware.describe_hardware(), peer)
    print(f"{len(split)} test images of {args.dataset}, {args.attack_norm}")
    clean = Predictor(model)(split, verbose=False)
    right = (clean.logits.argmax(axis=1) == clean.labels).mean()
    print(f"accuracy of the clean images: {100 * right:.2f}%")
    print(f"{'':14}{'epsilon':>10}{'accuracy':>10}{'seconds':>9}{'CPU s':>9}{'a s':>8}")
    for epsilon in map(float, args.epsilons.split(",")):
        for name in filter(None, args.attacks.split(",")):
            if args.attack_norm == "l2" and name in ("fgsm", "pgd"):
                continue
            run = measured(name, args.attack_norm, model, split, clean, epsilon)
            print(run.line(name, epsilon, len(split)), flush=True)
        if args.peer:
            run = peers(args.model_file, split, args.attack_norm, epsilon)
            print(run.line("torchattacks", epsilon, len(split)), flush=True)


if __name__ == "__main__":
    main()
