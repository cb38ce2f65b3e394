"""A user's arrays in an `.npz` file: images or vectors, their labels, their range.

The file has `x_train` and `y_train`, and may have `x_validation`, `y_validation`,
`x_test`, `y_test` and `class_names`. Splits may have the other names of
`division.ALIASES`, such as `x_val`. Inputs are `(N, height, width[, channels])` or
`(N, features)`. A model sees numbers in [0, 1]: images are divided by their range, and
each feature of a table by its own range in the file.
"""

import hashlib
import math
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ar_adals_tf.datasets.division import ALIASES
from ar_adals_tf.errors import InputError
from ar_adals_tf.reading import not_whole, read_npz

_MEND = (
    "make it with np.savez(file, x_train=..., y_train=..., x_test=..., y_test=...), "
    "and the labels and class_names as whole numbers and text, not as objects"
)


@dataclass(frozen=True)
class Header:
    """What is known of a file of arrays before its inputs are read.

    Attributes:
        path: The file.
        shape: Of one input: `(height, width, channels)` or `(features,)`.
        class_names: In the order of the labels.
        counts: The number of examples in each split that the file has.
        labels: By split `(N,)` int64.
        digest: A digest of what the file holds, from the checksums of its arrays.
        called: What the file calls each of these splits, such as `val`.
    """

    path: Path
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    counts: Mapping[str, int]
    labels: Mapping[str, np.ndarray]
    digest: str
    called: Mapping[str, str]


def read_header(path: str | Path) -> Header:
    """Read the labels of a file, and of its inputs the shapes alone.

    Raises:
        InputError: If the file is absent or damaged, if an array lacks or does not fit
            or belongs to no split, or if there are fewer than two classes.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no file of arrays {path}; {_MEND}")
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {one.filename.removesuffix(".npy"): one for one in archive.filelist}
            shapes = {name: _shape(archive, one) for name, one in parts.items()}
            small = {
                name: np.load(archive.open(one), allow_pickle=False)
                for name, one in parts.items()
                if name.startswith("y_") or name == "class_names"
            }
    except Exception as error:  # one wrong byte can make NumPy raise nearly anything
        raise not_whole(path, "file of arrays", error, _MEND) from error
    called = _called(path, list(parts))
    for name in called.values():
        _check_shapes(path, name, called["train"], shapes, small)
    given = {name: small[f"y_{own}"] for name, own in called.items()}
    class_names, labels = _labels(path, called, given, small.get("class_names"))
    shape = shapes[f"x_{called['train']}"][1:]
    # Versions before passed over x_val: runs of theirs had another division.
    plain = {f"{a}_{own}": f"{a}_{n}" for n, own in called.items() for a in "xy"}
    content = sorted(
        (plain.get(n, n), one.CRC, one.file_size) for n, one in parts.items()
    )
    return Header(
        path,
        (*shape, 1) if len(shape) == 2 else shape,
        class_names,
        {name: len(found) for name, found in labels.items()},
        labels,
        hashlib.sha256(repr(content).encode()).hexdigest(),
        called,
    )


def parse_range(text: str | None) -> tuple[float, float] | None:
    """Return the ends of the flag `--input_range`.

    Raises:
        InputError: If it is not two numbers, the lower one first.

    Example:
        >>> parse_range("0,255")
        (0.0, 255.0)
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (low < high and np.isfinite([low, high]).all()):
        raise InputError(
            "--input_range must be two numbers, the lower one first, such as 0,255; "
            f"received {text!r}"
        )
    return low, high


