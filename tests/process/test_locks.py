"""One writer a folder, with real processes, some of them killed. Seconds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from ar_adals_tf.errors import InputError
from ar_adals_tf.process import locks
from ar_adals_tf.process.locks import LOCK, holder, is_held, only_writer, when_free

HOLD = """
import sys, time
from ar_adals_tf.process.locks import only_writer
with only_writer(sys.argv[1] + "/.lock"):
    print("has it", flush=True)
    time.sleep(float(sys.argv[2])) if sys.argv[2:] else sys.stdin.readline()
"""
COUNT = """
import sys, time
from pathlib import Path
from ar_adals_tf.process.locks import only_writer
for _ in range(20):
    with only_writer(sys.argv[1] + "/.lock", say=lambda _: None):
        path = Path(sys.argv[1], "count")
        value = int(path.read_text())
        time.sleep(0.001)
        path.write_text(str(value + 1))
"""


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_second_says_for_whom_it_waits_and_then_has_it(tmp_path):
    first = start(HOLD, tmp_path)
    assert first.stdout.readline() == "has it\n"
    assert holder(tmp_path / LOCK).startswith(f"process {first.pid} on ")
    second = start(HOLD, tmp_path, 0)
    assert f"waiting for process {first.pid} on " in second.stdout.readline()
    first.communicate("end\n")
    assert second.stdout.readline() == "has it\n"
    assert first.wait() == second.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_releases_it(tmp_path, number):
    first = start(HOLD, tmp_path, 60)
    first.stdout.readline()
    os.kill(first.pid, number)
    first.wait()
    with only_writer(tmp_path / LOCK, say=pytest.fail):  # it does not wait
        assert holder(tmp_path / LOCK).startswith(f"process {os.getpid()} on ")


def test_no_two_processes_are_in_at_once(tmp_path):
    """A counter that is read, then written, loses nothing."""
    (tmp_path / "count").write_text("0")
    processes = [start(COUNT, tmp_path) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "80"


WITHOUT_LOCKS = """
import errno, fcntl, sys
def flock(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = flock
"""


def test_a_disk_without_locks_has_one_writer_too(tmp_path):
    """As some network folders, where the system's call is missing."""
    first = start(WITHOUT_LOCKS + HOLD, tmp_path)
    assert first.stdout.readline() == "has it\n"
    assert holder(tmp_path / LOCK).startswith(f"process {first.pid} on ")
    second = start(WITHOUT_LOCKS + HOLD, tmp_path, 0)
    assert f"waiting for process {first.pid} on " in second.stdout.readline()
    first.communicate("end\n")
    assert second.stdout.readline() == "has it\n"
    assert second.wait() == 0
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_windows_leaves_nothing_behind(tmp_path, monkeypatch):
    """There the lock is given back before its file goes, which filelock removes."""

    class Windows(FileLock):
        def release(self, force=False):
            super().release(force)
            Path(self.lock_file).unlink()

    monkeypatch.setattr(locks, "FileLock", Windows)
    monkeypatch.setattr(locks, "_WINDOWS", True)
    monkeypatch.delattr(os, "pwrite")  # it is not there
    with only_writer(tmp_path / LOCK):
        assert holder(tmp_path / LOCK).startswith(f"process {os.getpid()} on ")
    when_free(tmp_path / LOCK, lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_releases_it(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path / LOCK):
        raise KeyError
    with only_writer(tmp_path / LOCK, say=pytest.fail):
        pass


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with (
        pytest.raises(InputError, match="cannot be locked"),
        only_writer(tmp_path / "file" / "deeper" / LOCK),
    ):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="cannot be locked"),
        only_writer(tmp_path / "file" / LOCK),
    ):
        pass


def test_nothing_is_left_behind(tmp_path):
    with only_writer(tmp_path / LOCK):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_process_may_refuse_to_wait(tmp_path):
    first = start(HOLD, tmp_path, 60)
    first.stdout.readline()

    def refuse():
        raise InputError("holds a run with other settings")

    with (
        pytest.raises(InputError, match="other settings"),
        only_writer(tmp_path / LOCK, say=pytest.fail, before_waiting=refuse),
    ):
        pass
    first.kill()
    first.wait()


def test_what_can_wait_is_done_only_where_nobody_works(tmp_path):
    """Not beside a process that works, nor where nothing can be written."""
    done = []
    first = start(HOLD, tmp_path, 60)
    first.stdout.readline()
    when_free(tmp_path / LOCK, lambda: done.append(1))
    assert not done
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    when_free(tmp_path / LOCK, lambda: done.append(2))
    assert done == [2]
    assert list(tmp_path.iterdir()) == []
    when_free(Path("/proc") / LOCK, lambda: done.append(3))
    when_free(tmp_path / "absent" / "deeper" / LOCK, lambda: done.append(4))
    assert 3 not in done


def test_whether_a_lock_is_held_can_be_asked_without_a_trace(tmp_path):
    lock = tmp_path / LOCK
    assert not is_held(lock)
    assert not lock.exists()
    process = start(HOLD, tmp_path)
    assert process.stdout.readline() == "has it\n"
    assert is_held(lock)
    assert holder(lock).startswith(f"process {process.pid} on ")
    process.kill()  # its file stays, its lock does not
    process.communicate()
    assert lock.exists()
    assert not is_held(lock)
