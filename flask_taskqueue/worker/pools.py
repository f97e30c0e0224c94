"""What a pool is: how a worker's slots are made, heard and stopped."""

from __future__ import annotations

import contextlib
import socket
import typing as t
from collections.abc import Callable, Sequence

from .board import Board, Seen
from .line import WAKE, Place

MakePlace = Callable[[Board, socket.socket], Place]
"""Makes the place of a new slot of its board and its end of the channel."""


class Seat:
    """One slot as its supervisor sees it.

    :ivar label: Names it among the worker's slots, anew for each.
    :ivar prefix: Beginning of the ids of its executions.
    :ivar gone: It runs nothing more: it said so, or its channel has ended.
    """

    def __init__(self, place: Place, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.board: Board = place.board
        self.label: str = place.label
        self.prefix: str = place.prefix
        self.gone: bool = False
        self._channel = channel

    def fileno(self) -> int:
        """Descriptor on which it can be heard."""
        return self._channel.fileno()

    def hear(self) -> bytes:
        """What it sent since; ``b""`` at the end of file, and when nothing came."""
        try:
            heard = self._channel.recv(4096)
        except BlockingIOError:
            return b""
        except ConnectionError:
            heard = b""
        self.gone = self.gone or not heard
        return heard

    def wake(self) -> None:
        """Tell it that there may be a job, or that it should look at its board. One
        that died, or was told often enough, needs no more."""
        with contextlib.suppress(OSError):
            self._channel.send(WAKE)

    def descriptors(self) -> tuple[int, int]:
        """Of its channel and of its board."""
        return self._channel.fileno(), self.board.descriptor

    def close(self) -> None:
        """Close this end."""
        self._channel.close()
        self.board.close()


class Child(t.Protocol):
    """What dies together: a process, with one slot or all.

    :ivar seats: Its slots.
    :ivar pid: Of its process.
    """

    seats: Sequence[Seat]
    pid: int

    def death(self) -> str | None:
        """How it died, or ``None`` while it lives."""

    def ask(self, seat: Seat, reason: str) -> None:
        """Ask it to end what a slot runs, if it can do so and live. That may fail.

        :param reason: For the log, and the exception the job ends with.
        """

    def kill(
        self, seat: Seat | None = None, meant: Callable[[Seen], bool] | None = None
    ) -> bool:
        """Kill it, if what one of its slots runs is what is meant; whether it is dead
        now.

        :param seat: ``None`` is to kill it whatever it runs.
        """


class Pool(t.Protocol):
    """Makes children."""

    name: str
    kills: bool
    """A running job can be stopped."""

    shared: bool
    """One child has all slots; otherwise each has its own."""

    grace: float
    """Seconds a child has to end a job by itself before it is killed for that."""

    def start(self, place: MakePlace, slots: int) -> Child:
        """Make a child with a number of slots.

        :raises OSError: The system refused.
        """
