"""All slots in one forked child, a greenlet each. The process is patched by gevent."""

from __future__ import annotations

import contextlib
import contextvars
import json
import socket
import typing as t
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import gevent
from gevent import get_hub, getcurrent

from .. import coroutines
from ..appstate import AppState
from ..errors import TaskRevokedError, TimeLimitExceeded
from .board import Seen
from .limits import OVER, Halt
from .line import Place
from .loop import Slot
from .pools import Child, MakePlace, Seat
from .process import Process, start

GRACE = 0.75
"""Seconds a greenlet has to end when it must. One that computes never hears of it;
``terminate`` promises a second."""

NO_COROUTINES = (
    "an 'async def' function cannot run in a gevent pool: run it with -P threads or"
    " -P prefork"
)


class GreenletTimer:
    """The limits of one slot's greenlet, which they reach where it waits."""

    def __init__(self) -> None:
        self.rang: bool = False
        self._running: t.Any = None

    @contextmanager
    def limit(self, seconds: float | None, error: type[Exception]) -> Iterator[None]:
        """A context that raises ``error`` inside itself after ``seconds``."""
        with self._after(seconds, lambda: error(OVER)):
            yield

    @contextmanager
    def halting(self, hard: float | None) -> Iterator[None]:
        """A context that :class:`Halt` ends after ``hard`` seconds, or by
        :meth:`halt`."""
        self._running = getcurrent()
        try:
            with self._after(hard, lambda: _too_long(hard)):
                yield
        finally:
            self._running = None

    @contextmanager
    def _after(
        self, seconds: float | None, make: Callable[[], BaseException]
    ) -> Iterator[None]:
        if seconds is None:
            yield
            return
        timer = get_hub().loop.timer(seconds)
        # The loop's own time is that of its last turn, before something computed.
        timer.start(self._throw, getcurrent(), make, update=True)
        try:
            yield
        finally:
            timer.close()

    def halt(self, error: Exception) -> None:
        """End the function that runs, if one does. In the hub."""
        if self._running is not None:
            self._throw(self._running, lambda: Halt(error, "stopped"))

    def _throw(self, greenlet: t.Any, make: Callable[[], BaseException]) -> None:
        self.rang = True
        greenlet.throw(make())


def _too_long(seconds: float | None) -> Halt:
    error = TimeLimitExceeded(f"the time limit of {seconds:g} s is over")
    return Halt(error, "failed")


class Greenlets(Process):
    """A child that can end one slot's job and live.

    :param control: Where it hears of that. A word is one datagram.
    """

    def __init__(self, seats: Sequence[Seat], pid: int, control: socket.socket) -> None:
        super().__init__(seats, pid)
        control.setblocking(False)
        self._control = control

    def ask(self, seat: Seat, reason: str) -> None:
        """Ask it to end what a slot runs. One that computes will not hear it."""
        lease = seat.board.read().lease
        if lease is not None:
            word = json.dumps([seat.label, lease.execution, reason])
            with contextlib.suppress(OSError):
                self._control.send(word.encode())

    def death(self) -> str | None:
        """How it died, or ``None`` while it lives."""
        death = super().death()
        if death is not None:
            self._control.close()
        return death

    def kill(
        self, seat: Seat | None = None, meant: Callable[[Seen], bool] | None = None
    ) -> bool:
        """Kill it, as :meth:`Process.kill` does."""
        killed = super().kill(seat, meant)
        self.death()
        return killed


class GreenletPool:
    """Makes a process with a greenlet for each slot.

    :param disown: Called first in a child: closes what is the supervisor's.
    """

    name = "gevent"
    kills = True
    shared = True
    grace: float = GRACE

    def __init__(self, state: AppState, disown: Callable[[], None]) -> None:
        self._state = state
        self._disown = disown

    def start(self, place: MakePlace, slots: int) -> Child:
        """Fork a child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

        def disown() -> None:
            ours.close()
            self._disown()

        def work(places: Sequence[Place]) -> None:
            Crew(self._state, places, theirs).run()

        try:
            seats, pid = start(self._state, place, slots, disown, work)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return Greenlets(seats, pid, ours)


class Crew:
    """The greenlets of one child.

    :param control: Says which executions are to end.
    """

    def __init__(
        self, state: AppState, places: Sequence[Place], control: socket.socket
    ) -> None:
        self._state = state
        self._slots = {place.label: (place, GreenletTimer()) for place in places}
        self._control = control

    def run(self) -> None:
        """Work until every slot has ended.

        :raises BaseException: What escaped from a slot; the others are left behind.
        """
        coroutines.refuse(NO_COROUTINES)
        gevent.spawn(self._obey)
        slots = [gevent.spawn(self._run_slot, *row) for row in self._slots.values()]
        gevent.joinall(slots, raise_error=True)

    def _run_slot(self, place: Place, timer: GreenletTimer) -> None:
        slot = Slot(self._state, place, timer)
        contextvars.Context().run(slot.run)
        # The supervisor sees by it that this slot runs nothing more.
        place.channel.close()

    def _obey(self) -> None:
        while True:
            label, execution, reason = json.loads(self._control.recv(4096))
            # In the hub nothing can come between the look and the halt.
            get_hub().loop.run_callback(partial(self._halt, label, execution, reason))

    def _halt(self, label: str, execution: str, reason: str) -> None:
        place, timer = self._slots[label]
        lease = place.board.read().lease
        if lease is not None and lease.execution == execution:
            timer.halt(TaskRevokedError(reason))
