"""The Python of the documents, and what it finds: data, models and files of a script.

    python documented.py README.md

runs each block of the document in the working folder, with the installed package.
"""

import re
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer

import ar_adals_tf
from ar_adals_tf import datasets, models


def python_blocks(path: Path) -> list[str]:
    """Return the blocks of Python of a document, in their order."""
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.S)


def classifier(seed: int = 0) -> Any:
    """Return a small classifier of probabilities."""
    return keras.Sequential(
        [models.build("small_cnn", (28, 28, 1), 10, seed=seed), keras.layers.Softmax()]
    )


def script_names(folder: Path, count: int = 600) -> dict[str, Any]:
    """Return the names that a document's script has, and write its files.

    `vanilla` is trained, `model` is not.
    """
    names: dict[str, Any] = {"ar_adals_tf": ar_adals_tf, "keras": keras, "np": np}
    splits = datasets.load("fashion_mnist_small", limit_examples=count)
    for name, split in {"train": "train", "val": "validation", "test": "test"}.items():
        names[f"x_{name}"] = splits[split].images.astype(np.float32) / 255
        names[f"y_{name}"] = splits[split].labels
    names["x_table"], names["y_table"] = load_breast_cancer(return_X_y=True)
    for split in ("train", "val"):
        for number, image in enumerate(np.uint8(names[f"x_{split}"][:200] * 255)):
            place = folder / "photos" / split / str(names[f"y_{split}"][number])
            place.mkdir(parents=True, exist_ok=True)
            picture = keras.utils.array_to_img(image, scale=False)
            picture.convert("RGB").save(place / f"{number}.png")
    vanilla = classifier()
    vanilla.compile("adam", "sparse_categorical_crossentropy")
    vanilla.fit(names["x_train"], names["y_train"], epochs=3, verbose=0)
    vanilla.save(folder / "vanilla.keras")
    photo_model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    return names | {
        "vanilla": vanilla,
        "model": classifier(seed=1),
        "photo_model": photo_model,
    }


def run_blocks(path: Path, names: dict[str, Any], epochs: int) -> None:
    """Run the blocks of a document one after another, as one script, in few epochs."""
    for block in python_blocks(path):
        _run(block, names, epochs)


def run_apart(path: Path, names: dict[str, Any], epochs: int) -> None:
    """Run each block of a document for itself, with a model as its loss expects."""
    for block in python_blocks(path):
        if "from_logits=True" in block:
            model = models.build("small_cnn", (28, 28, 1), 10, seed=1)
        else:
            model = classifier(seed=1)
        _run(block, names | {"model": model}, epochs)


def _run(block: str, names: dict[str, Any], epochs: int) -> None:
    exec(re.sub(r"\bepochs=20\b", f"epochs={epochs}", block), names)


if __name__ == "__main__":
    for document in map(Path, sys.argv[1:]):
        run_apart(document, script_names(Path.cwd()), epochs=2)
        print(f"{document}: {len(python_blocks(document))} blocks have run")
