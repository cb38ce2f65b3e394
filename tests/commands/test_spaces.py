"""`compute_robustness` for tables, pixels of 0 to 255 and tokens."""

import re

import keras
import numpy as np
import pytest

from ar_adals_tf.robustness import RobustnessIndex

RANDOM = np.random.default_rng(0)
TABLE = (RANDOM.normal(size=(20, 5)) * [1, 10, 100, 1, 1]).astype(np.float32)
TOKENS = RANDOM.integers(0, 9, (20, 4))
LABELS = np.arange(20) % 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with a model of a table and one of tokens, and their arrays."""
    folder = tmp_path_factory.mktemp("spaces")
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [keras.Input((5,)), keras.layers.Normalization(), keras.layers.Dense(3)]
    ).save(folder / "table.keras")
    keras.Sequential(
        [
            keras.Input((4,), dtype="int64"),
            keras.layers.Embedding(9, 3, name="emb"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    ).save(folder / "tokens.keras")
    np.savez(folder / "table.npz", images=TABLE, labels=LABELS)
    np.savez(folder / "tokens.npz", images=TOKENS, labels=LABELS)
    return folder


CASES = [
    ("table", "--bounds=none", {"bounds": None}, TABLE),
    pytest.param(
        *("table", "--bounds=-500,500", {"bounds": (-500, 500)}, TABLE),
        marks=pytest.mark.slow,
    ),
    ("table", "--bounds=data", {"bounds": "data"}, TABLE),
    pytest.param("tokens", "--at=emb", {"at": "emb"}, TOKENS, marks=pytest.mark.slow),
    ("tokens", "--at=emb --bounds=-2,2", {"at": "emb", "bounds": (-2, 2)}, TOKENS),
]


@pytest.mark.parametrize(("name", "flags", "settings", "inputs"), CASES)
def test_the_command_computes_what_python_does(
    name, flags, settings, inputs, files, run, tmp_path
):
    path = tmp_path / "index.npz"
    arguments = [
        f"--model_file={files}/{name}.keras",
        f"--arrays={files}/{name}.npz",
        "--attack=ddn",
        "--attack_iterations=10",
        *flags.split(),
    ]
    status, out, err = run("compute_robustness", *arguments, f"--output_file={path}")
    assert status == 0, err
    index = RobustnessIndex.load(path)
    expected = RobustnessIndex.compute(
        keras.saving.load_model(files / f"{name}.keras"),
        inputs,
        LABELS,
        attack="ddn",
        steps=10,
        dataset=f"{name}.npz",
        verbose=False,
        **settings,
    )
    np.testing.assert_array_equal(index.distances, expected.distances)
    own = ("settings", "digest", "unit", "dataset")
    assert [index.metadata[n] for n in own] == [expected.metadata[n] for n in own]
    assert index.metadata["unit"] in out
    again = run("compute_robustness", *arguments, f"--output_file={path}")
    assert again[0] == 0 and "found in" in again[1]
    status, out, _ = run("compute_robustness", *arguments, "--dry_run")
    assert status == 0 and "ddn takes at most 10" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--arrays={}/table.npz", "--bounds=0"], "must be two numbers such as 0,255"),
        (["--arrays={}/table.npz", "--bounds=a,b"], "must be two numbers such as"),
        (["--arrays={}/table.npz", "--bounds=1,0"], "low bound must be below"),
        (["--arrays={}/table.npz", "--at=emb"], "no layer 'emb'; layers to choose"),
        (["--bounds=0,255"], "--bounds and --at are for --arrays"),
        (["--arrays={}/table.npz"], "must lie in .0, 1."),
    ],
)
def test_what_cannot_be_is_one_sentence(flags, message, files, run, tmp_path):
    status, _, err = run(
        "compute_robustness",
        f"--model_file={files}/table.keras",
        "--attack=margin",
        f"--output_file={tmp_path}/index.npz",
        *(flag.format(files) for flag in flags),
    )
    assert status == 2
    last = err.strip().splitlines()[-1]  # below the progress bar
    assert last.startswith("error: ") and re.search(message, last)
