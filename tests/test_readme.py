"""The Python of the README runs as printed, in a script that has images and a model."""

import re
from pathlib import Path

import keras
import numpy as np

from ar_adals_tf import models

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_lines_calibrate_an_existing_script(
    fashion_small, tmp_path, monkeypatch
):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S)[1]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15

    monkeypatch.chdir(tmp_path)
    (x_train, y_train), (x_val, y_val) = (
        (images[:600].astype(np.float32) / 255, labels[:600])
        for images, labels in (fashion_small["train"], fashion_small["validation"])
    )
    vanilla = models.build("small_cnn", (28, 28, 1), 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    vanilla.compile("adam", loss)
    vanilla.fit(x_train, y_train, epochs=3, verbose=0)
    vanilla.save("vanilla.keras")
    script = {
        **{"x_train": x_train, "y_train": y_train, "x_val": x_val, "y_val": y_val},
        "model": models.build("small_cnn", (28, 28, 1), 10, seed=1),
    }
    exec(code, script)

    assert len(script["train_index"]) == len(x_train)
    p, history = script["smoothing"].p, script["model"].history.history
    assert p.min() < 1  # the least robust images' labels have been softened
    assert history["p/0"][0] == 1 and len(history["val_ece"]) == 20