def ranges(
    header: Header, inputs: Mapping[str, np.ndarray], given: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest value of the inputs: two numbers, or of a feature.

    Images have one range: `given`, or 0 to 255 of whole numbers and 0 to 1 of floats. A
    table has `given`, or each feature's own range over all splits of the file.

    Raises:
        InputError: If values are not finite, or lie outside the range, or fill less
            than a fiftieth of it.
    """
    for name, array in inputs.items():
        _check_finite(header.path, name, array)
    low = np.min([array.min(axis=0) for array in inputs.values()], axis=0)
    high = np.max([array.max(axis=0) for array in inputs.values()], axis=0)
    if len(header.shape) == 1 and given is None:
        return low.astype(np.float64), high.astype(np.float64)
    whole = all(array.dtype.kind in "iub" for array in inputs.values())
    least, most = parse_range(given) or ((0.0, 255.0) if whole else (0.0, 1.0))
    found = float(low.min()), float(high.max())
    said = f"--input_range={least:g},{most:g}"
    values = (
        f"the inputs of {header.path} have values from {found[0]:g} to {found[1]:g}"
    )
    if found[0] < least or found[1] > most:
        likely = "0,255" if found[0] >= 0 and 1 < found[1] <= 255 else "LOW,HIGH"
        raise InputError(f"{values}, outside {said}; give --input_range={likely}")
    if found[1] - found[0] < (most - least) / 50:
        raise InputError(
            f"{values}, next to nothing of {said}; give --input_range="
            + ("0,1" if found[0] >= 0 and found[1] <= 1 else "LOW,HIGH")
        )
    return np.array(least), np.array(most)


def scaled(array: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return inputs as what a model sees in [0, 1]: uint8 over 255, or float32.

    A feature that is the same everywhere becomes 0.

    Example:
        >>> scaled(np.array([[0.0], [127.0]]), np.float64(0), np.float64(255))
        array([[  0],
               [127]], dtype=uint8)
        >>> scaled(np.array([[2.0, 7.0]]), np.array([0.0, 7.0]), np.array([4.0, 7.0]))
        array([[0.5, 0. ]], dtype=float32)
    """
    if low.ndim == 0 and (low, high) == (0, 255) and (array == np.rint(array)).all():
        return array.astype(np.uint8)
    width = np.where(high > low, high - low, 1.0)
    return ((array - low) / width).astype(np.float32)


def read_inputs(header: Header) -> dict[str, np.ndarray]:
    """Read the inputs of all splits, `(N, *shape)` numbers."""
    names = {split: f"x_{own}" for split, own in header.called.items()}
    arrays = read_npz(header.path, list(names.values()), "file of arrays", _MEND)
    return {n: arrays[own].reshape(-1, *header.shape) for n, own in names.items()}


def _shape(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> tuple[int, ...]:
    """Return the shape of an array without reading it."""
    with archive.open(part) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, kind = read(file)
    if kind.kind not in "fiub" and part.filename.startswith("x_"):
        raise InputError(f"{part.filename} holds {kind}, not numbers")
    return shape


def _called(path: Path, parts: Sequence[str]) -> dict[str, str]:
    """Return what the file calls each split that it has, `train` at least."""
    ends = {name[2:] for name in parts if name.startswith(("x_", "y_"))}
    called = {}
    for split, aliases in ALIASES.items():
        own = [name for name in aliases if name in ends]
        if len(own) > 1:
            raise InputError(
                f"{path} has {' and '.join(own)}, which are one split, {split}; join "
                "them, or leave one out"
            )
        if own:
            called[split] = own[0]
    if f"x_{called.get('train')}" not in parts:
        raise InputError(
            f"{path} has no x_train, only {', '.join(parts) or 'nothing'}; {_MEND}"
        )
    if strange := sorted(ends - set(called.values())):
        names = [n for n in parts if n[:2] in ("x_", "y_") and n[2:] in strange]
        raise InputError(
            f"{path} has {', '.join(names)}, of no split that is known here; call "
            "inputs and labels x_train, x_validation, x_test, y_train and so on, or "
            "leave them out"
        )
    return called


def _check_shapes(
    path: Path,
    name: str,
    train: str,
    shapes: Mapping[str, tuple[int, ...]],
    small: Mapping[str, np.ndarray],
) -> None:
    """Refuse a split that lacks inputs or labels, or whose arrays do not fit."""
    if f"x_{name}" not in shapes:
        raise InputError(f"{path} has y_{name} and no x_{name}, its inputs; {_MEND}")
    shape, first = shapes[f"x_{name}"], shapes[f"x_{train}"]
    if f"y_{name}" not in small:
        raise InputError(f"{path} has x_{name} and no y_{name}, its labels; {_MEND}")
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise InputError(
            f"x_{name} of {path} must be images (N, height, width[, channels]) or "
            f"vectors (N, features); its shape is {shape}; reshape it"
        )
    if shape[1:] != first[1:]:
        raise InputError(
            f"the inputs of {path} must have one shape; x_{train} has {first[1:]}, "
            f"x_{name} has {shape[1:]}"
        )
    labels = small[f"y_{name}"]
    widest = 1 if labels.dtype.kind in "SU" else math.inf
    if labels.ndim not in (1, 2) or not 1 <= labels[:1].size <= widest:
        raise InputError(
            f"y_{name} of {path} must be classes, (N,) or (N, 1), or one-hot rows of "
            f"numbers, (N, Z); its shape is {labels.shape}, of {labels.dtype}; reshape "
            "it"
        )
    if len(labels) != shape[0]:
        raise InputError(
            f"{path} needs a label for each input; x_{name} has {shape[0]} inputs, "
            f"y_{name} {len(labels)} labels"
        )


def _labels(
    path: Path,
    called: Mapping[str, str],
    given: Mapping[str, np.ndarray],
    class_names: np.ndarray | None,
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return class names, and labels as positions in them, by split."""
    labels = {}
    names = [_text(one) for one in np.ravel([] if class_names is None else class_names)]
    if doubled := [one for one, times in Counter(names).items() if times > 1]:
        raise InputError(
            f"class_names of {path} has {doubled[0]!r} more than once; give each class "
            "a name of its own, in the order of the labels"
        )
    if all(array.dtype.kind in "SU" for array in given.values()):
        texts = {
            n: np.array([_text(one) for one in np.ravel(y)]) for n, y in given.items()
        }
        names = names or sorted(set(texts["train"].tolist()))
        place = {name: number for number, name in enumerate(names)}
        for name, own in texts.items():
            unknown = sorted(set(own.tolist()) - set(place))
            if unknown:
                raise InputError(
                    f"y_{called[name]} of {path} has the class {unknown[0]!r}, which "
                    f"{'class_names' if class_names is not None else 'y_train'} lacks"
                )
            labels[name] = np.array([place[one] for one in own.tolist()], np.int64)
    else:
        for name, array in given.items():
            labels[name] = _whole_labels(path, called[name], array)
    most = max(int(own.max()) for own in labels.values())
    least = min(int(own.min()) for own in labels.values())
    if least < 0 or (names and most >= len(names)):
        limit = (
            f"0 to {len(names) - 1}, the {len(names)} class_names" if names else "0 up"
        )
        raise InputError(
            f"the labels of {path} must run from {limit}; received {least} to {most}; "
            "number the classes from 0"
        )
    trained = np.unique(labels["train"])
    count = len(names) or most + 1

    # Labels may be numbers of products, so names of all classes are not yet made.
    def name_of(number: int) -> str:
        return names[number] if names else str(number)

    if len(trained) < 2:
        raise InputError(
            f"y_train of {path} has one class only, {name_of(int(trained[0]))!r}; a "
            "classifier needs two"
        )
    if len(trained) < count:
        gap = np.append(trained, count) != np.arange(len(trained) + 1)
        first = int(gap.argmax())
        elsewhere = [called[n] for n in labels if (labels[n] == first).any()]
        mend = (
            f"y_{elsewhere[0]} has some: move some of them to the training examples, "
            "or take this class out"
            if elsewhere
            else "number the classes from 0 without gaps"
            + (", or leave these out of class_names" if names else "")
        )
        raise InputError(
            f"y_train of {path} has no example of class {name_of(first)!r} "
            f"({count - len(trained)} of {count} classes have none); {mend}"
        )
    return tuple(names or map(str, range(count))), labels


def _text(value: object) -> str:
    """Return the name of a class as a terminal can show it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return re.sub(r"[\x00-\x1f\x7f]", "?", text)


def _whole_labels(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    numbers = array.dtype.kind in "iubf"
    if numbers and array.ndim == 2 and array.shape[1] > 1:  # one-hot
        rows = np.sort(array, axis=1)
        if not ((rows[:, -1] == 1) & (rows[:, :-1] == 0).all(axis=1)).all():
            raise InputError(
                f"the rows of y_{name} in {path} must have a single 1 and else 0; give "
                "one class for each input"
            )
        return array.argmax(axis=1).astype(np.int64)
    array = array.reshape(-1)
    if not numbers or not (np.isfinite(array) & (array == np.floor(array))).all():
        raise InputError(
            f"y_{name} of {path} must be classes: whole numbers, texts, or one-hot; "
            f"received {array.dtype} such as {array[0].item()!r}"
        )
    return array.astype(np.int64)


def _check_finite(path: Path, name: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise InputError(
            f"{bad.sum()} of {len(array)} inputs in x_{name} of {path} have NaN or "
            f"infinity, the first at position {bad.argmax()}; mend or remove them"
        )
