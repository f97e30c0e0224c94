"""A forked child with slots, as its supervisor sees it, and how it is made."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import typing as t
from collections.abc import Callable, Sequence

from .. import signals, unpatched
from ..appstate import AppState
from .board import Board, Seen
from .forked import described, fork
from .line import Place
from .pools import MakePlace, Seat

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
            pid, status = unpatched.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._death = described(status)
        return self._death

    def ask(self, seat: Seat, reason: str) -> None:
        """It cannot end a job without ending itself."""

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
        _, status = unpatched.waitpid(self.pid, 0)
        self._death = described(status)
        return True

    def _await_stop(self) -> bool:
        deadline = time.monotonic() + _STOP_WAIT
        while time.monotonic() < deadline:
            pid, status = unpatched.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self._death = described(status)
                return False
            os.sched_yield()
        return False


Work = Callable[[Sequence[Place]], None]
"""What a child does with its slots' places, until all have ended."""


def start(
    state: AppState,
    place: MakePlace,
    slots: int,
    disown: Callable[[], None],
    work: Work,
) -> tuple[list[Seat], int]:
    """Fork a child with a number of slots.

    :param disown: Called first in the child: closes what is the supervisor's. A dead
        supervisor's blocked connection must not live on in its children.
    :return: Its seats and its pid.
    :raises OSError: The system refused.
    """
    ours: list[socket.socket] = []
    theirs: list[socket.socket] = []

    def begin() -> None:
        _close(ours)
        disown()

    def run(parent: int) -> None:
        name = places[0].worker
        signals.send(signals.worker_process_init, state.app, worker=name)
        work(places)

    try:
        for _ in range(slots):
            for ends, end in zip((ours, theirs), socket.socketpair(), strict=True):
                ends.append(end)
        places = [place(Board(), channel) for channel in theirs]
        pid = fork(state, "A child of the worker", begin, run)
    except OSError:
        _close(ours)
        raise
    finally:
        _close(theirs)
    return [Seat(*row) for row in zip(places, ours, strict=True)], pid


def _close(ends: t.Iterable[socket.socket]) -> None:
    for end in ends:
        end.close()
