"""What a slot tells its supervisor without a word: shared memory, made before the
fork. The child writes one part, the supervisor the other."""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass

from ..broker.wire import Lease

_SEQUENCE = struct.Struct("=Q")
# calls answered, started, hard deadline, succeeded, failed, seconds worked, text
_STATE = struct.Struct("=QddQQdH")
_CLIENT = struct.Struct("=Q")
_STAMP = struct.Struct("=d?")

_STATE_AT, _CLIENT_AT, _STAMP_AT, _SIZE = 8, 2048, 2056, 4096
_TEXT_AT = _STATE_AT + _STATE.size
_TEXT_MOST = _CLIENT_AT - _TEXT_AT

READS = 1000
"""Tries to read a state between two writes of it, before giving up."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A slot's state at one moment.

    :param calls: Number of the last claim it has an answer to.
    :param lease: What it runs or stores, or ``None``.
    :param started: When its function was called (monotonic clock), 0 once that has
        returned.
    :param deadline: When its hard limit is over, 0 without one.
    """

    calls: int = 0
    lease: Lease | None = None
    started: float = 0.0
    deadline: float = 0.0
    succeeded: int = 0
    failed: int = 0
    worked: float = 0.0


class Board:
    """One slot's page of shared memory.

    A writer makes the sequence odd, writes, and makes it even again; a reader
    that saw it odd, or changed, reads again (a seqlock).
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self._sequence = 0
        self._seen = Seen()
        self.stamp()

    def begin(self, calls: int, lease: Lease, limit: float | None) -> None:
        """Say what runs from now on.

        :param limit: Hard limit in seconds.
        """
        now = time.monotonic()
        self._write(calls, lease, now, now + limit if limit else 0.0, (0, 0, 0.0))

    def returned(self) -> None:
        """Say that the function is over: its hard limit no longer counts."""
        seen = self._seen
        self._write(seen.calls, seen.lease, 0.0, 0.0, (0, 0, 0.0))

    def idle(self, calls: int) -> None:
        """Say that nothing runs."""
        self._write(calls, None, 0.0, 0.0, (0, 0, 0.0))

    def count(self, succeeded: bool, seconds: float) -> None:
        """Add a finished job to the counters."""
        seen = self._seen
        more = (int(succeeded), int(not succeeded), seconds)
        self._write(seen.calls, seen.lease, seen.started, seen.deadline, more)

    def _write(
        self,
        calls: int,
        lease: Lease | None,
        started: float,
        deadline: float,
        more: tuple[int, int, float],
    ) -> None:
        was = self._seen
        seen = Seen(
            calls, lease, started, deadline,
            was.succeeded + more[0], was.failed + more[1], was.worked + more[2],
        )  # fmt: skip
        text = (
            b""
            if lease is None
            else "\0".join((lease.queue, lease.id, lease.execution)).encode()[
                :_TEXT_MOST
            ]
        )
        self._sequence += 1
        _SEQUENCE.pack_into(self._memory, 0, self._sequence)
        _STATE.pack_into(
            self._memory, _STATE_AT, calls, started, deadline,
            seen.succeeded, seen.failed, seen.worked, len(text),
        )  # fmt: skip
        self._memory[_TEXT_AT : _TEXT_AT + len(text)] = text
        self._sequence += 1
        _SEQUENCE.pack_into(self._memory, 0, self._sequence)
        self._seen = seen

    def connected(self, client_id: int) -> None:
        """Say which connection is the slot's."""
        _CLIENT.pack_into(self._memory, _CLIENT_AT, client_id)

    @property
    def stopping(self) -> bool:
        """The supervisor wants no further job claimed."""
        return bool(_STAMP.unpack_from(self._memory, _STAMP_AT)[1])

    @property
    def stamp_age(self) -> float:
        """Seconds since the supervisor's last turn."""
        return time.monotonic() - float(_STAMP.unpack_from(self._memory, _STAMP_AT)[0])

    def stamp(self, *, stopping: bool = False) -> None:
        """Say that the supervisor lives, and whether it stops."""
        _STAMP.pack_into(self._memory, _STAMP_AT, time.monotonic(), stopping)

    def read(self) -> Seen:
        """The slot's state; an empty one where a dead writer left it half done."""
        for _ in range(READS):
            before = self._memory[:8]
            if _SEQUENCE.unpack(before)[0] & 1:
                continue
            values = _STATE.unpack_from(self._memory, _STATE_AT)
            text = self._memory[_TEXT_AT : _TEXT_AT + values[6]]
            if self._memory[:8] == before:
                parts = text.decode(errors="replace").split("\0")
                lease = Lease(*parts) if len(parts) == 3 else None
                return Seen(values[0], lease, *values[1:6])
        return Seen()

    @property
    def client_id(self) -> int:
        """The slot's connection, 0 before it has one."""
        return int(_CLIENT.unpack_from(self._memory, _CLIENT_AT)[0])

    def reset(self) -> None:
        """Forget a dead child, for the next one in its place."""
        self._memory[:_STAMP_AT] = bytes(_STAMP_AT)
        self._sequence = 0
        self._seen = Seen()
