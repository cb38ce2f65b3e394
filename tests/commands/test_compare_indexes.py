"""Two indexes side by side, against levels and ranks counted by hand."""

import re

import numpy as np
import pytest
from PIL import Image

from ar_adals_tf.errors import InputError
from ar_adals_tf.indexing import agreement
from ar_adals_tf.robustness import RobustnessIndex
from benchmarks.breaking import processes
from benchmarks.breaking.processes import Command

N = 60


def index(distances, ids=None, **metadata):
    ids = np.arange(N) if ids is None else ids
    return RobustnessIndex(
        ids, distances.astype(np.float32), np.isfinite(distances), metadata
    )


@pytest.fixture
def pair(rng):
    """Return two indexes that disagree somewhat, and their distances by id."""
    first = rng.uniform(size=N)
    second = first + rng.normal(scale=0.05, size=N).clip(-0.1, 0.1) + 0.1
    order = rng.permutation(N)
    return (
        index(first, attack="cw", dataset="mnist", split="test", seconds=12.5),
        index(second[order], order, attack="margin", seconds=0.25),
        first.astype(np.float32),
        second.astype(np.float32),
    )


def by_hand(first, second, levels):
    """Return Spearman's rank correlation, and the levels of each image."""
    ranks = [[sorted(d).index(value) for value in d] for d in (first, second)]
    apart = sum((a - b) ** 2 for a, b in zip(*ranks, strict=True))
    spearman = 1 - 6 * apart / (N * (N**2 - 1))
    return spearman, [[r * levels // N for r in own] for own in ranks]


@pytest.mark.parametrize("levels", [1, 4, 10])
def test_agreement_is_what_counting_gives(pair, levels):
    first, second, *distances = pair
    spearman, (rows, columns) = by_hand(*distances, levels)
    apart = [abs(a - b) for a, b in zip(rows, columns, strict=True)]
    found = agreement(first, second, levels)
    assert found.spearman == pytest.approx(spearman)
    assert found.same_level == sum(a == 0 for a in apart) / N
    assert found.within_one == sum(a <= 1 for a in apart) / N
    pairs = list(zip(rows, columns, strict=True))
    for row in range(levels):
        for column in range(levels):
            assert found.table[row, column] == pairs.count((row, column))


def test_indexes_of_other_images_are_refused(pair):
    first = pair[0]
    other = index(np.linspace(0, 1, N), np.arange(N) + 3)
    with pytest.raises(InputError, match="3 of 60 ids of the second are not in the fi"):
        agreement(first, other)


def command(folder, *arguments):
    return processes.run(Command("compare_indexes", arguments), folder)


def test_the_command_prints_and_draws(pair, tmp_path):
    for name, one in zip(("cw", "margin"), pair, strict=False):
        one.save(tmp_path / f"{name}.npz")
    picture = tmp_path / "agreement.png"
    done = command(
        tmp_path,
        f"--indexes={tmp_path / 'cw.npz'},{tmp_path / 'margin.npz'}",
        "--num_levels=4",
        f"--output_file={picture}",
    )
    assert done.status == 0, done.err
    assert re.search(r"cw on mnist test: 60 examples, .*; took 12\.5 s", done.out)
    assert "took 0.2 s" in done.out
    spearman, (rows, columns) = by_hand(*pair[2:], 4)
    same = np.mean(np.array(rows) == columns)
    assert f"Spearman {spearman:.4f}; of 4 levels the same one {same:.1%}" in done.out
    assert min(Image.open(picture).size) > 200


def test_the_command_says_what_is_wrong(pair, tmp_path):
    pair[0].save(tmp_path / "cw.npz")
    for indexes, message in (
        (tmp_path / "cw.npz", "--indexes needs two index files"),
        (f"{tmp_path / 'cw.npz'},{tmp_path / 'no.npz'}", "there is no robustness ind"),
    ):
        done = command(tmp_path, f"--indexes={indexes}")
        assert done.status == 2 and done.err.startswith("error: ")
        assert message in done.err and done.err.count("\n") == 1
