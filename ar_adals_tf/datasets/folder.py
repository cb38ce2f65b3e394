"""A folder of pictures: which files there are, and of which class and split.

    photos/train/cat/001.jpg        or, where all of it is to be divided,
    photos/test/cat/002.jpg         photos/cat/001.jpg

Only names and sizes are read here. Suffixes count in upper and in lower case. Files and
folders whose name begins with a dot are passed over, symbolic links are followed, and
folders inside a class folder belong to the class.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ar_adals_tf.datasets.division import ALIASES, name_splits
from ar_adals_tf.datasets.pictures import SUFFIXES, shape_of
from ar_adals_tf.errors import InputError
from ar_adals_tf.process.progress import progress_bar

#: The headers of this many files tell the size of the pictures.
_PEEKED = 100

#: What pictures of different or of large sizes become: the largest of these that is not
#: above the middle one of their shorter sides.
SIZES = (32, 64, 128, 224)


@dataclass(frozen=True)
class Listing:
    """What is in a folder of pictures.

    Attributes:
        root: The folder.
        class_names: The names of the class folders, sorted.
        ids: By split that the folder has (`train` at least), `(N,)` bytes: paths
            relative to the folder, sorted. They are the examples' ids.
        labels: By split `(N,)` int64, positions in `class_names`.
        digest: A digest of all ids, labels and file sizes.
        passed_over: How many other files there are, by suffix.
        times: When each folder was last changed, before it was read.
    """

    root: Path
    class_names: tuple[str, ...]
    ids: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    digest: str
    passed_over: Mapping[str, int]
    times: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """The number of pictures in each split that the folder has."""
        return {name: len(ids) for name, ids in self.ids.items()}

    def is_fresh(self) -> bool:
        """Tell whether no file has come or gone since."""
        return all(_time(folder) == time for folder, time in self.times.items())

    def paths(self, ids: np.ndarray) -> list[bytes]:
        """Return the paths of files by their ids."""
        root = os.fsencode(self.root)
        return [os.path.join(root, one) for one in ids.tolist()]


def list_folder(
    root: str | Path, split_names: str | None = None, show: bool = True
) -> Listing:
    """Find the pictures of a folder.

    Args:
        root: The folder.
        split_names: The flag `--split_names`.
        show: Whether a progress bar appears if it takes more than two seconds.

    Raises:
        InputError: If there are no classes, if one has no picture, if a split has a
            class that is not trained, or if files are empty.
    """
    root = Path(root)
    times = {str(root): _time(root)}
    folders = _subfolders(root)
    splits = _split_folders(root, folders, split_names)
    times |= {str(root / one): _time(root / one) for one in splits.values()}
    class_folders = {
        name: _subfolders(root / theirs if theirs else root)
        for name, theirs in splits.items()
    }
    class_names = class_folders["train"]
    where = root / splits["train"] if splits["train"] else root
    if len(class_names) < 2:
        found = f"only {class_names[0]!r}" if class_names else "none"
        raise InputError(
            f"{where} needs a folder of pictures for each of two or more classes, such "
            f"as {where}/cat/1.jpg; there is {found}"
        )
    ids: dict[str, list[bytes]] = {}
    labels: dict[str, list[int]] = {}
    sizes: list[bytes] = []
    others: Counter[str] = Counter()
    empty: list[str] = []
    with progress_bar(0, f"listing {root}", "file", show=show, delay=2) as bar:
        for name, theirs in splits.items():
            unknown = sorted(set(class_folders[name]) - set(class_names))
            if unknown:
                raise InputError(
                    f"{root / theirs} has the class {unknown[0]!r}, which {where} "
                    "lacks; give both the same class folders"
                )
            rows: list[tuple[bytes, int, int]] = []
            for label, one in enumerate(class_names):
                folder = root / theirs / one
                before = len(rows)
                if one in class_folders[name]:
                    for path, size in _pictures(folder, others, times):
                        bar.update()
                        relative = os.fsencode(os.path.relpath(path, root))
                        rows.append((relative, label, size))
                if name == "train" and len(rows) == before:
                    raise InputError(
                        f"the class folder {folder} has no picture; add some "
                        f"({', '.join(sorted(SUFFIXES))}), or remove the folder"
                    )
            rows.sort()
            ids[name] = [row[0] for row in rows]
            labels[name] = [row[1] for row in rows]
            sizes += [b"%s\0%d\0%d" % row for row in rows]
            empty += [os.fsdecode(row[0]) for row in rows if not row[2]]
    refuse_broken(root, empty, "empty files")
    return Listing(
        root,
        tuple(map(_shown, class_names)),
        {name: np.array(found, "S") for name, found in ids.items()},
        {name: np.array(found, np.int64) for name, found in labels.items()},
        hashlib.sha256(b"\0".join(sizes)).hexdigest(),
        dict(others),
        times,
    )


def refuse_among_pictures(
    output: str | Path, root: str | Path, split_names: str | None, purpose: str
) -> None:
    """Refuse a folder whose pictures would be read as a dataset's.

    Args:
        output: The folder, which may be absent.
        root: The folder of the dataset; anything else has no pictures.
        split_names: The flag `--split_names`.
        purpose: What the output is, such as `--output_dir`, for the sentence.

    Raises:
        InputError: If it lies where `list_folder` finds pictures.
    """
    if not os.path.isdir(root):
        return
    root = Path(root)
    for theirs in _split_folders(root, _subfolders(root), split_names).values():
        classes = os.path.realpath(root / theirs)
        way = Path(os.path.relpath(os.path.realpath(output), classes))
        if not any(part.startswith(".") for part in way.parts):  # out, or hidden
            raise InputError(
                f"{purpose} {output} lies in {root / theirs}, whose folders are the "
                "classes of the dataset, so its figures would be read as pictures; "
                "give a folder elsewhere"
            )


def refuse_broken(root: str | Path, names: list[str], what: str) -> None:
    """Refuse files that cannot be used. The sentence has their number and three names.

    Raises:
        InputError: If there are any.
    """
    if names:
        more = ", ..." if len(names) > 3 else ""
        raise InputError(
            f"{root} has {what}, {len(names)} in all ({', '.join(names[:3])}{more}); "
            "replace or remove them"
        )


def common_shape(listing: Listing) -> tuple[tuple[int, int, int], str]:
    """Return the shape that the pictures get, and why, from the headers of 100 files.

    Pictures of one size up to 224 x 224 keep it. Others become squares of one of
    `SIZES`. One channel suffices if all of them are grey.

    Raises:
        InputError: If some of these files are no pictures.
    """
    ids = np.concatenate([*listing.ids.values()])
    chosen = ids[np.linspace(0, len(ids) - 1, min(_PEEKED, len(ids))).astype(int)]
    shapes, broken = [], []
    for one, path in zip(chosen.tolist(), listing.paths(chosen), strict=True):
        try:
            shapes.append(shape_of(path))
        except Exception:  # Pillow lets through whatever its parts raise
            broken.append(os.fsdecode(one))
    refuse_broken(listing.root, broken, "files that are no whole pictures")
    channels = max(shape[2] for shape in shapes)
    heights, widths, _ = zip(*shapes, strict=True)
    if len({shape[:2] for shape in shapes}) == 1 and max(shapes[0][:2]) <= SIZES[-1]:
        return (heights[0], widths[0], channels), ""
    middle = float(np.median([min(shape[:2]) for shape in shapes]))
    side = max([size for size in SIZES if size <= middle], default=SIZES[0])
    why = (
        f"the pictures are {min(heights)} to {max(heights)} pixels high and "
        f"{min(widths)} to {max(widths)} wide"
    )
    return (side, side, channels), why


def _subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none if it is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.name[0] != "." and e.is_dir())
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error})") from error


def _split_folders(
    root: Path, folders: list[str], split_names: str | None
) -> dict[str, str]:
    """Return the folder of each split; `{"train": ""}` where all is to be divided.

    A class may be called train as well. Then its pictures lie right in it.
    """
    known = {alias for aliases in ALIASES.values() for alias in aliases}
    divided = any(
        name in known and _subfolders(root / name) and not _has_picture(root / name)
        for name in folders
    )
    if split_names or divided:
        return name_splits(set(folders), split_names, str(root))
    return {"train": ""}


def _has_picture(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_suffix(entry.name) in SUFFIXES for entry in entries)


def _pictures(
    folder: Path,
    others: Counter[str],
    times: dict[str, int],
    above: tuple[str, ...] = (),
) -> Iterator[tuple[str, int]]:
    """Yield path and size of each picture in a class folder and the folders in it."""
    here = os.path.realpath(folder)
    if here in above:  # a link to a folder that it lies in
        return
    times[str(folder)] = _time(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            if entry.is_dir():
                yield from _pictures(Path(entry.path), others, times, (*above, here))
            elif _suffix(entry.name) in SUFFIXES:
                try:
                    yield entry.path, entry.stat().st_size
                except OSError:  # a link to nothing
                    yield entry.path, 0
            else:
                others[_suffix(entry.name)] += 1


def _shown(name: str) -> str:
    """Return a folder's name as a terminal can show it."""
    return re.sub(r"[\x00-\x1f\x7f]", "?", os.fsencode(name).decode(errors="replace"))


def _time(folder: str | Path) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()
