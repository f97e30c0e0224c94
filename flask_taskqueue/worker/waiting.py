"""Waits for jobs on behalf of idle slots: one blocked connection a queue."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from redis import Redis
from redis.exceptions import ResponseError

from .. import keys
from ..broker.connection import BlockingCall, is_connection_trouble

BLOCK = 60
"""Seconds until a blocked call answers without a job and is made anew."""

REST = 1.0
"""Seconds until a call is made anew that the server refused."""


class Waiter(BlockingCall):
    """``BLMOVE <queue> tq:ready:<queue>`` for one queue, while armed.

    The id it returns is a wake-up only: claim reads ``tq:ready:<queue>`` first, so
    whoever claims next takes it, and what a dead waiter moved is not lost.
    """

    def __init__(self, client: Redis, queue: str) -> None:
        super().__init__(client)
        self._keys = keys.queue(queue), keys.ready(queue)
        self._rest_until = 0.0

    def arm(self) -> None:
        """Wait for a job, unless it does or the server refused just now."""
        if not self.pending and time.monotonic() >= self._rest_until:
            self.send("BLMOVE", *self._keys, "LEFT", "RIGHT", BLOCK)

    def answer(self) -> bool:
        """Read the reply; whether there may be a job.

        A server that is full refuses ``BLMOVE``, yet lets jobs be claimed: then a
        slot looks once a second, so that the queue still empties.
        """
        try:
            return self.read() is not None
        except ResponseError as error:
            if is_connection_trouble(error):
                raise
            self._rest_until = time.monotonic() + REST
            return True


class Waiters:
    """One :class:`Waiter` for each queue."""

    def __init__(self, client: Redis, queues: Sequence[str]) -> None:
        self._client = client
        self._waiters = {queue: Waiter(client, queue) for queue in queues}

    def connect(self) -> None:
        """Connect one connection for each queue."""
        for waiter in self._waiters.values():
            waiter.connect()

    def close(self) -> None:
        """Disconnect; to be disarmed before, if the server can be reached."""
        for waiter in self._waiters.values():
            waiter.close()

    def _pending(self) -> list[Waiter]:
        return [waiter for waiter in self._waiters.values() if waiter.pending]

    def filenos(self) -> Iterator[int]:
        """Descriptors that become readable when a queue has a job."""
        # Not those that wait for nothing: one of these that the server closed is
        # readable for ever and read by nobody.
        for waiter in self._pending():
            yield waiter.fileno()

    def arm(self, queues: Sequence[str]) -> None:
        """Wait for a job in each of these queues that is not waited for yet."""
        for queue in queues:
            self._waiters[queue].arm()

    def fired(self) -> int:
        """How many of them answered with a job since."""
        return sum(waiter.answer() for waiter in self._pending() if waiter.readable())

    def disarm(self) -> int:
        """Stop waiting, so that the ids go to workers with an idle slot.

        :return: How many answered with a job all the same.
        """
        pending = self._pending()
        for waiter in pending:
            self._client.client_unblock(waiter.client_id)
        # Closing without reading would lose the id of one that fired just now.
        return sum(waiter.answer() for waiter in pending)
