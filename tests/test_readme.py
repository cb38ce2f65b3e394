"""The Python of the README runs as printed, in a script that has data and a model."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from ar_adals_tf import models

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def lines(code):
    return [line for line in code.splitlines() if line.strip()]


def classifier(seed=0):
    """A small trained classifier of probabilities."""
    return keras.Sequential(
        [models.build("small_cnn", (28, 28, 1), 10, seed=seed), keras.layers.Softmax()]
    )


@pytest.fixture
def script(fashion_small, tmp_path, monkeypatch):
    """The names that the README's script has, and its files."""
    monkeypatch.chdir(tmp_path)
    names = {"keras": keras}
    for name, split in {"train": "train", "val": "validation", "test": "test"}.items():
        images, labels = fashion_small[split]
        names[f"x_{name}"] = images[:600].astype(np.float32) / 255
        names[f"y_{name}"] = labels[:600]
    names["x_table"], names["y_table"] = load_breast_cancer(return_X_y=True)
    for split in ("train", "val"):
        for number, image in enumerate(np.uint8(names[f"x_{split}"][:200] * 255)):
            folder = tmp_path / "photos" / split / str(names[f"y_{split}"][number])
            folder.mkdir(parents=True, exist_ok=True)
            picture = keras.utils.array_to_img(image, scale=False)
            picture.convert("RGB").save(folder / f"{number}.png")
    vanilla = classifier()
    vanilla.compile("adam", "sparse_categorical_crossentropy")
    vanilla.fit(names["x_train"], names["y_train"], epochs=3, verbose=0)
    vanilla.save("vanilla.keras")
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


def test_the_lines_for_arrays_files_and_tables_train(script):
    code = BLOCKS[:3]
    assert [len(lines(block)) <= 6 for block in code] == [True] * 3
    for block in code:
        exec(block.replace("epochs=20", "epochs=6"), script)
    history = script["model"].history.history  # the table's
    assert len(history["val_ece"]) == 6 and "p/0" in history
    assert script["photo_model"].history.history["val_ece"][-1] < 1


def test_the_lines_for_a_trained_model_write_what_they_say(script):
    script["model"] = script["vanilla"]
    exec("import ar_adals_tf\n" + BLOCKS[3], script)
    calibrated = keras.models.load_model("calibrated.keras")
    rows = calibrated.predict(script["x_test"][:5], verbose=0)
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert "before" in Path("page/index.html").read_text()
    assert Path("diagram.png").read_bytes()[:4] == b"\x89PNG"


def test_the_pieces_calibrate_an_existing_script(script):
    assert len(lines(BLOCKS[4])) <= 15
    script["model"] = models.build("small_cnn", (28, 28, 1), 10, seed=1)
    exec(BLOCKS[4], script)
    assert len(script["train_index"]) == len(script["x_train"])
    p, history = script["smoothing"].p, script["model"].history.history
    assert p.min() < 1  # the least robust images' labels have been softened
    assert history["p/0"][0] == 1 and len(history["val_ece"]) == 20
