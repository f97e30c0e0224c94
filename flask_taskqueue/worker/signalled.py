"""Signals a supervisor got, and how they end its sleep."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator

from .. import unpatched
from .stacks import show_at_ttin

NAMES = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGTSTP", "SIGHUP")
"""Signals a supervisor obeys, as far as the system has them."""

OBEYED: tuple[signal.Signals, ...] = tuple(
    signal.Signals[name] for name in NAMES if name in signal.Signals.__members__
)

BLOCKED: tuple[signal.Signals, ...] = (
    *OBEYED,
    *(s for s in signal.Signals if s.name == "SIGTTIN"),
)
"""What must not reach a process that has no handlers yet."""


class Signals:
    """A queue of signals, and a descriptor that is readable when one came."""

    def __init__(self) -> None:
        self._asked: deque[int] = deque()
        self._had_terminal = _has_terminal()
        self._wakeup, self._wakeup_end = os.pipe()
        for descriptor in (self._wakeup, self._wakeup_end):
            os.set_blocking(descriptor, False)

    def install(self) -> None:
        """Take over those of :data:`OBEYED`, TTIN and CHLD. In the main thread."""
        signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)
        for number in OBEYED:
            # nohup has HUP ignored, for a worker that outlives its terminal.
            nohup = number.name == "SIGHUP" and _is_ignored(number)
            if not nohup:
                signal.signal(number, lambda n, _: self._asked.append(n))
        if hasattr(signal, "SIGTTIN"):
            signal.signal(signal.SIGTTIN, lambda n, _: self._asked.append(n))
            show_at_ttin(chain=True)
        # A handler is needed for CHLD to wake the loop.
        set_handler = unpatched.original("signal", "signal")
        set_handler(signal.SIGCHLD, lambda *_: None)

    def taken(self) -> Iterator[signal.Signals]:
        """Those that came since, first come first."""
        while self._asked:
            number = signal.Signals(self._asked.popleft())
            if number.name == "SIGHUP" and self._had_terminal and not _has_terminal():
                # Somebody closed the window it ran in.
                number = signal.SIGTERM
            yield number

    def fileno(self) -> int:
        """Descriptor to sleep on."""
        return self._wakeup

    def drain(self) -> None:
        """Make the descriptor unreadable until the next one comes."""
        while True:
            try:
                if len(os.read(self._wakeup, 4096)) < 4096:
                    return
            except BlockingIOError:
                return

    def disown(self) -> None:
        """In a forked child: close both ends."""
        os.close(self._wakeup)
        os.close(self._wakeup_end)

    def close(self) -> None:
        """Take no more."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
            os.close(self._wakeup_end)
        os.close(self._wakeup)


def _has_terminal() -> bool:
    """The process belongs to a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
