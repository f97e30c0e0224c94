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
from .pools import Child, Pool

logger: logging.Logger = logging.getLogger(__name__)

QUICK_DEATHS_MOST = 5
"""Children in a row that die before they are ready, after which it gives up."""


class Staff:
    """The children of one worker.

    :param size: How many there should be.
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
        self._idle: list[Child] = []
        self._ready: set[str] = set()
        self._made = 0
        self._quick_deaths = 0

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
        return (child.fileno() for child in self.children)

    def deadlines(self) -> Iterator[float]:
        """When hard limits of what runs are over, by the monotonic clock."""
        if self.pool is not None and self.pool.kills:
            for child in self.children:
                if deadline := child.board.read().deadline:
                    yield deadline

    def stamp(self, *, stopping: bool) -> None:
        """Say that the supervisor lives, and whether it stops."""
        for child in self.children:
            child.board.stamp(stopping=stopping)

    def hear(self) -> bool:
        """Take note of what they said; whether one was held back by a pause."""
        held_back = False
        for child in self.children:
            heard = child.hear()
            if not heard:
                continue
            self._ready.add(child.label)
            self._quick_deaths = 0
            if (IDLE in heard or HELD_BACK in heard) and child not in self._idle:
                self._idle.append(child)
            held_back = held_back or HELD_BACK in heard
        return held_back

    def wake(self, count: int) -> None:
        """Tell this many idle ones that there may be a job."""
        for _ in range(min(count, len(self._idle))):
            self._idle.pop(0).wake()

    def wake_all(self) -> None:
        """Make all look at their boards."""
        for child in self.children:
            child.wake()

    def hire(self) -> None:
        """Make those that are missing."""
        while self.pool is not None and len(self.children) < self._size:
            try:
                self.children.append(self.pool.start(self._place))
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
                self._burials.release_rest(child)
            else:
                logger.warning("Child %s of the worker died: %s", child.label, death)
                self._quick_deaths += child.label not in self._ready
                self._burials.recover(child, death)
            self._remove(child)

    def enforce_limits(self) -> None:
        """Kill those whose job is over its hard limit."""
        for child in list(self.children):
            if _is_overdue(child.board.read()) and self._kill(child, _is_overdue):
                self._burials.end_overdue(child)

    def terminate(self, meant: Callable[[Seen], bool]) -> None:
        """Kill those that run what is meant: it was revoked."""
        for child in list(self.children):
            if meant(child.board.read()) and self._kill(child, meant):
                self._burials.end_terminated(child)

    def stop_lost(self, execution: str) -> None:
        """Kill who runs an execution that has lost its lease.

        Not who stores its outcome: the lease goes with that, and the fence refuses
        what comes too late.
        """
        meant = partial(_executes, execution)
        for child in list(self.children):
            if meant(child.board.read()) and self._kill(child, meant):
                logger.warning("Execution %s lost its lease: stopped", execution)
                self._burials.release_rest(child)

    def kill_all(self) -> bool:
        """Kill who is left; whether jobs are given back."""
        killed = [child for child in list(self.children) if self._kill(child)]
        return bool(killed) and self._burials.give_back(killed) > 0

    def _kill(self, child: Child, meant: Callable[[Seen], bool] | None = None) -> bool:
        killed = child.kill(meant)
        if killed:
            self._remove(child)
        return killed

    def _remove(self, child: Child) -> None:
        self.children.remove(child)
        if child in self._idle:
            self._idle.remove(child)
        self._ready.discard(child.label)
        child.close()

    def close(self) -> None:
        """Kill who is left, without a word about what they ran."""
        for child in self.children:
            child.kill()
            child.close()

    def disown(self) -> None:
        """In a forked child: close what is the supervisor's."""
        for child in self.children:
            child.close()


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
