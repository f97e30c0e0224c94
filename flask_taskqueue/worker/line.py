"""A slot's two lines: to Redis, where every call is repeated until it is answered, and
to its supervisor."""

from __future__ import annotations

import socket
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from ..appstate import AppState
from ..broker.connection import Backoff
from ..broker.exchange import Exchange
from ..broker.trouble import is_unavailable
from ..terms import NO_LIMITS, Limits
from .board import Board
from .pace import MOST
from .wear import Wear

READY, IDLE, HELD_BACK, LIMITED, AHEAD = b"R", b"I", b"H", b"L", b"A"
"""What a slot sends: it is connected; it found nothing; it found nothing, and a queue
is paused; it began a job with a hard limit; it claims ahead from now on."""

WAKE = b"W"
"""What it is sent: there may be a job, or something new on its board."""

Answer = t.TypeVar("Answer")


class Stopped(Exception):
    """The supervisor is gone: nothing may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a slot works.

    :param worker: Name of the worker.
    :param label: Names the slot among the worker's, anew for each child.
    :param channel: To the supervisor; its end of file means that it died.
    :param most: Jobs it may claim at once.
    :param limits: For jobs that name none.
    :param wear: What the child has been through; ``None`` where that does not matter.
    :param held: The slot claims nothing before it is woken for the first time.
    """

    worker: str
    label: str
    queues: tuple[str, ...]
    board: Board
    channel: socket.socket
    most: int = MOST
    limits: Limits = NO_LIMITS
    wear: Wear | None = None
    held: bool = False

    @property
    def prefix(self) -> str:
        """Beginning of the ids of the slot's executions."""
        return f"{self.worker}.{self.label}."


class Line:
    """What a slot says and asks, and the answers.

    :ivar client: For what is not a script; it connects by itself.
    :ivar exchange: For scripts, while :meth:`until_answered` calls.
    """

    def __init__(self, state: AppState, place: Place) -> None:
        self.place = place
        self.client: Redis = state.broker.worker()
        self._exchange: Exchange | None = None

    @property
    def exchange(self) -> Exchange:
        """The connection that scripts are called on."""
        if self._exchange is None:
            raise RuntimeError("expected the slot to be connected")
        return self._exchange

    @property
    def connected(self) -> Exchange | None:
        """The same; ``None`` while there is none."""
        return self._exchange

    def until_answered(
        self, ask: Callable[[bool], Answer], *, needed: bool = False
    ) -> Answer:
        """Repeat a call until Redis answers it; every call here bears that.

        :param ask: Called with whether it is a repetition.
        :param needed: Go on with it when the worker stops, too.
        :raises Stopped: The worker stops. What the call did, its supervisor undoes.
        """
        backoff, again = None, False
        while True:
            try:
                if self._exchange is None:
                    self._connect()
                return ask(again)
            except (RedisError, OSError) as error:
                if not is_unavailable(error):
                    raise
                self.disconnect()
                again = True
                backoff = backoff or Backoff(high=1.0)
                self.pause(backoff.next())
                if self.place.board.stopping and not needed:
                    raise Stopped from error

    def disconnect(self) -> None:
        """Drop the connections: what is unread on them must not be read later."""
        pool: t.Any = self.client.connection_pool
        if self._exchange is not None:
            pool.release(self._exchange.connection)
            self._exchange = None
        pool.disconnect()

    def _connect(self) -> None:
        untyped: t.Any = self.client
        self._exchange = Exchange.of(untyped)
        self.place.board.connected(int(self._exchange.ask(("CLIENT", "ID"))))
        self.say(READY)

    def say(self, byte: bytes) -> None:
        """Tell the supervisor something."""
        try:
            self.place.channel.send(byte)
        except OSError as error:
            raise Stopped from error

    def listen(self, timeout: float | None) -> bytes:
        """What the supervisor says next; ``b""`` if nothing within ``timeout``."""
        channel = self.place.channel
        # Not select(): a child with many slots has descriptors that it cannot take.
        channel.settimeout(timeout)
        try:
            byte = channel.recv(1)
        except (TimeoutError, BlockingIOError):
            return b""
        except ConnectionError as error:
            raise Stopped from error  # It died with words of this slot unread.
        finally:
            channel.settimeout(None)
        if not byte:
            raise Stopped
        return byte

    def pause(self, seconds: float) -> bool:
        """Wait, or less if the supervisor says something; ``True``."""
        self.listen(seconds)
        return True

    def close(self) -> None:
        """Disconnect for good."""
        self.disconnect()
        self.client.close()
