"""The Python of the README runs as printed, in a script that has data and a model."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.documented import classifier, python_blocks, script_names

README = Path(__file__).parents[1] / "README.md"
SCRIPTS = README.parent / "docs" / "scripts.md"
BLOCKS = python_blocks(README)


def lines(code):
    return [line for line in code.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def made(tmp_path_factory, thin_network):
    """A folder with the files that the README's script has, and its names."""
    folder = tmp_path_factory.mktemp("script")
    return folder, script_names(folder, count=200)


@pytest.fixture
def script(made, tmp_path, monkeypatch):
    """The names that the README's script has, and its files in the working folder."""
    folder, names = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return names | {"model": classifier(seed=1)}


def on_the_scripts_page(words):
    """The block with these words on the page about one's own script."""
    (block,) = (code for code in python_blocks(SCRIPTS) if words in code)
    return block


def test_the_lines_for_arrays_files_and_tables_train(script):
    """Those for files and tables are on the page about one's own script."""
    arrays, _ = BLOCKS
    files, table = map(on_the_scripts_page, ("photo_model,", "fit(model, x_table"))
    assert [len(lines(block)) <= 6 for block in (arrays, files, table)] == [True] * 3
    for block in (arrays, files, table):
        exec(block.replace("epochs=20", "epochs=3"), script)
    history = script["model"].history.history  # the table's
    assert len(history["val_ece"]) == 3 and "p/0" in history
    assert script["photo_model"].history.history["val_ece"][-1] < 1


def test_the_lines_for_a_trained_model_write_what_they_say(script):
    script["model"] = script["vanilla"]
    exec("import ar_adals_tf\n" + BLOCKS[1], script)
    calibrated = keras.models.load_model("calibrated.keras")
    rows = calibrated.predict(script["x_test"][:5], verbose=0)
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert "before" in Path("page/index.html").read_text()
    assert Path("diagram.png").read_bytes()[:4] == b"\x89PNG"


def test_the_pieces_calibrate_an_existing_script(script):
    """They are on the page about one's own script."""
    block = on_the_scripts_page("[ARAdaLS(")
    assert len(lines(block)) <= 15
    script["tf"] = tf
    exec(block, script)
    assert len(script["train_index"]) == len(script["x_train"])
    p, history = script["smoothing"].p, script["model"].history.history
    assert p.min() < 1  # the least robust images' labels have been softened
    assert history["p/0"][0] == 1 and len(history["val_ece"]) == 20
