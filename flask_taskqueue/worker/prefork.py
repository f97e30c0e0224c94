"""A process for each slot, forked from the supervisor, which loaded the app."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from .. import signals
from ..appstate import AppState
from .board import Board, Seen
from .forked import described, fork
from .limits import AlarmTimer
from .loop import Slot
from .pools import Child, MakePlace, Seat

_STOP_WAIT = 1.0


class Process:
    """A forked child."""

    def __init__(self, seats: Sequence[Seat], pid: int) -> None:
        self.seats = seats
        self.pid = pid
        self._death: str | None = None

    def death(self) -> str | None:
        """How it died, or ``None`` while it lives."""
        if self._death is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._death = described(status)
        return self._death

    def kill(
        self, seat: Seat | None = None, meant: Callable[[Seen], bool] | None = None
    ) -> bool:
        """Kill it, if what one of its slots runs is what is meant; whether it is dead
        now.

        Stopped first and looked at then: between a look and a kill it could have
        finished one job and begun another.
        """
        if self.death() is not None:
            return False
        if seat is not None and meant is not None:
            os.kill(self.pid, signal.SIGSTOP)
            if not self._await_stop() or not meant(seat.board.read()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGCONT)
                return False
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self._death = described(status)
        return True

    def _await_stop(self) -> bool:
        deadline = time.monotonic() + _STOP_WAIT
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self._death = described(status)
                return False
            os.sched_yield()
        return False


class PreforkPool:
    """Makes a process for each slot.

    :param disown: Called first in a child: closes what is the supervisor's. A dead
        supervisor's blocked connection must not live on in its children.
    """

    name = "prefork"
    kills = True
    shared = False

    def __init__(self, state: AppState, disown: Callable[[], None]) -> None:
        self._state = state
        self._disown = disown

    def start(self, place: MakePlace, slots: int) -> Child:
        """Fork a child."""
        ours, theirs = socket.socketpair()
        mine = place(Board(), theirs)

        def begin() -> None:
            ours.close()
            self._disown()

        def work(parent: int) -> None:
            name = mine.worker
            signals.send(signals.worker_process_init, self._state.app, worker=name)
            Slot(self._state, mine, AlarmTimer()).run()

        try:
            pid = fork(self._state, "A child of the worker", begin, work)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return Process([Seat(mine, ours)], pid)
