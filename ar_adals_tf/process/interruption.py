"""Ctrl-C: one sentence and status 130, from the first import of a command on.

A library leaves signals alone, so all this is for `python -m ar_adals_tf.<command>`.
While modules are imported, an exception could be caught or reported by any of them. So
the process leaves at once: nothing is written yet. When the work has begun, Python's
own `KeyboardInterrupt` lets it clean up.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

SENTENCE = "interrupted; the same command goes on where it was"
STATUS = 130

_received = False


def leave_at_once() -> None:
    """Let Ctrl-C end the process from now on, without any cleaning up."""
    try:
        screen = os.dup(2)  # while TensorFlow is imported, 2 is another file
    except OSError:
        return

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        os.write(screen, f"{line_start(os.isatty(screen))}{SENTENCE}\n".encode())
        os._exit(STATUS)

    _handle_by(leave)


def raise_in_work() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` from now on."""
    _handle_by(_note_and_raise)


def say_no_more() -> None:
    """Let Ctrl-C end the process without a word: the command has had its last one."""
    _handle_by(signal.SIG_DFL)


def received() -> bool:
    """Tell whether Ctrl-C was pressed since the work began.

    A library in C may turn the exception into another one.
    """
    return _received


def line_start(terminal: bool) -> str:
    """Return what puts a sentence over the ^C that a terminal shows."""
    return "\r" if terminal else ""


def _note_and_raise(number: int, frame: FrameType | None) -> None:
    global _received
    _received = True
    signal.default_int_handler(number, frame)


def _handle_by(handler: Callable[[int, FrameType | None], None] | int) -> None:
    # `nohup` and `command &` have the signal ignored. So it stays.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _is_command() -> bool:
    """Tell whether Python is about to run a module of this package.

    While it looks for the module, the first argument is `-m`.
    """
    given = sys.orig_argv
    return sys.argv[:1] == ["-m"] and any(
        option == "-m" and module.startswith("ar_adals_tf.")
        for option, module in zip(given, given[1:], strict=False)
    )


if _is_command():
    leave_at_once()
