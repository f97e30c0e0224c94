"""What a slot tells its supervisor without a word: shared memory, made before the
fork. Each part of it has one writer."""

from __future__ import annotations

import io
import marshal
import mmap
import os
import struct
import time
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass

from ..broker.wire import Argument, Lease
from .memory import unnamed_file
from .tokens import Tokens

# calls answered, jobs begun, position of the one at hand (-1: none), started, hard
# deadline, claimed at, first end kept at, asked since, first and last number asked for,
# whether the first was claimed ahead, too; and of the page: which it is, bytes of the
# leases, ends, bytes of these; the last three of the other page, too
_STATE = struct.Struct("=QHhdddddQQ?BIHIIHI")
_pack_state = _STATE.pack_into
# succeeded, failed, seconds worked
_COUNTERS = struct.Struct("=QQd")
_CLIENT = struct.Struct("=Q")
# Of the supervisor, 8 bytes each: last turn, whether to stop, the last call whose jobs
# were taken back, the same of one whose answer the slot had not read
_TURN, _STOP, _TAKEN, _INTERCEPTED = range(4)

_COUNTERS_AT, _CLIENT_AT, _STAMP_AT = 128, 256, 320
_STATES_AT = (512, 640)
_HEAD = 4096
_LEASES_MOST = _ENDS_MOST = 64 * 1024
_PAGE = _LEASES_MOST + _ENDS_MOST
_SIZE = _HEAD + 2 * _PAGE

READS = 1000
"""Tries to read a state that is not written again meanwhile, before giving up."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A slot's state at one moment.

    :param calls: The last number of its executions that a claim has an answer to.
    :param leases: What its last claim got, in the order of their execution.
    :param begun: How many of them it has begun.
    :param at: Position of the one it runs or stores, -1 without one.
    :param started: When the function was called (monotonic clock), 0 once that has
        returned.
    :param deadline: When its hard limit is over, 0 without one.
    :param claimed: When the claim was answered.
    :param kept: When the first of the ends it keeps back was kept, 0 without any.
    :param asked: Since when it asks for the next jobs while it runs these, 0 while it
        does not.
    :param asked_first: The first number of the executions that will be of those.
    :param asked_last: The last of them.
    :param unwritten: The first of the leases was claimed ahead, too: it is not written
        as started.
    :param sent: What its claim before that got, while nobody has confirmed that the
        ends it sent are stored.
    """

    calls: int = 0
    leases: tuple[Lease, ...] = ()
    begun: int = 0
    at: int = -1
    started: float = 0.0
    deadline: float = 0.0
    claimed: float = 0.0
    kept: float = 0.0
    asked: float = 0.0
    asked_first: int = 0
    asked_last: int = 0
    unwritten: bool = False
    sent: tuple[Lease, ...] = ()
    succeeded: int = 0
    failed: int = 0
    worked: float = 0.0

    @property
    def lease(self) -> Lease | None:
        """What it runs or stores."""
        return self.leases[self.at] if self.at >= 0 else None

    @property
    def ahead(self) -> tuple[Lease, ...]:
        """What it claimed and has not begun."""
        return self.leases[self.begun :]


