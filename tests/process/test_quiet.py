"""What C++ prints to standard error is held back, and shown if the work fails."""

import os

import pytest

from ar_adals_tf.process.quiet import quiet_libraries


def print_from_below():
    """Print as a library in C++ does: past Python's `sys.stderr`."""
    os.write(2, b"from below\n")


def test_what_libraries_print_is_held_back(capfd):
    with quiet_libraries():
        print_from_below()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_what_was_held_back_is_shown_if_the_work_fails(capfd):
    with pytest.raises(ZeroDivisionError), quiet_libraries():
        print_from_below()
        raise ZeroDivisionError
    assert capfd.readouterr().err == "from below\n"
    print_from_below()
    assert capfd.readouterr().err == "from below\n"


def test_an_interruption_shows_it_too(capfd):
    with pytest.raises(KeyboardInterrupt), quiet_libraries():
        print_from_below()
        raise KeyboardInterrupt
    assert capfd.readouterr().err == "from below\n"


def test_no_file_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with quiet_libraries():
            print_from_below()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_log_level_that_was_chosen_stays(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet_libraries():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    with quiet_libraries():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
