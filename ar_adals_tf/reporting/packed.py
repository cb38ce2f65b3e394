"""Finished runs in one zip file that travels: what a report reads, and no models.

A file has a folder for each run with its settings, measures, history and predictions,
the index that cuts the test images into levels with the images at its ends, and a
`manifest.json` with a checksum of each file and, of a study, what ran how long on which
machine. Arrays are the run's own files, bit for bit, so that a report of the zip file
has the figures of a report of the runs. Settings name no place of a machine. Equal runs
make equal bytes, but for these times.

Nothing in a zip file from a stranger is trusted; see `unpacked`.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.compressed import COMPRESSION_FILE
from ar_adals_tf.evaluation.gallery import gallery_path
from ar_adals_tf.evaluation.subject_file import SUBJECT_FILE
from ar_adals_tf.files import atomic_write, refuse_overwriting, writable_file
from ar_adals_tf.forms.form import File, check, list_of, mapping, number, record, text
from ar_adals_tf.reading import parse_json, read_json
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.run import Run, named_folder
from ar_adals_tf.version import __version__

#: The format's version. A reader takes its own version alone.
VERSION = 1

MANIFEST = "manifest.json"

#: What a run has besides its predictions on changed images.
_PLAIN_FILES = (
    *("config.json", SUBJECT_FILE, COMPRESSION_FILE),
    *("metrics.json", "temperature.json"),
    *("smoothing.json", "history.csv", "predictions.npz"),
)

_NAME = r"\w[\w.,=+-]*"

#: The names that a file may have in a run. Nothing else is unpacked.
_FILE = re.compile(
    rf"({'|'.join(map(re.escape, _PLAIN_FILES))}|member_\d+/history\.csv|"
    rf"(shift|ood|attacked|certified)/{_NAME}\.npz|"
    rf"robustness/{_NAME}/(test|gallery)\.npz)",
    re.ASCII,
)

#: Arrays and measures shrink by less than this; a file that says more is a bomb.
_RATIO, _SLACK = 200, 1024**2

_REMEDY = "export it again with python -m ar_adals_tf.reproduce --export"

#: How a cell of a study was made; see `studies.state.finished_cells`.
_CELL = {
    "cell": text(),
    "module": text(),
    "seconds": number(),
    "starts": number(whole=True),
    "device": text(),
}

_MANIFEST = File(
    record(
        {
            "version": lambda value, place: None,  # looked at before
            "written_by": text(),
            "folder": text(),
            "runs": list_of(text(), least=1),
            "sha256": mapping(text()),
        },
        {"cells": list_of(record(_CELL))},
    ),
    _REMEDY,
)


def pack(
    runs: Sequence[str | Path],
    file: str | Path,
    *,
    folder: str = "runs",
    clean_only: bool = False,
    cells: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write finished runs into a zip file.

    Args:
        runs: Run directories, or folders of evaluations, of different names.
        file: The `.zip` file.
        folder: Where commands of a report say that the runs lie.
        clean_only: Whether to leave out predictions on corrupted, out-of-distribution
            and attacked images, and the votes of noisy copies. The file is much
            smaller. A report of it has their measures and not their intervals.
        cells: How the runs were made, from `studies.state.finished_cells`.

    Raises:
        InputError: If a run is not finished, if two have one name or cannot be
            compared, or if the file cannot be written.
    """
    path = writable_file(file, "--export", [".zip"])
    refuse_overwriting(path, runs, "--export")
    sources: dict[str, Path] = {}
    for collection in load_collections(runs):
        for run in collection.runs:
            name = named_folder(run.folder).name
            if f"{name}/metrics.json" in sources:
                raise InputError(
                    f"two of the runs are called {name}; give them different names, or "
                    "export them into two files"
                )
            for inner in _files_of(run, clean_only):
                sources[f"{name}/{inner}"] = run.folder / inner
        if collection.index_path is not None:
            # In a run, or in the vanilla run that another one names.
            pictures = gallery_path(collection.index_path)
            for own in [collection.index_path, *[pictures] * pictures.exists()]:
                of = named_folder(own.parents[2]).name
                sources["/".join([of, *own.parts[-3:]])] = own
    for name, source in sources.items():
        if not _is_ours(name):
            raise InputError(
                f"{source} cannot be exported: names must have letters, digits, _ and "
                ". , = + - alone; rename it"
            )
    manifest: dict[str, Any] = {
        "version": VERSION,
        "written_by": f"ar_adals_tf {__version__}",
        "folder": folder,
        "runs": sorted(
            {n.split("/")[0] for n in sources if n.endswith("metrics.json")}
        ),
        "sha256": {},
    }
    if cells:
        manifest["cells"] = list(cells)
    with atomic_write(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name in sorted(sources):
            manifest["sha256"][name] = _add(archive, name, sources[name], folder)
        _add_bytes(archive, MANIFEST, _as_json(manifest))
    return path


def _files_of(run: Run, clean_only: bool) -> Iterator[str]:
    """Yield the names of a run's files, those that its measures name."""
    yield from (name for name in _PLAIN_FILES if (run.folder / name).exists())
    for path in run.folder.glob("member_*/history.csv"):
        yield f"{path.parent.name}/{path.name}"
    for folder, names in run.measured.items():
        for name in () if clean_only else names:
            if name not in run.lost[folder]:
                yield f"{folder}/{name}.npz"


def _add(archive: zipfile.ZipFile, name: str, source: Path, folder: str) -> str:
    """Add a file and return its checksum."""
    if source.suffix == ".json":
        content = _without_places(read_json(source))
        if source.name == "config.json":
            content |= _places(name.split("/")[0], content, folder)
        return _add_bytes(archive, name, _as_json(content))
    return _add_bytes(archive, name, source.read_bytes())


def _add_bytes(archive: zipfile.ZipFile, name: str, content: bytes) -> str:
    info = zipfile.ZipInfo(name)  # of 1980, so that equal runs make equal bytes
    info.create_system, info.external_attr = 3, 0o644 << 16
    # An .npz file is compressed already.
    packs = zipfile.ZIP_STORED if name.endswith(".npz") else zipfile.ZIP_DEFLATED
    archive.writestr(info, content, packs, compresslevel=9)
    return hashlib.sha256(content).hexdigest()


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _places(name: str, config: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return the settings that say where a run and its data lie, for any machine."""
    vanilla = config.get("vanilla_dir")
    return {
        "output_dir": f"{folder}/{name}",
        "vanilla_dir": vanilla and f"{folder}/{Path(vanilla).name}",
        "data_dir": None,
    }


def _without_places(value: Any) -> Any:
    """Return a value whose texts name files alone, not where they lie on a machine."""
    if isinstance(value, dict):
        return {name: _without_places(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    if isinstance(value, str) and (os.path.isabs(value) or value.startswith("~")):
        return Path(value).name
    return value


class Unpacked(NamedTuple):
    """Runs that can be read.

    Attributes:
        folders: Their folders.
        places: Where commands say that an unpacked run lies, by its folder.
        named: Names unpacked folders in a text by their zip files.
        cells: How the runs of zip files were made, where the files say so.
    """

    folders: list[Path]
    places: dict[Path, Path]
    named: Callable[[str], str] = str
    cells: tuple[dict[str, Any], ...] = ()


@contextmanager
def unpacked(runs: Sequence[str | Path]) -> Iterator[Unpacked]:
    """Unpack zip files that `pack` has written, until the context ends.

    Files whose names or checksums are not those of the format are refused, as are
    links and files that would grow beyond measure. Nothing is written outside a
    temporary folder. A run that several files have is taken once.

    Args:
        runs: Run directories and zip files.

    Raises:
        InputError: If a zip file is damaged, is of another version or is none of
            `pack`, or if two have one run with other content.
    """
    zips = [Path(run) for run in runs if Path(run).suffix.lower() == ".zip"]
    zips = [path for path in dict.fromkeys(zips) if not path.is_dir()]
    if not zips:
        yield Unpacked([Path(run) for run in runs], {})
        return
    with tempfile.TemporaryDirectory(prefix="ar-adals-") as name:
        root = Path(name).resolve()
        sources: dict[Path, Path] = {}  # the zip file by folder
        sums: dict[Path, tuple[str, Path]] = {}  # and the checksum by file
        folders: list[Path] = []
        cells: dict[str, dict[str, Any]] = {}
        for given in map(Path, runs):
            own = [given]
            if given in zips:
                own, made = _unpack(given, root, sums)
                cells = {one["cell"]: one for one in made} | cells
                sources = dict.fromkeys(own, given) | sources
            folders += [folder for folder in own if folder not in folders]

        def named(words: str) -> str:
            # The longest first: a-10 begins like a-1.
            for folder in sorted(sources, key=lambda one: -len(f"{one}")):
                source = sources[folder]
                words = words.replace(f"{folder}", f"{source}/{folder.name}")
            return words

        places = {folder: folder.relative_to(root) for folder in sources}
        try:
            yield Unpacked(folders, places, named, tuple(cells.values()))
        except InputError as error:
            raise InputError(named(str(error))) from error


def _unpack(
    file: Path, root: Path, sums: dict[Path, tuple[str, Path]]
) -> tuple[list[Path], list[dict[str, Any]]]:
    """Unpack a zip file and return the folders of its runs, and how they were made.

    Args:
        file: The zip file.
        root: Where to.
        sums: The checksums of what is there already, with their zip files.
    """
    if not file.exists():
        raise InputError(f"there is no file {file}; give one of reproduce --export")
    try:
        with zipfile.ZipFile(file) as archive:
            infos = _checked_infos(archive, file, root)
            manifest = _read_manifest(archive, infos, file)
            folder = root / manifest["folder"]
            for name, expected in manifest["sha256"].items():
                target = folder / name
                known, other = sums.setdefault(target, (expected, file))
                if known != expected:
                    run, inner = name.split("/", 1)
                    raise InputError(
                        f"{other} and {file} both have the run {run}, and their "
                        f"{inner} differ; leave one of the files out"
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                _extract(archive, infos[name], target, expected)
    except InputError:
        raise
    except Exception as error:  # one wrong byte can make zipfile raise nearly anything
        raise _not_whole(file, f"{type(error).__name__}: {str(error)[:80]}") from error
    return [folder / run for run in manifest["runs"]], manifest.get("cells", [])


def _not_whole(file: Path, why: str) -> InputError:
    return InputError(f"{file} is no whole file of exported runs ({why}); {_REMEDY}")


def _checked_infos(
    archive: zipfile.ZipFile, file: Path, root: Path
) -> dict[str, zipfile.ZipInfo]:
    """Return the members of a zip file by name; refuse what none of ours has."""
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) < len(archive.infolist()):
        raise _not_whole(file, "it has a name twice")
    packed, whole = 0, 0
    for name, info in infos.items():
        if not _is_ours(name) and name != MANIFEST:
            raise _not_whole(file, f"it has {name[:80]!r}, which no run has")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _not_whole(file, f"{name} is a link")
        if _is_bomb(info.file_size, info.compress_size):
            raise _not_whole(file, f"{name} would grow beyond measure")
        packed, whole = packed + info.compress_size, whole + info.file_size
    if packed > file.stat().st_size:
        raise _not_whole(file, "it has a part twice")
    if whole > (free := shutil.disk_usage(root).free):
        raise InputError(
            f"{file} needs {whole / 1e9:.1f} GB in {root.parent}, which has "
            f"{free / 1e9:.1f} GB left; name another folder as TMPDIR"
        )
    return infos


def _is_ours(name: str) -> bool:
    """Tell whether a name is that of a run's folder and of a file in it."""
    run, _, inner = name.partition("/")
    return bool(re.fullmatch(_NAME, run, re.ASCII) and _FILE.fullmatch(inner))


def _is_bomb(whole: int, packed: int) -> bool:
    return whole > _RATIO * packed + _SLACK


def _read_manifest(
    archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], file: Path
) -> dict[str, Any]:
    """Return the manifest of a zip file, checked against what is in it."""
    if MANIFEST not in infos:
        raise _not_whole(file, f"it has no {MANIFEST}")
    found = parse_json(archive.read(MANIFEST).decode())
    version = found.get("version") if isinstance(found, dict) else None
    if type(version) is not int or version != VERSION:
        raise InputError(
            f"{file} is of version {version!r:.40} of the format of exported runs; "
            f"this package reads version {VERSION}: export it again with this version "
            "of the package"
        )
    check(f"{file}/{MANIFEST}", _MANIFEST, found)
    parts = found["folder"].split("/")
    if not all(re.fullmatch(_NAME, part, re.ASCII) for part in parts):
        raise _not_whole(file, f"its folder is {found['folder'][:80]!r}")
    if different := {*found["sha256"], MANIFEST} ^ {*infos}:
        raise _not_whole(file, f"{min(different)[:80]} is not as its manifest says")
    for run in found["runs"]:
        if f"{run}/metrics.json" not in infos:
            raise _not_whole(file, f"it has no metrics of {run[:80]}")
    return found


def _extract(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, expected: str
) -> None:
    """Write a member to its place, or only compare it if it is there."""
    total = hashlib.sha256()
    with (
        archive.open(info) as member,
        open(os.devnull if target.exists() else target, "wb") as output,
    ):
        while part := member.read(1024**2):
            total.update(part)
            output.write(part)
    if total.hexdigest() != expected:
        raise ValueError(f"{info.filename} has another checksum")
    if target.suffix == ".npz":
        with zipfile.ZipFile(target) as arrays:
            whole = sum(inner.file_size for inner in arrays.infolist())
        if _is_bomb(whole, target.stat().st_size):
            raise ValueError(f"{info.filename} would grow beyond measure")
