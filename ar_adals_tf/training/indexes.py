"""The robustness indexes that a run cuts its levels from: found, or made."""

from pathlib import Path

import keras

from ar_adals_tf.datasets.splits import ArraySplit, Split, example_ids
from ar_adals_tf.evaluation.gallery import keep_gallery
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import compute_index, find_test_index, index_path
from ar_adals_tf.indexing import found_or_made
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.controls import control_index


def level_indexes(
    plan: Plan, vanilla: keras.Model | None
) -> dict[str, RobustnessIndex]:
    """Find or make what the levels of every split are cut from.

    There is nothing yet where the model in training makes its levels. A single level
    is cut from nothing, so training and validation images are then not attacked.

    Levels of the test set are used only for measuring. They always come from
    robustness, so that all runs are measured on the same levels; a run that attacks
    nothing takes them from an index that is there already, or leaves them out.

    Raises:
        InputError: If an index that is there is damaged, or of another model, attack
            or set of images.
    """
    if plan.config.own_levels:
        return {}
    leveled = [] if plan.config.num_levels == 1 else ["train", "validation"]
    if plan.config.levels_from == "robustness":
        names = [name for name in plan.loaded if name in (*leveled, "test")]
        folder = plan.vanilla_folder
        indexes = {n: _robustness(plan, folder, n, vanilla) for n in names}
    else:
        indexes = {name: _control(plan, name, vanilla) for name in leveled}
        digest = plan.loaded["test"].digest()
        found = find_test_index(plan.folder, plan.config, digest)
        if plan.config.verbose:
            print(*found.words, sep="\n")
        if found.index is not None:
            indexes["test"] = found.index
    if leveled and "selection" in plan.splits:
        kept = example_ids(plan.splits["validation"])
        indexes["validation"] = indexes["validation"].subset(kept)
    return indexes


def own_test_levels(plan: Plan, model: keras.Model) -> RobustnessIndex:
    """Find or compute the test images' index under the run's own model."""
    return _robustness(plan, plan.folder, "test", model)


def _robustness(
    plan: Plan, folder: Path, name: str, model: keras.Model
) -> RobustnessIndex:
    """Find or compute a split's robustness index under the model of a folder."""
    config, split = plan.config, plan.loaded[name]
    attack, settings = str(config.attack), config.attack_settings
    path = index_path(folder, attack, settings, name)
    say = print if config.verbose else lambda _: None

    def find() -> RobustnessIndex:
        index = RobustnessIndex.load(path)
        _verify(index, split, model, split=name, attack=attack)
        say(f"found {path}: {index}")
        return index

    def make() -> RobustnessIndex:
        say(f"computing {path}")
        index = compute_index(config, path, model, split)
        say(f"{index}")
        return index

    index = found_or_made(path, find, make)
    if name == "test":
        keep_gallery(path, index, lambda: model, split)
    return index


def _control(plan: Plan, name: str, vanilla: keras.Model | None) -> RobustnessIndex:
    """Find or compute an index of a split by something else than robustness."""
    config, split = plan.config, plan.loaded[name]
    kind = str(config.levels_from)
    settings = {"seed": config.seed} if kind == "random" else {}
    path = index_path(plan.vanilla_folder, kind, settings, name)

    def find() -> RobustnessIndex:
        index = RobustnessIndex.load(path)
        _verify(index, split, vanilla, split=name)
        return index

    def make() -> RobustnessIndex:
        index = control_index(kind, split, vanilla, config.seed, config.verbose)
        index.save(path)
        return index

    return found_or_made(path, find, make)


def _verify(
    index: RobustnessIndex, images: Split, vanilla: keras.Model | None, **expected: str
) -> None:
    """Refuse an index of other images, of another model, or with a wrong id."""
    index.verify(vanilla, digest=images.digest(), **expected)
    if isinstance(images, ArraySplit):  # other splits must be read for their ids
        index.verify_examples(images.ids, images.labels)
