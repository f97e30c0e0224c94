"""A process for each slot, forked from the supervisor, which loaded the app."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..appstate import AppState
from .limits import AlarmTimer
from .line import Place
from .loop import Slot
from .pools import Child, MakePlace
from .process import Process, start


class PreforkPool:
    """Makes a process for each slot.

    :param disown: Called first in a child: closes what is the supervisor's.
    """

    name = "prefork"
    kills = True
    shared = False
    grace: float = 0.0

    def __init__(self, state: AppState, disown: Callable[[], None]) -> None:
        self._state = state
        self._disown = disown

    def start(self, place: MakePlace, slots: int) -> Child:
        """Fork a child."""
        return Process(*start(self._state, place, slots, self._disown, self._work))

    def _work(self, places: Sequence[Place]) -> None:
        for place in places:
            Slot(self._state, place, AlarmTimer()).run()
