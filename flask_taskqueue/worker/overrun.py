"""What a slot claimed ahead and does not get to: stored, or given back, in time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from operator import itemgetter
from weakref import WeakKeyDictionary

from redis import Redis

from ..broker import scripts
from ..broker.wire import Lease, number_of
from .board import Seen
from .outcome import store_rows
from .pools import Seat

LOOK_EVERY = 0.004
"""Seconds between two looks at the slots that claim ahead."""

KEPT_MOST = 0.005
"""Seconds an end is kept back; then the supervisor stores it."""

AHEAD_MOST = 0.01
"""Seconds a job waits in a slot that claimed it; then the supervisor gives it back."""


class Overruns:
    """Looks after slots that claim ahead, whatever they run: they need not answer.

    :param client: The supervisor's own.
    """

    def __init__(self, client: Redis, queues: Sequence[str]) -> None:
        self._client = client
        self._queues = queues
        self._unread: list[tuple[Seat, Seen]] = []
        self._to_tell: list[tuple[Seat, int]] = []
        self._taken: list[tuple[float, Sequence[Lease]]] = []
        """By the time when they were claimed: so they are put back."""
        self._stored: WeakKeyDictionary[Seat, tuple[int, int]] = WeakKeyDictionary()
        self._begun: WeakKeyDictionary[Seat, tuple[int, int]] = WeakKeyDictionary()

    def look(self, seats: Iterable[Seat]) -> set[Seat]:
        """Store and take back what is due.

        :return: Those that still claim ahead.
        """
        still = set()
        for seat in seats:
            seen = seat.board.read()
            if len(seen.leases) > 1 or seen.asked or (seen.leases and seen.unwritten):
                still.add(seat)
                self._see_to(seat, seen, time.monotonic())
        while self._unread:
            self._fetch(*self._unread[0])
            del self._unread[0]
        if self._taken:
            in_order = sorted(self._taken, key=itemgetter(0))
            leases = [lease for _, taken in in_order for lease in taken]
            scripts.release(self._client, leases, started=False)
            self._taken.clear()
        for seat, calls in self._to_tell:
            # Not before: it looks for jobs then, and may end where there are none.
            seat.board.take_back(calls)
            seat.wake()
        self._to_tell.clear()
        return still

    def recall(self, seats: Iterable[Seat], job_id: str) -> None:
        """Let a job not begin that was claimed ahead; the next look gives it back."""
        for seat in seats:
            # It may be on its way to any of them.
            self._intercept(seat)
            if any(lease.id == job_id for lease in seat.board.read().ahead):
                self._take_back(seat)

    def _see_to(self, seat: Seat, seen: Seen, now: float) -> None:
        held_back = seen.kept and now - seen.kept > KEPT_MOST
        if held_back or (seen.sent and now - seen.claimed > KEPT_MOST):
            self._store(seat, seen)
        if now - seen.claimed > AHEAD_MOST:
            self._take_back(seat)
            self._write_begun(seat, now)
        if seen.asked and now - seen.asked > AHEAD_MOST:
            self._intercept(seat)

    def _store(self, seat: Seat, seen: Seen) -> None:
        """Store what it keeps back. It does so itself, too: the second is refused."""
        ends = seat.board.ends()
        done = (seen.calls, len(ends))
        if self._stored.get(seat) != done:
            store_rows(self._client, ends)
            self._stored[seat] = done

    def _take_back(self, seat: Seat) -> None:
        if not (count := seat.board.tokens.take_all()):
            return
        # Now the slot cannot go on to another claim, whichever it is at: what is
        # taken are the last jobs of this one.
        seen = seat.board.read()
        self._taken.append((seen.claimed, seen.leases[-count:]))
        self._to_tell.append((seat, seen.calls))

    def _intercept(self, seat: Seat) -> None:
        """Take what is on its way to a slot that does not get to it. What the server
        gives later the slot gives back when it hears of it."""
        if not seat.board.right.take():
            return
        # The slot waits for this before it asks again: they are the ones it asked for.
        seen = seat.board.read()
        seat.board.intercept(seen.asked_last)
        seat.wake()
        self._unread.append((seat, seen))

    def _fetch(self, seat: Seat, seen: Seen) -> None:
        """Take the leases that the slot has not read."""
        found = scripts.held(self._client, seat.prefix, self._queues)
        leases = [
            lease
            for lease in found
            if seen.asked_first <= number_of(lease) <= seen.asked_last
        ]
        self._taken.append((seen.asked, sorted(leases, key=number_of)))

    def _write_begun(self, seat: Seat, now: float) -> None:
        """One that was claimed ahead and runs is not written as started yet."""
        seen = seat.board.read()
        which = (seen.calls, seen.at)
        ahead = seen.at > 0 or seen.unwritten
        if seen.lease and ahead and seen.started:
            if self._begun.get(seat) != which:
                scripts.begun(self._client, seen.lease, now - seen.started)
                self._begun[seat] = which
