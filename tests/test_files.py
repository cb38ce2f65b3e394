"""Files are whole or not there at all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ar_adals_tf import files
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import (
    asides,
    atomic_write,
    clear,
    refuse_overwriting,
    sweep,
    writable_file,
    writable_folder,
    write_json,
)
from ar_adals_tf.reading import read_json


def test_content_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "figure.png"
    path.write_text("old")
    with atomic_write(path) as aside:
        assert aside.parent == tmp_path
        assert aside.suffix == ".png"
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["figure.png"]


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("folder", [True, False])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path, existing, folder):
    path = tmp_path / "model.keras"
    if existing:
        path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as aside:
        if folder:
            (aside / "part").mkdir(parents=True)
        else:
            aside.write_text("ne")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == (["model.keras"] if existing else [])
    if existing:
        assert path.read_text() == "old"


def test_a_folder_is_renamed_as_a_whole(tmp_path):
    with atomic_write(tmp_path / "saved") as aside:
        aside.mkdir()
        (aside / "part").write_text("1")
    assert (tmp_path / "saved" / "part").read_text() == "1"
    assert os.listdir(tmp_path) == ["saved"]


_WRITER = """
import itertools, sys
from pathlib import Path
from ar_adals_tf.files import atomic_write
for number in itertools.count():
    with atomic_write(sys.argv[1]) as aside:
        with open(aside, "w") as file:
            for line in range(2000):
                file.write(f"{number}\\n")
    if not number:
        Path(sys.argv[1] + ".started").touch()
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "numbers.txt"
    for wait in (0.0, 0.013, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
        while not path.with_suffix(".txt.started").exists():
            assert writer.poll() is None
            time.sleep(0.01)
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        lines = path.read_text().split("\n")
        assert len(lines) == 2001
        assert len(set(lines[:-1])) == 1
        path.with_suffix(".txt.started").unlink()


def test_json_survives(tmp_path):
    content = {"p": [0.1, 1 / 3, 1e-300], "name": "é", "none": None}
    write_json(tmp_path / "state.json", content)
    assert read_json(tmp_path / "state.json") == content
    assert json.loads((tmp_path / "state.json").read_text()) == content
    assert os.listdir(tmp_path) == ["state.json"]


def test_what_is_no_json_is_not_written(tmp_path):
    write_json(tmp_path / "state.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "state.json", {"a": object()})
    assert read_json(tmp_path / "state.json") == 1
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = writable_folder(tmp_path / "a" / "b", "--output_dir")
    assert folder == tmp_path / "a" / "b"
    assert os.listdir(folder) == []
    assert writable_folder(str(folder), "--output_dir") == folder


@pytest.mark.parametrize("path", ["file", "file/below", "/proc/nothing/here"])
def test_a_folder_that_cannot_be_is_refused_in_one_sentence(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--output_dir must be a folder") as error:
        writable_folder(tmp_path / path, "--output_dir")
    assert str(tmp_path / path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def shared_disk():
    """Share the disk in a test; afterwards this process writes alone again."""
    yield files.share_disk
    files.share_disk(True, lambda: None)


@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_not_made_a_folder(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="of this machine's file system; received 'gs"):
        writable_folder(kind("gs://bucket/run"), "--output_dir")
    assert not list(tmp_path.iterdir())


def test_only_one_of_a_crew_writes(tmp_path, shared_disk):
    path, met = tmp_path / "file.txt", []
    shared_disk(False, lambda: met.append(path.exists()))
    with files.atomic_write(path) as aside:
        aside.write_text("text")
    assert not path.exists() and len(met) == 2 and not files.writes()
    shared_disk(True, lambda: met.append(path.exists()))
    with files.atomic_write(path) as aside:
        aside.write_text("text")
    assert met[2:] == [False, True]  # all have looked before it is there
    shared_disk(False, lambda: None)
    files.remove(path)
    assert path.exists()
    shared_disk(True, lambda: None)
    files.remove(path)
    assert not path.exists()
    files.remove(tmp_path / "absent")


# What is not ours.


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Return a folder with a file and a folder, and links to them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file.npz").write_text("content")
    (tmp_path / "linked").symlink_to("run")
    (tmp_path / "linked.npz").symlink_to("run/file.npz")
    os.link(tmp_path / "run" / "file.npz", tmp_path / "hard.npz")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "given"),
    [
        ("run/file.npz", "run/file.npz"),
        ("run/file.npz", "{here}/run/file.npz"),
        ("run/../run/./file.npz", "run/file.npz"),
        ("linked.npz", "run/file.npz"),
        ("hard.npz", "run/file.npz"),
        ("run/file.npz", "linked/file.npz"),
        ("linked", "run"),
        ("run/", "run"),
        ("absent/../run", "{here}/run"),
        ("new.npz", "{here}/run/../new.npz"),
    ],
)
def test_an_output_that_is_an_input_is_refused(output, given, places):
    given = given.format(here=places)
    with pytest.raises(InputError, match="is also read") as error:
        refuse_overwriting(output, [None, "run/other.npz", given], "--output_file")
    assert str(error.value).startswith(f"--output_file {output} ")


def test_other_outputs_are_not_refused(places):
    inputs = ["run/file.npz", "absent.npz", None]
    for output in ("run", "linked", "run/new.npz", "file.npz", "absent"):
        refuse_overwriting(output, inputs, "--output_file")
    assert not (places / "absent").exists()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (".", "--output_file must end in .npz; received ."),
        ("/", "--output_file must end in .npz; received /"),
        ("..", "must end in .npz"),
        ("d.npz/..", "must end in .npz"),
        ("index.shards", "must end in .npz"),
        ("index", "must end in .npz"),
        (".npz", "must end in .npz"),
        ("d.npz", "must be a file; d.npz is a folder"),
        ("n" * 246 + ".npz", "must be a file that can be written; n"),
        ("n" * 300 + ".npz", "must be a file that can be written; n"),
        ("file.txt/index.npz", "the folder of --output_file must be a folder"),
        ("/proc/index.npz", "--output_file.* must be"),
        ("hard.npz", "--output_file hard.npz is also read .as linked.npz."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(path, sentence, places):
    (places / "d.npz").mkdir()
    (places / "file.txt").touch()
    before = sorted(places.rglob("*"))
    with pytest.raises(InputError, match=sentence) as error:
        writable_file(path, "--output_file", [".npz"], ["linked.npz"])
    assert "\n" not in str(error.value)
    assert sorted(places.rglob("*")) == before


def test_a_file_that_can_be_written_is_left_as_it_is(places):
    endings = [".npz", ".pdf"]
    assert writable_file("new/a.PDF", "--output_file", endings) == Path("new/a.PDF")
    assert os.listdir(places / "new") == []
    writable_file("linked.npz", "--output_file", endings)
    assert (places / "run" / "file.npz").read_text() == "content"
    with pytest.raises(InputError, match=r"must end in \.npz or \.pdf; received a.txt"):
        writable_file("a.txt", "--output_file", endings)


# What killed processes leave.

DIES = """
import os, signal, sys
from ar_adals_tf import files
files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_json(sys.argv[1], 1)
"""


def test_what_a_killed_process_wrote_aside_is_swept(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("a.json", "b.json", "figures/c.png"):
        code = subprocess.run([sys.executable, "-c", DIES, tmp_path / name]).returncode
        assert code == -signal.SIGKILL
    others = (
        *("a.json", ".hidden", ".3b1c2fd3", ".3b1c2fdg-a.json", ".3B1C2FD3-a.json"),
        *("3b1c2fd3-a.json", ".3b1c2fd3-thesis.txt", "figures/.3b1c2fd3-thesis.txt"),
    )
    for name in others:
        (tmp_path / name).write_text("kept")
    (tmp_path / ".3b1c2fd3-probe").touch()
    names = ("*.json", "figures/*.png", "absent/*")
    assert len(asides(tmp_path, *names)) == 4
    sweep(tmp_path, *names)
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == set(others)
    assert asides(tmp_path, *names) == []
    sweep(tmp_path / "absent", *names)


def test_only_what_is_known_is_cleared(tmp_path):
    folder = tmp_path / "index.shards"
    clear(folder, "plan.json")
    folder.mkdir()
    for name in ("plan.json", "shard-00000.npz", ".3b1c2fd3-plan.json", "thesis.txt"):
        (folder / name).touch()
    clear(folder, "shard-*.npz", "plan.json")
    assert os.listdir(folder) == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    clear(folder, "shard-*.npz", "plan.json")
    assert not folder.exists()


def test_a_folder_of_a_files_name_is_not_cleared(tmp_path):
    (tmp_path / "posthoc" / "margins").mkdir(parents=True)
    (tmp_path / "posthoc" / "a.npz").touch()
    clear(tmp_path, "posthoc*/*")
    assert os.listdir(tmp_path / "posthoc") == ["margins"]


def test_only_one_of_a_crew_sweeps(tmp_path, shared_disk):
    names = ("plan.json", ".3b1c2fd3-plan.json")
    for name in names:
        (tmp_path / name).touch()
    shared_disk(False, lambda: None)
    clear(tmp_path, "plan.json")
    assert sorted(os.listdir(tmp_path)) == sorted(names)
