"""Ends what children run before it ended by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from .board import Seen
from .burial import Burials
from .pools import Child, Pool, Seat

logger: logging.Logger = logging.getLogger(__name__)

Meant = Callable[[Seen], bool]
"""Whether what a slot runs is what is to end."""

Bury = Callable[[Seat], None]
"""What becomes of the job of a slot that was killed for it."""


class Kills:
    """Kills children for what they run; what else runs in them is given back.

    :param children: Those that live; a list that changes.
    :param pool: Gives the one they are from.
    :param burials: Gets those that were killed.
    :param remove: Called with each of them.
    """

    def __init__(
        self,
        children: Sequence[Child],
        pool: Callable[[], Pool | None],
        burials: Burials,
        remove: Callable[[Child], None],
    ) -> None:
        self._pool = pool
        self._children = children
        self._burials = burials
        self._remove = remove
        self._limited: set[Seat] = set()
        self._due: list[tuple[float, Meant, Bury]] = []
        """Who was asked to end something, and when that is waited for no longer."""

    def watch(self, seat: Seat) -> None:
        """Take note that a slot runs something with a hard limit."""
        self._limited.add(seat)

    def forget(self, child: Child) -> None:
        """Take note that a child is gone."""
        self._limited.difference_update(child.seats)

    def deadlines(self) -> Iterator[float]:
        """When to look next, by the monotonic clock."""
        yield from (at for at, *_ in self._due)
        for seat in self._limited:
            if deadline := seat.board.read().deadline:
                yield deadline + self._grace

    def enforce_limits(self) -> None:
        """Kill those whose job is over its hard limit, or did not end when asked."""
        # Of hundreds of slots few have one: no board is read without need.
        pool = self._pool()
        able = pool is not None and pool.kills
        self._limited = {s for s in self._limited if able and s.board.read().deadline}
        is_overdue = partial(_is_overdue, self._grace)
        if any(is_overdue(seat.board.read()) for seat in self._limited):
            self._kill(is_overdue, self._burials.end_overdue)
        now = time.monotonic()
        due = [row for row in self._due if row[0] <= now]
        self._due = [row for row in self._due if row[0] > now]
        for _, meant, bury in due:
            self._kill(partial(_still_runs, meant), bury)

    def terminate(self, meant: Meant) -> None:
        """End what was revoked."""
        self._end(meant, "terminated", self._burials.end_terminated)

    def kill_running(self) -> None:
        """Kill those that run a job: RQ's command ``kill-horse``."""
        self._kill(_is_running, self._burials.end_killed)

    def stop_lost(self, execution: str) -> None:
        """End an execution that has lost its lease.

        Not who stores its outcome: the lease goes with that, and the fence refuses
        what comes too late.
        """

        def let_go(seat: Seat) -> None:
            logger.warning("Execution %s lost its lease: stopped", execution)
            self._burials.release_rest([seat])

        self._end(partial(_executes, execution), "its lease was lost", let_go)

    @property
    def _grace(self) -> float:
        pool = self._pool()
        return 0.0 if pool is None else pool.grace

    def _end(self, meant: Meant, reason: str, bury: Bury) -> None:
        """End something: where the pool can do so by asking, with a kill only if it
        runs on after that."""
        if not self._grace:
            self._kill(meant, bury)
            return
        for child in self._children:
            for seat in child.seats:
                if meant(seat.board.read()):
                    child.ask(seat, reason)
        self._due.append((time.monotonic() + self._grace, meant, bury))

    def _kill(self, meant: Meant, bury: Bury) -> None:
        for child in list(self._children):
            seats = child.seats
            if any(meant(s.board.read()) and child.kill(s, meant) for s in seats):
                self._remove(child)
                theirs = [seat for seat in seats if meant(seat.board.read())]
                for seat in theirs:
                    bury(seat)
                if others := [seat for seat in seats if seat not in theirs]:
                    self._burials.give_back(others)


def runs(execution: str, seen: Seen) -> bool:
    """Whether this is what runs."""
    return seen.lease is not None and seen.lease.execution == execution


def runs_job(job_id: str, seen: Seen) -> bool:
    """Whether an execution of this job is what runs."""
    return seen.lease is not None and seen.lease.id == job_id


def _executes(execution: str, seen: Seen) -> bool:
    return seen.started > 0 and runs(execution, seen)


def _still_runs(meant: Meant, seen: Seen) -> bool:
    return seen.started > 0 and meant(seen)


def _is_running(seen: Seen) -> bool:
    return seen.lease is not None and seen.started > 0


def _is_overdue(grace: float, seen: Seen) -> bool:
    return 0 < seen.deadline <= time.monotonic() - grace
