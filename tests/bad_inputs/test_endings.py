"""How commands end: sentences, statuses, Ctrl-C, streams that fail. About 10 seconds.

The processes are forks of one that has imported TensorFlow, or real ones where the
start itself matters.
"""

import errno
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import warnings

import numpy as np
import pytest
import tensorflow as tf
from tqdm import tqdm

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write
from ar_adals_tf.process import interruption
from ar_adals_tf.process.endings import ending
from ar_adals_tf.process.progress import (
    close_bars,
    progress_bar,
    show_warning_above_bars,
)
from ar_adals_tf.process.streams import LastingStream

INTERRUPTED = "interrupted; the same command goes on where it was\n"
TRAIN = [sys.executable, "-m", "ar_adals_tf.train", "--method=vanilla", "--epochs=500"]


def raised(function):
    """Return the error that a function raises."""
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def hidden():
    """A full disk behind the complaint of a library, as zipfile makes it."""
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "model.keras")
    except OSError:
        raise ValueError("Can't close the ZIP file") from None


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InputError("a is b"), 2, "error: a is b"),
        (InputError("a\nis\x1b[2J b"), 2, r"error: a is \[2J b"),
        (FloatingPointError("loss became nan"), 2, "error: loss became nan"),
        (KeyboardInterrupt(), 130, INTERRUPTED.strip()),
        (
            OSError(errno.ENOSPC, "x", "run/model.keras"),
            2,
            "run/model.keras cannot be .*No space left on device.*; free some space",
        ),
        (OSError(errno.EDQUOT, "x", "a"), 2, "quota.*free some space"),
        (OSError(errno.EFBIG, "x", "a"), 2, "File too large.*ulimit -f"),
        (OSError(errno.EROFS, "x", "a"), 2, "Read-only file system.*another place"),
        (PermissionError(errno.EACCES, "x", "a"), 2, "Permission denied.*right"),
        (FileNotFoundError(errno.ENOENT, "x", "a"), 2, "No such file.*was removed"),
        (IsADirectoryError(errno.EISDIR, "x", "a"), 2, "stands in its place"),
        (NotADirectoryError(errno.ENOTDIR, "x", b"a"), 2, ": a cannot be.*in its pl"),
        (OSError(errno.ENAMETOOLONG, "x", "a"), 2, "too long.*shorter name"),
        (OSError(errno.EMFILE, "x"), 2, "a file cannot be.*ulimit -n"),
        (OSError("Unable to write\nmore"), 2, r"\(Unable to write\); see to that"),
        (raised(lambda: np.zeros(2**60, np.uint8)), 2, "memory does not suffice.*EiB"),
        (MemoryError(), 2, r"memory does not suffice \(MemoryError\)"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating [9,9]"),
            2,
            "memory does not suffice .OOM when allocating.*--batch_size",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "a; No space left on device"),
            2,
            "cannot be read or written.*free some space",
        ),
        (
            tf.errors.FailedPreconditionError(None, None, "/a is not a directory"),
            2,
            "/a is not a directory.*stands in its place",
        ),
        (
            tf.errors.DataLossError(None, None, "{{node a}} truncated record at 9"),
            2,
            r"damaged or not whole \(truncated record at 9\); remove the folder",
        ),
        (raised(hidden), 2, "model.keras cannot be.*free some space"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_sentence_and_a_status(error, status, words):
    found, sentence = ending(error)
    assert found == status
    assert "\n" not in sentence
    assert re.search(words, sentence), sentence


@pytest.mark.parametrize(
    "error",
    [KeyError("a"), tf.errors.InvalidArgumentError(None, None, "shapes"), TypeError()],
)
def test_faults_of_the_package_stay_tracebacks(error):
    assert ending(error) is None


def test_a_missing_file_that_was_expected_hides_no_fault():
    def fault():
        try:
            os.stat("/absent")
        except OSError:
            return {}["fault"]

    assert ending(raised(fault)) is None


def test_what_a_library_makes_of_an_interruption(monkeypatch):
    fault = tf.errors.UnknownError(None, None, "KeyboardInterrupt")
    assert ending(fault) is None
    monkeypatch.setattr(interruption, "_received", True)
    assert ending(fault) == (130, INTERRUPTED.strip())


def test_people_know_a_file_by_its_own_name(tmp_path):
    def write():
        with atomic_write(tmp_path / "model.keras"):
            raise OSError(errno.ENOSPC, "No space left on device")

    assert raised(write).filename == str(tmp_path / "model.keras")

    def absent():
        with atomic_write(tmp_path / "absent/model.keras") as aside:
            aside.write_text("a")

    assert raised(absent).filename == str(tmp_path / "absent/model.keras")


# Bars.


def test_no_sentence_is_glued_to_a_bar(capsys):
    bar = progress_bar(10, "training")
    bar.update(3)
    close_bars()
    print("error: a", file=sys.stderr)
    assert capsys.readouterr().err.splitlines()[-1] == "error: a"
    assert not [one for one in getattr(tqdm, "_instances", ()) if not one.disable]


def test_a_warning_stands_above_the_bar(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", show_warning_above_bars)
    with progress_bar(10, "training"), warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show_warning_above_bars)
        warnings.warn("few images", UserWarning, stacklevel=1)
    shown = capsys.readouterr().err
    lines = [part for line in shown.splitlines() for part in line.split("\r")]
    assert any("warning: few images" in line for line in lines)
    assert not [one for one in lines if "few images" in one and "training" in one]


# Streams.


class Failing(io.TextIOWrapper):
    """A stream whose reader is gone, or whose disk is full."""

    def __init__(self, error):
        read, self.end = os.pipe()
        os.close(read)
        super().__init__(os.fdopen(self.end, "wb"), write_through=True)
        self.error = error

    def write(self, text):
        raise OSError(self.error, os.strerror(self.error))


@pytest.mark.parametrize("error", [errno.EPIPE, errno.EIO])
def test_a_reader_that_is_gone_stops_nothing(error):
    stream = LastingStream(Failing(error), "standard output")
    print("a", file=stream)
    print("b", file=stream, flush=True)


def test_a_full_disk_below_standard_output_is_said_once():
    stream = LastingStream(Failing(errno.ENOSPC), "standard output")
    error = raised(lambda: print("a", file=stream))
    assert (error.errno, error.filename) == (errno.ENOSPC, "standard output")
    stream.flush()
    print("progress", file=LastingStream(Failing(errno.ENOSPC)))


def test_what_an_encoding_lacks_is_written_all_the_same():
    below = io.BytesIO()
    stream = LastingStream(io.TextIOWrapper(below, "ascii", write_through=True))
    print("Düne\udcff", file=stream)
    assert below.getvalue() == b"D\\xfcne\\udcff\n"
    assert stream.encoding == "ascii"


# Whole commands.


def small(*arguments):
    return ["--method=vanilla", "--limit_examples=60", "--epochs=1", *arguments]


def said(ended):
    assert "Traceback" not in ended.err, ended.err
    (line,) = [x for x in ended.err.splitlines() if x.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    "place",
    [
        "model.keras",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("config.json", "history.csv", "metrics.json")
        ),
    ],
)
def test_a_folder_in_the_place_of_a_file(place, parent, tmp_path):
    (tmp_path / "run" / place / "mine").mkdir(parents=True)
    ended = parent.run("train", small("--output_dir=run", "--notensorboard"), tmp_path)
    assert ended.status == 2
    assert place in said(ended)
    assert (tmp_path / "run" / place / "mine").is_dir()


