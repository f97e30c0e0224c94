"""All slots in one forked child, a thread each."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence

from ..appstate import AppState
from .alarms import Clock, ThreadTimer
from .line import Place
from .loop import Slot
from .pools import Child, MakePlace
from .process import Process, start


class ThreadPool:
    """Makes a process with a thread for each slot.

    :param disown: Called first in a child: closes what is the supervisor's.
    """

    name = "threads"
    kills = True
    shared = True
    grace: float = 0.0

    def __init__(self, state: AppState, disown: Callable[[], None]) -> None:
        self._state = state
        self._disown = disown

    def start(self, place: MakePlace, slots: int) -> Child:
        """Fork a child."""
        return Process(*start(self._state, place, slots, self._disown, self._work))

    def _work(self, places: Sequence[Place]) -> None:
        Crew(self._state, places).run()


class Crew:
    """The threads of one child, and the clock of their limits."""

    def __init__(self, state: AppState, places: Sequence[Place]) -> None:
        self._state = state
        self._places = places
        self._clock = Clock()
        self._working = len(places)
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Work until every slot has ended.

        :raises BaseException: What escaped from a slot; the others are left behind.
        """
        for place in self._places:
            # None is waited for: one may hang when the child has to go.
            threading.Thread(
                target=self._run_slot, args=(place,), name=f"slot-{place.label}",
                daemon=True,
            ).start()  # fmt: skip
        self._clock.run()
        if self._error is not None:
            raise self._error

    def _run_slot(self, place: Place) -> None:
        try:
            contextvars.Context().run(self._work, place)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._error = error
            self._clock.stop()
            return
        # The supervisor sees by it that this slot runs nothing more.
        place.channel.close()
        with self._lock:
            self._working -= 1
            if not self._working:
                self._clock.stop()

    def _work(self, place: Place) -> None:
        Slot(self._state, place, ThreadTimer(self._clock)).run()
