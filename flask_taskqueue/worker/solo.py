"""One slot in the main thread of the worker itself; the supervisor runs beside it."""

from __future__ import annotations

import contextvars
import os
import signal
import socket
from collections.abc import Callable, Sequence

from .. import signals
from ..appstate import AppState
from .board import Board, Seen
from .limits import AlarmTimer, NoTimer
from .line import Place
from .loop import Slot
from .pools import Child, MakePlace, Seat


class Inline:
    """The process's main thread.

    It cannot be stopped in the middle of a job, only left behind by a process that
    ends.
    """

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats = seats
        self.pid: int = os.getpid()
        self.ended: bool = False

    def death(self) -> str | None:
        """It ends when the worker does."""
        return "exit status 0" if self.ended else None

    def ask(self, seat: Seat, reason: str) -> None:
        """It cannot."""

    def kill(
        self, seat: Seat | None = None, meant: Callable[[Seen], bool] | None = None
    ) -> bool:
        """It cannot, unless everything is to end: then the process will, at once."""
        return seat is None


class SoloPool:
    """One slot in the main thread; the supervisor is a thread beside it."""

    name = "solo"
    kills = False
    shared = True
    grace: float = 0.0

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._place: Place | None = None
        self._child: Inline | None = None

    def start(self, place: MakePlace, slots: int) -> Child:
        """Make the only child; :meth:`run` works as it."""
        ours, theirs = socket.socketpair()
        self._place = place(Board(), theirs)
        self._child = Inline([Seat(self._place, ours)])
        return self._child

    def run(self) -> None:
        """Work in this thread until stopped."""
        if self._place is None or self._child is None:
            return
        try:
            contextvars.Context().run(self._work, self._place)
        finally:
            self._child.ended = True
            self._place.channel.close()

    def _work(self, place: Place) -> None:
        alarm = hasattr(signal, "setitimer")
        timer = AlarmTimer() if alarm else NoTimer()
        signals.send(signals.worker_process_init, self._state.app, worker=place.worker)
        Slot(self._state, place, timer).run()
