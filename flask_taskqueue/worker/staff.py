"""A worker's children: made, heard, woken, stopped when they must be, replaced."""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Callable, Iterator
from functools import partial

from .board import Board, Seen
from .burial import Burials
from .loop import HELD_BACK, IDLE, Place
from .pools import Child, Pool, Seat

logger: logging.Logger = logging.getLogger(__name__)

QUICK_DEATHS_MOST = 5
"""Children in a row that die before they are ready, after which it gives up."""


class Staff:
    """The children of one worker.

    :param size: How many slots there should be.
    :param burials: Gets those that died.
    """

    def __init__(
        self, worker: str, queues: tuple[str, ...], size: int, burials: Burials
    ) -> None:
        self.pool: Pool | None = None
        self.children: list[Child] = []
        self._worker = worker
        self._queues = queues
        self._size = size
        self._burials = burials
        self._idle: list[Seat] = []
        self._ready: set[str] = set()
        self._made = 0
        self._quick_deaths = 0

    @property
    def seats(self) -> list[Seat]:
        """The slots of all children."""
        return [seat for child in self.children for seat in child.seats]

    @property
    def hopeless(self) -> bool:
        """They cannot start."""
        return self._quick_deaths >= QUICK_DEATHS_MOST

    @property
    def all_ready(self) -> bool:
        """Each is connected."""
        return len(self._ready) >= self._size

    @property
    def all_idle(self) -> bool:
        """Each looked for a job and found none."""
        return len(self._idle) >= self._size

    @property
    def some_idle(self) -> bool:
        """One at least waits for a job."""
        return bool(self._idle)

    def filenos(self) -> Iterator[int]:
        """Descriptors that become readable when one says something."""
        return (seat.fileno() for seat in self.seats)

    def deadlines(self) -> Iterator[float]:
        """When hard limits of what runs are over, by the monotonic clock."""
        if self.pool is not None and self.pool.kills:
            for seat in self.seats:
                if deadline := seat.board.read().deadline:
                    yield deadline

    def stamp(self, *, stopping: bool) -> None:
        """Say that the supervisor lives, and whether it stops."""
        for seat in self.seats:
            seat.board.stamp(stopping=stopping)

    def hear(self) -> bool:
        """Take note of what they said; whether one was held back by a pause."""
        held_back = False
        for seat in self.seats:
            heard = seat.hear()
            if not heard:
                continue
            self._ready.add(seat.label)
            self._quick_deaths = 0
            if (IDLE in heard or HELD_BACK in heard) and seat not in self._idle:
                self._idle.append(seat)
            held_back = held_back or HELD_BACK in heard
        return held_back

    def wake(self, count: int) -> None:
        """Tell this many idle ones that there may be a job."""
        for _ in range(min(count, len(self._idle))):
            self._idle.pop(0).wake()

    def wake_all(self) -> None:
        """Make all look at their boards."""
        for seat in self.seats:
            seat.wake()

    def hire(self) -> None:
        """Make those that are missing."""
        while self.pool is not None and (missing := self._size - len(self.seats)) > 0:
            try:
                slots = missing if self.pool.shared else 1
                self.children.append(self.pool.start(self._place, slots))
            except OSError as error:
                # No memory or no process to be had: in a second there may be.
                logger.error("No child of the worker can be made: %s", error)
                return

    def _place(self, board: Board, channel: t.Any) -> Place:
        self._made += 1
        return Place(
            worker=self._worker,
            label=str(self._made),
            queues=self._queues,
            board=board,
            channel=channel,
        )

    def notice_deaths(self, *, stopping: bool) -> None:
        """Hand over to the burials who died by itself."""
        for child in list(self.children):
            death = child.death()
            if death is None:
                continue
            if stopping and death == "exit status 0":
                self._burials.release_rest(child.seats)
            else:
                labels = ", ".join(seat.label for seat in child.seats)
                logger.warning("Child %s of the worker died: %s", labels, death)
                self._quick_deaths += not any(
                    seat.label in self._ready for seat in child.seats
                )
                self._burials.recover(child.seats, death)
            self._remove(child)

    def enforce_limits(self) -> None:
        """Kill those whose job is over its hard limit."""
        for seat in self._kill_meant(_is_overdue):
            self._burials.end_overdue(seat)

    def terminate(self, meant: Callable[[Seen], bool]) -> None:
        """Kill those that run what is meant: it was revoked."""
        for seat in self._kill_meant(meant):
            self._burials.end_terminated(seat)

    def stop_lost(self, execution: str) -> None:
        """Kill who runs an execution that has lost its lease.

        Not who stores its outcome: the lease goes with that, and the fence refuses
        what comes too late.
        """
        for seat in self._kill_meant(partial(_executes, execution)):
            logger.warning("Execution %s lost its lease: stopped", execution)
            self._burials.release_rest([seat])

    def kill_all(self) -> bool:
        """Kill who is left; whether jobs are given back."""
        killed = [child for child in list(self.children) if child.kill()]
        for child in killed:
            self._remove(child)
        seats = [seat for child in killed for seat in child.seats]
        return bool(seats) and self._burials.give_back(seats) > 0

    def _kill_meant(self, meant: Callable[[Seen], bool]) -> Iterator[Seat]:
        """Kill who runs what is meant; what else runs in the same child is given
        back."""
        for child in list(self.children):
            for seat in child.seats:
                if meant(seat.board.read()) and child.kill(seat, meant):
                    self._remove(child)
                    yield seat
                    others = [other for other in child.seats if other is not seat]
                    if others:
                        self._burials.give_back(others)
                    break

    def _remove(self, child: Child) -> None:
        self.children.remove(child)
        for seat in child.seats:
            if seat in self._idle:
                self._idle.remove(seat)
            self._ready.discard(seat.label)
            seat.close()

    def close(self) -> None:
        """Kill who is left, without a word about what they ran."""
        for child in self.children:
            child.kill()
        self.disown()

    def disown(self) -> None:
        """Close what is the supervisor's; in a forked child, too."""
        for seat in self.seats:
            seat.close()


def runs(execution: str, seen: Seen) -> bool:
    """Whether this is what runs."""
    return seen.lease is not None and seen.lease.execution == execution


def _executes(execution: str, seen: Seen) -> bool:
    return seen.started > 0 and runs(execution, seen)


def runs_job(job_id: str, seen: Seen) -> bool:
    """Whether an execution of this job is what runs."""
    return seen.lease is not None and seen.lease.id == job_id


def _is_overdue(seen: Seen) -> bool:
    return 0 < seen.deadline <= time.monotonic()
