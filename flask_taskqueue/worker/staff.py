"""A worker's children: made, heard, woken, stopped when they must be, replaced."""

from __future__ import annotations

import logging
import socket
import typing as t
from collections.abc import Iterator
from functools import partial
from itertools import filterfalse

from ..terms import Limits
from .board import Board
from .burial import Burials
from .handover import Heritage
from .kills import Kills
from .line import AHEAD, HELD_BACK, IDLE, LIMITED, Place
from .pools import Child, Pool, Seat
from .process import Process
from .succession import Succession
from .wear import Lifetime, Wear

logger: logging.Logger = logging.getLogger(__name__)

QUICK_DEATHS_MOST = 5
"""Children in a row that die before they are ready, after which it gives up."""


class Staff:
    """The children of one worker.

    :param size: How many slots there should be.
    :param burials: Gets those that died.
    :param lifetime: How long a child is used.
    :param limits: For jobs that name none.
    :param claim_ahead: Jobs that a slot may claim at once.
    """

    def __init__(
        self,
        worker: str,
        queues: tuple[str, ...],
        size: int,
        burials: Burials,
        lifetime: Lifetime,
        limits: Limits,
        claim_ahead: int,
    ) -> None:
        self.pool: Pool | None = None
        self.children: list[Child] = []
        self._worker = worker
        self._queues = queues
        self._size = size
        self._burials = burials
        self._lifetime = lifetime
        self._limits = limits
        self._claim_ahead = claim_ahead
        self._succession = Succession(size)
        self._idle: list[Seat] = []
        self._ready: set[str] = set()
        self.ahead: set[Seat] = set()
        """Those that said that they claim ahead."""
        self.made: int = 0
        self._quick_deaths = 0
        self.kills: Kills = Kills(
            self.children, lambda: self.pool, burials, self._remove
        )

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
        return (seat.fileno() for seat in self.seats if not seat.gone)

    def stamp(self, *, stopping: bool) -> None:
        """Say that the supervisor lives, and whether it stops."""
        for child in self.children:
            told = self._succession.was_told(child)
            for seat in child.seats:
                seat.board.stamp(stopping=stopping or told)

    def hear(self) -> bool:
        """Take note of what they said; whether one was held back by a pause."""
        heard = [
            self._note(child, seat, said)
            for child in self.children
            for seat in child.seats
            if (said := seat.hear())
        ]
        return any(heard)

    def _note(self, child: Child, seat: Seat, said: bytes) -> bool:
        if seat.label not in self._ready:
            self._ready.add(seat.label)
            self._quick_deaths = 0
        if LIMITED in said:
            self.kills.watch(seat)
        if IDLE in said or HELD_BACK in said:
            if seat not in self._idle and not self._succession.was_told(child):
                self._idle.append(seat)
        if AHEAD in said:
            self.ahead.add(seat)
        if reason := self._lifetime.reason(said):
            # Whoever wakes its slots, they claim nothing more.
            seat.gone = True
            self._forget_idle(child)
            self.retire(child, reason)
        return HELD_BACK in said

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
        while self.pool is not None and (missing := self._missing) > 0:
            place = partial(self._place, self._lifetime.begin())
            try:
                child = self.pool.start(place, missing if self.pool.shared else 1)
            except OSError as error:
                # No memory or no process to be had: in a second there may be.
                logger.error("No child of the worker can be made: %s", error)
                return
            self.children.append(child)
            if self._succession.holds:
                self._succession.hold(child)

    @property
    def _missing(self) -> int:
        staying = filterfalse(self._succession.is_leaving, self.children)
        return self._size - sum(len(child.seats) for child in staying)

    def _place(self, wear: Wear | None, board: Board, channel: t.Any) -> Place:
        self.made += 1
        return self._labelled(str(self.made), wear, board, channel)

    def _labelled(
        self, label: str, wear: Wear | None, board: Board, channel: socket.socket
    ) -> Place:
        return Place(
            worker=self._worker,
            label=label,
            queues=self._queues,
            board=board,
            channel=channel,
            most=self._claim_ahead,
            limits=self._limits,
            wear=wear,
            held=self._succession.holds,
        )

    def retire(self, child: Child, reason: str) -> None:
        """Replace a child, without harm to what it runs.

        It goes on until another is connected in its place. Then it claims nothing
        more, ends what it runs, and gives back what it had not begun; the other one
        begins as it leaves off. Again, or for one that is dead, this does nothing.

        :param reason: For the log: what is the matter with it.
        """
        if child in self.children and not self._succession.is_leaving(child):
            logger.info("Child %s is replaced: %s", _labels(child), reason)
            self._succession.replace(child)

    def adopt(self, heritage: Heritage) -> None:
        """Take over the children of the program before: they leave, and are replaced
        as they finish."""
        self.made = heritage.made
        for pid, rows in heritage.children:
            seats = []
            for label, channel, board in rows:
                link = socket.socket(fileno=channel)
                place = self._labelled(label, None, Board(board), link)
                seats.append(Seat(place, link))
            child = Process(seats, pid)
            self.children.append(child)
            self._ready |= {seat.label for seat in seats}
            for seat in seats:
                self.kills.watch(seat)
            self._succession.take_over(child)

    def legacy(self) -> list[tuple[int, list[tuple[str, int, int]]]]:
        """The children, for :meth:`adopt` of the program after this one."""
        return [
            (child.pid, [(seat.label, *seat.descriptors()) for seat in child.seats])
            for child in self.children
        ]

    def hand_over(self) -> None:
        """Do what is due of the replacements that were asked for."""
        ready, hopeless = self._ready, self.hopeless
        step = self._succession.step(self.children, ready, hopeless=hopeless)
        for seat in step.begin:
            seat.wake()
        for child in step.leave:
            self._forget_idle(child)
            for seat in child.seats:
                seat.board.stamp(stopping=True)
                seat.wake()

    def _forget_idle(self, child: Child) -> None:
        self._idle = [seat for seat in self._idle if seat not in child.seats]

    def notice_deaths(self, *, stopping: bool) -> None:
        """Hand over to the burials who died by itself."""
        for child in list(self.children):
            death = child.death()
            if death is None:
                continue
            expected = stopping or self._succession.was_told(child)
            if expected and death == "exit status 0":
                self._burials.release_rest(child.seats)
            else:
                logger.warning("Child %s of the worker died: %s", _labels(child), death)
                self._quick_deaths += not any(
                    seat.label in self._ready for seat in child.seats
                )
                self._burials.recover(child.seats, death)
            self._remove(child)

    def kill_all(self) -> bool:
        """Kill who is left; whether jobs are given back."""
        killed = [child for child in list(self.children) if child.kill()]
        for child in killed:
            self._remove(child)
        seats = [seat for child in killed for seat in child.seats]
        return bool(seats) and self._burials.give_back(seats) > 0

    def _remove(self, child: Child) -> None:
        self.children.remove(child)
        self._succession.forget(child)
        self.kills.forget(child)
        self._forget_idle(child)
        for seat in child.seats:
            self._ready.discard(seat.label)
            self.ahead.discard(seat)
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


def _labels(child: Child) -> str:
    first, last = child.seats[0].label, child.seats[-1].label
    return first if first == last else f"{first} to {last}"
