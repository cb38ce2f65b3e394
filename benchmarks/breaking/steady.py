"""What should not depend on chance: processes, threads, batches, order."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.breaking import hooks, processes
from benchmarks.breaking.compare import differences, read_arrays, read_weights
from benchmarks.breaking.jobs import JOBS, VANILLA, Arena, say
from benchmarks.breaking.tally import Tally

#: Further processes' surroundings: hash seed, language, time zone.
_SURROUNDINGS: tuple[dict[str, str], ...] = (
    {},
    {"PYTHONHASHSEED": "12345", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
    {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "America/New_York"},
)


def same_seed(arena: Arena, tries: int) -> Tally:
    """Train anew by real commands, and compare with a forked process."""
    tally = Tally()
    expected = arena.undisturbed("on the fly").folder
    for number in range(tries):
        folder = arena.prepared("on the fly")
        env = _SURROUNDINGS[number % len(_SURROUNDINGS)]
        command = JOBS["on the fly"].commands[0]
        ended = processes.start_plain(command, folder, env).end()
        wrong = differences(folder, expected)
        died = say(ended) if ended.status else None
        tally.tried(died, *wrong, kind="differs", how=f"{command} with {env}, {folder}")
    return tally


#: Numbers of threads: TensorFlow's variables, or cores that a process may use.
_THREADS: tuple[dict[str, Any], ...] = (
    {"env": {"TF_NUM_INTRAOP_THREADS": "1"}},
    {"env": {"TF_NUM_INTRAOP_THREADS": "7"}},
    {"env": {"TF_NUM_INTEROP_THREADS": "1"}},
    {"prepare": partial(hooks.use_cores, {0})},
)

ATTACKS = ("margin", "ddn", "deepfool")

NUM_LEVELS = 10


def _levels(path: Path) -> np.ndarray:
    """Return the levels of an index's images, in plain NumPy."""
    arrays = read_arrays(path)
    order = np.lexsort((arrays["ids"], arrays["distances"]))
    levels = np.empty(len(order), int)
    levels[order] = np.arange(len(order)) * NUM_LEVELS // len(order)
    return levels


def threads(arena: Arena, tries: int) -> Tally:
    """Index a trained model with other numbers of threads, and train with them.

    Levels have to be equal. Weights need not be; the note says whether they are.
    """
    tally = Tally()
    trained = arena.undisturbed("AR-AdaLS").folder
    folder = arena.copied("AR-AdaLS")
    base = ("--model_file=" + f"{VANILLA}/model.keras", "--limit_examples=200")

    def index(attack: str, name: str, **how: Any) -> np.ndarray:
        settings = ("--attack_iterations=20",) if attack == "ddn" else ()
        own = (*base, f"--attack={attack}", f"--output_file={name}.npz", *settings)
        command = processes.Command("compute_robustness", own)
        ended = processes.run(command, folder, **how)
        if ended.status:
            raise RuntimeError(say(ended))
        return _levels(folder / f"{name}.npz")

    expected = {attack: index(attack, attack) for attack in ATTACKS}
    equal, images = 0, 0
    for number, how in enumerate(_THREADS[:tries]):
        for attack in ATTACKS:
            moved = int(
                (index(attack, f"{attack}-{number}", **how) != expected[attack]).sum()
            )
            images += len(expected[attack])
            complaint = f"{moved} levels differ" if moved else None
            tally.tried(complaint, kind="levels", how=f"{attack} with {how}")
        again = arena.prepared("AR-AdaLS")
        processes.run(JOBS["AR-AdaLS"].commands[0], again, **how)
        here, there = (read_weights(f / "run/model.keras") for f in (again, trained))
        equal += all(np.array_equal(here[name], there[name]) for name in there)
        arena.forget(again)
    tally.note = (
        f"{images:,} images; trained weights equal with {equal} of "
        f"{len(_THREADS[:tries])} other numbers of threads"
    )
    return tally


_BATCHES = (1, 7, 64, 150, 256)

_SETTINGS: dict[str, dict[str, Any]] = {
    "margin": {},
    "ddn": {"steps": 20},
    "deepfool": {},
    "cw": {"iterations": 30, "search_steps": 2},
}


def _attack(model_file: str) -> None:
    """Attack the embedded test images in batches of all sizes, and permuted."""
    import keras

    from ar_adals_tf import attacks, datasets

    model = keras.models.load_model(model_file, compile=False)
    split = datasets.load("fashion_mnist_small", limit_examples=150, splits=("test",))
    images = split["test"].images.astype(np.float32) / np.float32(255)
    order = np.random.default_rng(0).permutation(len(images))
    found = {}
    for attack, settings in _SETTINGS.items():
        for size in _BATCHES:
            runner = attacks.prepare(attack, model, batch_size=size, **settings)
            found[f"{attack} {size}"] = runner(images).distances
        permuted = np.empty(len(images), np.float32)
        permuted[order] = runner(images[order]).distances
        found[f"{attack} permuted"] = permuted
    np.savez("distances.npz", **found)


def batches(arena: Arena, tries: int) -> Tally:
    """Compare the levels by batch size and order with those of the largest batch."""
    del tries  # all sizes are compared in one process
    tally, folder = Tally(), arena.copied("AR-AdaLS")
    ended = processes.call(_attack, folder, f"{VANILLA}/model.keras").end()
    if ended.status:
        tally.tried(say(ended), how="attacks by batch size")
        return tally
    found, equal = read_arrays(folder / "distances.npz"), 0

    def levels(distances: np.ndarray) -> np.ndarray:
        levels = np.empty(len(distances), int)
        levels[np.argsort(distances, kind="stable")] = (
            np.arange(len(distances)) * NUM_LEVELS // len(distances)
        )
        return levels

    for name, distances in found.items():
        reference = found[f"{name.split()[0]} {_BATCHES[-1]}"]
        if distances is reference:
            continue
        moved = int((levels(distances) != levels(reference)).sum())
        equal += np.array_equal(distances, reference)
        complaint = f"{moved} of {len(distances)} levels differ" if moved else None
        tally.tried(complaint, kind="levels", how=f"{name} against {_BATCHES[-1]}")
    tally.note = f"distances equal bit for bit in {equal}"
    arena.forget(folder)
    return tally