class _Page:
    """What one claim got, and the ends of that.

    :ivar at: Where it begins.
    :ivar leases: Bytes of its leases.
    :ivar size: Bytes of its ends.
    """

    __slots__ = ("at", "ends", "leases", "number", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.at = _HEAD + number * _PAGE
        self.clear()

    def clear(self) -> None:
        """Forget what was on it."""
        self.leases = self.ends = self.size = 0


class Board:
    """One slot's pages of shared memory, and its tokens.

    The state is there twice, and the sequence says which one counts. A writer writes
    the other, and then counts the sequence on; a reader that sees it changed reads
    again. Nobody waits for a writer that is stopped or dead: what it had not said yet
    has not happened.

    :param descriptor: Of the pages of a slot that lives; without it new ones are made.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor: int = unnamed_file(_SIZE) if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, _SIZE)
        stamps = memoryview(self._memory)[_STAMP_AT : _STAMP_AT + 32]
        self._times, self._words = stamps.cast("d"), stamps.cast("Q")
        self._state = memoryview(self._memory)[:8].cast("Q")
        self.tokens: Tokens = Tokens()
        self.right: Tokens = Tokens()
        """One, while jobs are on their way to the slot: to those."""
        self._sequence = 0
        self._page, self._sent = _Page(0), _Page(1)
        self._calls = 0
        self._begun = 0
        self._claimed = 0.0
        self._kept = 0.0
        self._asked = (0.0, 0, 0)
        self._unwritten = False
        self._at: tuple[int, float, float] = (-1, 0.0, 0.0)
        self._counters = (0, 0, 0.0)
        if descriptor is None:
            self.claimed(0, ())
            self.stamp()

    def claimed(
        self,
        calls: int,
        leases: Sequence[Lease],
        *,
        sent: bool = False,
        ahead: bool = False,
    ) -> None:
        """Say what the last claim got; nothing of it runs yet.

        :param calls: The last number of an execution that belongs to it.
        :param sent: The ends kept until now are on their way, and stay until the next
            call, or :meth:`confirmed`.
        :param ahead: The first of them is not about to run, either.
        """
        # Not on the page that a reader may be at.
        self.confirmed()
        page, self._sent = self._sent, self._page
        self._page = page
        if not sent:
            self._sent.clear()
        self._calls, self._begun, self._kept = calls, 0, 0.0
        self._asked, self._unwritten = (0.0, 0, 0), ahead
        self._claimed = time.monotonic()
        text = "\n".join(map("\0".join, leases)).encode()
        self._memory[page.at : page.at + len(text)] = text
        page.leases = len(text)
        self._write(-1, 0.0, 0.0)

    def asks(self, first: int, last: int) -> None:
        """Say that jobs for executions of these numbers are about to be asked for,
        while what was claimed runs. Who takes the right to them gets them."""
        self._asked = (time.monotonic(), first, last)
        self._write(-1, 0.0, 0.0)
        self.right.add(1)

    def confirmed(self) -> None:
        """Say that the ends that were sent are stored."""
        if self._sent.leases:
            self._sent.clear()
            self._write(*self._at)

    def begin(self, at: int, limit: float | None) -> None:
        """Say which of them runs from now on.

        :param limit: Hard limit in seconds.
        """
        now = time.monotonic()
        self._begun = at + 1
        self._write(at, now, now + limit if limit else 0.0)

    def returned(self, at: int) -> None:
        """Say that its function is over: its hard limit no longer counts."""
        self._write(at, 0.0, 0.0)

    def keep(self, end: list[Argument]) -> bool:
        """Keep an end back, to be stored with the next; ``False`` where it does not
        fit. If the slot dies, or the next one takes long, the supervisor stores it."""
        data, page = marshal.dumps(end), self._page
        start, size = page.at + _LEASES_MOST + page.size, page.size + len(data)
        if size > _ENDS_MOST:
            return False
        self._memory[start : start + len(data)] = data
        page.ends, page.size = page.ends + 1, size
        self._kept = self._kept or time.monotonic()
        self._write(-1, 0.0, 0.0)
        return True

    def _write(self, at: int, started: float, deadline: float) -> None:
        page, sent, (asked, first, last) = self._page, self._sent, self._asked
        self._at = at, started, deadline
        self._sequence = sequence = self._sequence + 1
        _pack_state(
            self._memory, _STATES_AT[sequence & 1], self._calls, self._begun, at,
            started, deadline, self._claimed, self._kept, asked, first, last,
            self._unwritten, page.number, page.leases, page.ends, page.size,
            sent.leases, sent.ends, sent.size,
        )  # fmt: skip
        self._state[0] = sequence

    def count(self, succeeded: bool, seconds: float) -> None:
        """Add a job that ended to the counters."""
        good, bad, worked = self._counters
        counters = (good + succeeded, bad + (not succeeded), worked + seconds)
        self._counters = counters
        _COUNTERS.pack_into(self._memory, _COUNTERS_AT, *counters)

    def connected(self, client_id: int) -> None:
        """Say which connection is the slot's."""
        _CLIENT.pack_into(self._memory, _CLIENT_AT, client_id)

    @property
    def stopping(self) -> bool:
        """The supervisor wants no further job claimed."""
        return self._words[_STOP] != 0

    @property
    def stamp_age(self) -> float:
        """Seconds since the supervisor's last turn."""
        return time.monotonic() - self._times[_TURN]

    @property
    def taken_back(self) -> int:
        """The last call of whose jobs the supervisor took some back."""
        return self._words[_TAKEN]

    @property
    def intercepted(self) -> int:
        """The last number of those whose answer the supervisor has seen to itself."""
        return self._words[_INTERCEPTED]

    def stamp(self, *, stopping: bool = False) -> None:
        """Say that the supervisor lives, and whether it stops."""
        # Each by one store: struct's pack_into() would show zeros in between.
        self._times[_TURN] = time.monotonic()
        self._words[_STOP] = stopping

    def take_back(self, calls: int) -> None:
        """Say that jobs of this call are the supervisor's now."""
        self._words[_TAKEN] = calls

    def intercept(self, last: int) -> None:
        """Say that the jobs that were on their way are the supervisor's now."""
        self._words[_INTERCEPTED] = last

    def read(self) -> Seen:
        """The slot's state."""
        return self._snapshot()[0]

    def ends(self) -> list[list[Argument]]:
        """The ends that may not be stored yet, as :meth:`keep` got them."""
        found = []
        for count, data in self._snapshot()[1]:
            stream = io.BytesIO(data)
            # Written by a child of ours, as nothing but lists of texts and numbers.
            found += [marshal.load(stream) for _ in range(count)]  # noqa: S302
        return found

    def _snapshot(self) -> tuple[Seen, list[tuple[int, bytes]]]:
        memory = self._memory
        for _ in range(READS):
            before = self._state[0]
            at = _STATES_AT[before & 1]
            values = _STATE.unpack_from(memory, at)
            number = values[11]
            now, sent = values[12:15], values[15:18]
            page = self._read_page(number, *now)
            other = self._read_page(1 - number, *sent)
            # Each by itself is whole, and a later look has what this one lacks.
            counters = _COUNTERS.unpack_from(memory, _COUNTERS_AT)
            if self._state[0] == before:
                calls, *rest = values[:11]
                told: list[t.Any] = [calls, _leases(page[0]), *rest, _leases(other[0])]
                seen = Seen(*told, *counters)
                return seen, [(sent[1], other[1]), (now[1], page[1])]
        return Seen(), []

    def _read_page(
        self, number: int, length: int, ends: int, size: int
    ) -> tuple[bytes, bytes]:
        at = _HEAD + number * _PAGE
        behind = at + _LEASES_MOST
        return self._memory[at : at + length], self._memory[behind : behind + size]

    @property
    def client_id(self) -> int:
        """The slot's connection, 0 before it has one."""
        return int(_CLIENT.unpack_from(self._memory, _CLIENT_AT)[0])

    def close(self) -> None:
        """Close the descriptor. It can still be read."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _leases(text: bytes) -> tuple[Lease, ...]:
    rows = text.decode().split("\n") if text else []
    return tuple(Lease(*row.split("\0")) for row in rows)