@pytest.mark.parametrize(
    "place", ["tensorboard", pytest.param("figures", marks=pytest.mark.slow)]
)
def test_a_file_in_the_place_of_a_folder(place, parent, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / place).write_text("mine")
    ended = parent.run("train", small("--output_dir=run"), tmp_path)
    assert ended.status == 2
    assert place in said(ended)
    assert (tmp_path / "run" / place).read_text() == "mine"


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(parent, tmp_path):
    """The sentence names the file, and without the limit the run goes on."""
    limited = {"FILE_SIZE_LIMIT": "20000"}
    arguments = small("--output_dir=run", "--notensorboard")
    ended = parent.run("train", arguments, tmp_path, limited)
    assert ended.status == 2
    assert "File too large" in said(ended) and "run/" in said(ended)
    assert not list(tmp_path.rglob(".*-*"))
    assert parent.run("train", arguments, tmp_path).status == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())


@pytest.mark.slow
def test_readers_that_are_gone_do_not_end_a_training(tmp_path):
    """As after `train 2>&1 | head -0`."""
    read, write = os.pipe()
    os.close(read)
    arguments = small("--output_dir=run", "--notensorboard", "--epochs=2")
    process = subprocess.run([*TRAIN, *arguments], cwd=tmp_path, stdout=write, stderr=2)
    os.close(write)
    assert process.returncode == 0
    assert (tmp_path / "run/metrics.json").exists()


def test_standard_output_on_a_full_disk(parent, tmp_path):
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "ar_adals_tf.report", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.returncode == 2
    assert process.stderr.startswith("error: standard output cannot be read or written")
    assert process.stderr.count("\n") == 1


def test_interrupted_while_modules_are_imported(tmp_path):
    """As soon as the package has been found: TensorFlow is far from loaded."""
    code = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == os.environ['AT']: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    for module in ("ar_adals_tf.lazy", "absl", "ar_adals_tf.attacks", "tensorflow"):
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        process = subprocess.run(
            [*TRAIN, *small("--output_dir=run")],
            env=os.environ | {"AT": module, "PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert (process.returncode, process.stderr) == (130, INTERRUPTED), module


def test_interrupted_at_a_terminal(tmp_path):
    """Ctrl-C in training: the bar is gone and the sentence begins its line."""
    pid, screen = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execv(TRAIN[0], [*TRAIN, "--limit_examples=60", "--output_dir=run"])
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown, pressed = b"", False
    while True:
        try:
            shown += os.read(screen, 4096)
        except OSError:
            break
        if not pressed and b"epoch" in shown:
            os.write(screen, b"\x03")
            pressed = True
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert b"Traceback" not in shown
    last = shown.decode().rstrip("\r\n").split("\r")[-1].lstrip("\n")
    assert last == INTERRUPTED.strip()


def test_an_interruption_that_is_ignored_stays_ignored(tmp_path):
    """As after `nohup` or `command &`."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "from ar_adals_tf import interruption as i; "
        "i.leave_at_once(); i.raise_in_work(); i.say_no_more(); "
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_library_leaves_signals_alone():
    code = (
        "import signal; import ar_adals_tf, ar_adals_tf.command_line; "
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
