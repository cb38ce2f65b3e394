"""Which examples train, which validate and which test, decided by their ids alone.

The order and the parts depend on SHA-256 of an example's id. They are the same on every
machine, in any order of the files and with any version of NumPy.
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from ar_adals_tf.errors import InputError

#: What `--split_names` may name, and what these splits are called elsewhere.
ALIASES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}

#: A split that the data lack is a fifth of the training examples, and at most that.
MOST_HELD_OUT = 10_000


def split_positions(
    ids: np.ndarray, split_seed: int, num_first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide examples at random into `num_first` and the rest, by their ids.

    The first part has the examples with the smallest SHA-256 of seed and id.

    Returns:
        Two ascending int64 arrays of positions into `ids`, `(N,)` bytes.

    Example:
        >>> first, rest = split_positions(np.array([b"a", b"b", b"c", b"d"]), 0, 1)
        >>> first, rest
        (array([3]), array([0, 1, 2]))
    """
    keys = [hashlib.sha256(b"%d\0%s" % (split_seed, i)).digest() for i in ids.tolist()]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    return np.sort(order[:num_first]), np.sort(order[num_first:])


def mixed_order(ids: np.ndarray) -> np.ndarray:
    """Return the positions of ids, `(N,)` bytes, in the order of their SHA-256.

    Files are listed class by class. In this order the first examples are a fair sample
    of all, so a limit takes a part of each class.

    Example:
        >>> mixed_order(np.array([b"a", b"b", b"c"]))
        array([2, 1, 0])
    """
    keys = [hashlib.sha256(i).digest() for i in ids.tolist()]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def parse_split_names(text: str | None) -> dict[str, str]:
    """Return which of the data's splits are ours, from the flag `--split_names`.

    Raises:
        InputError: On text of another form.

    Example:
        >>> parse_split_names("train=extra,test=val")
        {'train': 'extra', 'test': 'val'}
    """
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    names = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    if not all(names.values()) or not set(names) <= set(ALIASES):
        raise InputError(
            "--split_names says which splits of the data train, validate and test, "
            f"such as train=extra,test=val; received {text!r}"
        )
    return names


def name_splits(
    there: Mapping[str, int] | set[str], given: str | None, what: str
) -> dict[str, str]:
    """Return the data's split for each of ours that it has; `train` is always one.

    Args:
        there: The data's own splits.
        given: The flag `--split_names`.
        what: The data, for the sentence.

    Raises:
        InputError: If a split that is named is not there, or if one serves twice, or
            if several are there and none of them is for training.

    Example:
        >>> name_splits({"train", "val"}, None, "photos")
        {'train': 'train', 'validation': 'val'}
        >>> name_splits({"full"}, None, "photos")
        {'train': 'full'}
    """
    names = parse_split_names(given)
    for theirs in names.values():
        if theirs not in there:
            raise InputError(
                f"--split_names names the split {theirs!r}, which {what} lacks; choose "
                f"from {', '.join(sorted(there))}"
            )
    if len(set(names.values())) < len(names):
        raise InputError(
            f"--split_names must name each split once; received {given!r}, and the "
            "same examples would both train and test"
        )
    for ours, aliases in ALIASES.items():
        free = [a for a in aliases if a in there and a not in names.values()]
        if free and ours not in names:
            names[ours] = free[0]
    if "train" not in names and len(there) == 1:
        names = {"train": next(iter(there))}
    if "train" not in names:
        # Not the test split: its examples would be divided among training and tests.
        others = sorted(set(there) - {names.get("test")}) or ["NAME"]
        raise InputError(
            f"{what} has no split called train, only {', '.join(sorted(there))}; say "
            f"which one trains, such as --split_names=train={others[0]}"
        )
    return {ours: names[ours] for ours in ALIASES if ours in names}


def part_sizes(
    counts: Mapping[str, int], validation_examples: int | None, what: str
) -> dict[str, int]:
    """Return how many examples train, validate and test.

    A test split that the data lack is a fifth of the training examples, at most 10,000.
    So is, of the rest, a validation split that they lack.

    Args:
        counts: The sizes of the splits that the data have, `train` at least.
        validation_examples: Another size of a validation split that they lack.
        what: The data, for the sentence.

    Raises:
        InputError: If a part would be empty, or if the size cannot be.

    Example:
        >>> part_sizes({"train": 100}, None, "photos")
        {'train': 64, 'validation': 16, 'test': 20}
    """
    sizes = dict(counts)
    if "test" not in sizes:
        sizes["test"] = _held_out(sizes["train"])
        sizes["train"] -= sizes["test"]
    if "validation" not in sizes:
        available = sizes["train"]
        asked = validation_examples
        if asked is not None and not 0 <= asked < available:
            raise InputError(
                f"validation_examples must be at least 0 and below the {available} "
                f"training examples that {what} has to divide; received {asked}; give "
                "a smaller number"
            )
        sizes["validation"] = _held_out(available) if asked is None else asked
        sizes["train"] -= sizes["validation"]
    elif validation_examples not in (None, sizes["validation"]):
        raise InputError(
            f"{what} has a validation split of its own, of {sizes['validation']} "
            f"examples; received --validation_examples={validation_examples}; leave it "
            "out"
        )
    for name, size in sizes.items():
        if not size and not (name == "validation" and validation_examples == 0):
            raise InputError(
                f"{what} has too few examples: none is left for the {name} split (of "
                f"{sum(sizes.values())} in all); add some"
            )
    return {name: sizes[name] for name in ALIASES}


def _held_out(count: int) -> int:
    return min(round(count / 5), MOST_HELD_OUT)


def divide(
    ids: np.ndarray,
    counts: Mapping[str, int],
    sizes: Mapping[str, int],
    split_seed: int,
) -> dict[str, np.ndarray]:
    """Return which of the training examples each split that the data lack gets.

    The test examples do not depend on the seed, so that runs with other validation
    examples are measured on the same test set.

    Args:
        ids: `(N,)` bytes, of the data's own training split.
        counts: The sizes of the splits that the data have.
        sizes: From `part_sizes`.
        split_seed: Seed of the division into training and validation examples.

    Returns:
        Ascending positions into `ids`, for `train` and each split that is made.
    """
    parts, rest = {}, np.arange(len(ids))
    if "test" not in counts:
        test, others = split_positions(ids, 0, sizes["test"])
        parts["test"], rest = rest[test], rest[others]
    if "validation" not in counts:
        # Their hashes have a word more than those of the test examples.
        named = np.array([b"validation\0" + i for i in ids[rest].tolist()])
        first, others = split_positions(named, split_seed, sizes["validation"])
        parts["validation"], rest = rest[first], rest[others]
    return parts | {"train": rest}
