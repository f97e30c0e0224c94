"""How slots are made and stopped: prefork and solo, behind one interface."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import signal
import socket
import time
import typing as t
from collections.abc import Callable

from .. import signals
from ..appstate import AppState
from .board import Board, Seen
from .forked import described, fork
from .limits import AlarmTimer, NoTimer, Timer
from .loop import WAKE, Place, Slot

logger: logging.Logger = logging.getLogger(__name__)

_STOP_WAIT = 1.0


class Child(t.Protocol):
    """One slot as its supervisor sees it.

    :ivar label: Names it among the worker's, anew for each child.
    :ivar prefix: Beginning of the ids of its executions.
    """

    label: str
    prefix: str
    board: Board

    def fileno(self) -> int:
        """Descriptor on which it can be heard."""

    def hear(self) -> bytes:
        """What it sent since; ``b""`` at the end of file."""

    def wake(self) -> None:
        """Tell it that there may be a job, or that it should look at its board."""

    def death(self) -> str | None:
        """How it died, or ``None`` while it lives."""

    def kill(self, meant: Callable[[Seen], bool] | None = None) -> bool:
        """Kill it, if what it runs is what is meant; whether it is dead now.

        :param meant: ``None`` is whatever it runs.
        """

    def close(self) -> None:
        """Close this end of its channel."""


class Pool(t.Protocol):
    """Makes children."""

    name: str
    kills: bool
    """A running job can be stopped."""

    def start(self, place: Callable[[Board, socket.socket], Place]) -> Child:
        """Make a child; ``place`` gets its board and its end of the channel."""


class _Channel:
    """The supervisor's end of the talk with a slot."""

    def __init__(self, place: Place, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.board: Board = place.board
        self.label: str = place.label
        self.prefix: str = place.prefix
        self._channel = channel

    def fileno(self) -> int:
        """Descriptor on which it can be heard."""
        return self._channel.fileno()

    def hear(self) -> bytes:
        """What it sent since; ``b""`` at the end of file, and when nothing came."""
        try:
            return self._channel.recv(4096)
        except (BlockingIOError, ConnectionError):
            return b""

    def wake(self) -> None:
        """Send one byte; a child that died, or was told often enough, needs none."""
        with contextlib.suppress(OSError):
            self._channel.send(WAKE)

    def close(self) -> None:
        """Close this end."""
        self._channel.close()


class Process(_Channel):
    """A forked child."""

    def __init__(self, place: Place, channel: socket.socket, pid: int) -> None:
        super().__init__(place, channel)
        self.pid = pid
        self._death: str | None = None

    def death(self) -> str | None:
        """How it died, or ``None`` while it lives."""
        if self._death is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._death = described(status)
        return self._death

    def kill(self, meant: Callable[[Seen], bool] | None = None) -> bool:
        """Kill it, if what it runs is what is meant; whether it is dead now.

        Stopped first and looked at then: between a look and a kill it could have
        finished one job and begun another.
        """
        if self.death() is not None:
            return False
        if meant is not None:
            os.kill(self.pid, signal.SIGSTOP)
            if not self._await_stop() or not meant(self.board.read()):
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
    """A process for each slot, forked from the supervisor, which loaded the app.

    :param disown: Called first in a child: closes what is the supervisor's. A dead
        supervisor's blocked connection must not live on in its children.
    """

    name = "prefork"
    kills = True

    def __init__(self, state: AppState, disown: Callable[[], None]) -> None:
        self._state = state
        self._disown = disown
        self._inherited: list[object] = []

    def start(self, place: Callable[[Board, socket.socket], Place]) -> Child:
        """Fork a child."""
        ours, theirs = socket.socketpair()
        mine = place(Board(), theirs)

        def begin() -> None:
            ours.close()
            self._disown()

        try:
            pid = fork(
                self._state,
                "A child of the worker",
                begin,
                lambda parent: _work(self._state, mine, AlarmTimer()),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return Process(mine, ours, pid)


def _work(state: AppState, place: Place, timer: Timer) -> None:
    signals.send(signals.worker_process_init, state.app, worker=place.worker)
    Slot(state, place, timer).run()


class Inline(_Channel):
    """The slot of the solo pool: the process's main thread.

    It cannot be stopped in the middle of a job, only left behind by a process that
    ends.
    """

    ended = False

    def death(self) -> str | None:
        """It ends when the worker does."""
        return "exit status 0" if self.ended else None

    def kill(self, meant: Callable[[Seen], bool] | None = None) -> bool:
        """It cannot, unless everything is to end: then the process will, at once."""
        return meant is None


class SoloPool:
    """One slot in the main thread; the supervisor is a thread beside it."""

    name = "solo"
    kills = False

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._place: Place | None = None
        self._child: Inline | None = None

    def start(self, place: Callable[[Board, socket.socket], Place]) -> Child:
        """Make the only child; :meth:`run` works as it."""
        ours, theirs = socket.socketpair()
        self._place = place(Board(), theirs)
        self._child = Inline(self._place, ours)
        return self._child

    def run(self) -> None:
        """Work in this thread until stopped."""
        if self._place is None or self._child is None:
            return
        alarm = hasattr(signal, "setitimer")
        try:
            contextvars.Context().run(
                _work, self._state, self._place, AlarmTimer() if alarm else NoTimer()
            )
        finally:
            self._child.ended = True
            self._place.channel.close()
