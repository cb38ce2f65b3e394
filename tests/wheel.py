"""The package as people install it: `python -m tests.wheel`, or `make wheel`.

It builds the source archive and two wheels, one from the archive and one from the
checkout, and compares them. It installs the first into a fresh environment, outside of
the checkout and without any extra, and runs there the quickstart on few images and the
Python of the README. So no file of data is missing, and nothing needs an extra.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What the source archive has beside the package.
IN_THE_ARCHIVE = (
    "README.md",
    "CHANGELOG.md",
    "BUILD_NOTES.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "Makefile",
    "mkdocs.yml",
    "ruff.toml",
    "setup.cfg",
    "pyproject.toml",
    "docs/data.md",
    "examples/read_a_report.ipynb",
    "docs/before_and_after.png",
    "flags/cifar10/ar_adals.cfg",
    "baselines/README.md",
    "benchmarks/README.md",
    "tests/helpers.py",
    "tests/versions/colab.txt",
    "tests/commands/test_commands.py",
)

TOUR = ("quickstart", "--epochs=1", "--limit_examples=30", "--output_dir=tour")


def main() -> None:
    """Build, compare, install and run; an exit status that is not 0 says what fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, help="Where to work; default: a new one."
    )
    parser.add_argument(
        "--beside",
        type=Path,
        help="Only see whether pip installs it beside these versions, such as those of "
        "tests/versions/colab.txt, for the Python that runs this.",
    )
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="wheel-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if given.beside:
            beside(folder.resolve(), given.beside.resolve())
        else:
            check(folder.resolve())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(folder: Path) -> None:
    """Do all steps in a folder outside of the checkout."""
    step("building the source archive, and wheels from it and from the checkout")
    archive, wheel = build(folder / "from-archive")
    _, direct = build(folder / "from-checkout", "--wheel")
    compare(wheel, direct)
    look_into(archive)
    step(f"installing {wheel.name} into a fresh environment")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-compile", wheel, cwd=folder)
    run(*pip, "check", cwd=folder)
    step("listing the commands, and giving the tour")
    run(folder / "venv" / "bin" / "ar-adals", cwd=folder)
    run(folder / "venv" / "bin" / "ar-adals", *TOUR, cwd=folder)
    if not (folder / "tour" / "report" / "index.html").is_file():
        sys.exit("the quickstart has written no report")
    step("running the Python of the README")
    for name in ("README.md", "tests/documented.py"):
        shutil.copy(ROOT / name, folder)
    run(python, "documented.py", "README.md", cwd=folder)
    step("done")


def beside(folder: Path, versions: Path) -> None:
    """Ask pip for the package and a set of versions at once; none of them changes."""
    _, wheel = build(folder / "built", "--wheel")
    step(f"asking pip for {wheel.name} beside {versions.name}")
    report = folder / "report.json"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install")
    options = ("--quiet", "--dry-run", "--ignore-installed", "--report", report)
    run(*pip, *options, "-r", versions, wheel, cwd=folder)
    chosen = [one["metadata"] for one in json.loads(report.read_text())["install"]]
    found = {one["name"].lower(): one["version"] for one in chosen}
    for line in versions.read_text().splitlines():
        name, _, version = line.partition("==")
        if version and found[name.lower()] != version:
            sys.exit(f"{name} would be {found[name.lower()]} instead of {version}")
    step(f"none of them changes; {len(found)} packages in all")


def build(folder: Path, *options: str) -> tuple[Path | None, Path]:
    """Build into a folder. Return the archive, if one was asked for, and the wheel."""
    command = (sys.executable, "-m", "build", "--outdir", folder, *options, ROOT)
    run(*command, cwd=folder.parent, quietly=True)
    archives = [*folder.glob("*.tar.gz"), None]
    return archives[0], next(folder.glob("*.whl"))


def compare(one: Path, other: Path) -> None:
    """Refuse wheels that differ in a file."""
    with zipfile.ZipFile(one) as first, zipfile.ZipFile(other) as second:
        mine, theirs = (
            {i.filename: i.CRC for i in f.infolist()} for f in (first, second)
        )
    different = sorted(dict(mine.items() ^ theirs.items()))
    if different:
        sys.exit(f"the archive and the checkout build different wheels: {different}")


def look_into(archive: Path | None) -> None:
    """Refuse a source archive that lacks a file."""
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    missing = [name for name in IN_THE_ARCHIVE if name not in names]
    if missing:
        sys.exit(f"the source archive lacks {missing}; see MANIFEST.in")


def run(*command: object, cwd: Path, quietly: bool = False) -> None:
    """Run a command that knows nothing of the checkout; end if it fails."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE if quietly else None,
        stderr=subprocess.STDOUT if quietly else None,
    )
    if done.returncode:
        sys.exit(f"{done.stdout or ''}\n{command} ended with {done.returncode}")


def step(words: str) -> None:
    """Say what comes, and when."""
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


if __name__ == "__main__":
    main()
