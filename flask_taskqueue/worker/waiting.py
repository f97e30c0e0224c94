"""Waits for jobs on behalf of idle slots: one blocked connection a queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from redis import Redis

from .. import keys
from ..broker.connection import BlockingCall

BLOCK = 60
"""Seconds until a blocked call answers without a job and is made anew."""


class Waiters:
    """One ``BLMOVE <queue> tq:ready:<queue>`` for each queue, while armed.

    The id it returns is a wake-up only: claim reads ``tq:ready:<queue>`` first, so
    whoever claims next takes it, and what a dead waiter moved is not lost.
    """

    def __init__(self, client: Redis, queues: Sequence[str]) -> None:
        self._client = client
        self._calls = {queue: BlockingCall(client) for queue in queues}

    def connect(self) -> None:
        """Connect one connection for each queue."""
        for call in self._calls.values():
            call.connect()

    def close(self) -> None:
        """Disconnect; to be disarmed before, if the server can be reached."""
        for call in self._calls.values():
            call.close()

    def filenos(self) -> Iterator[int]:
        """Descriptors that become readable when a queue has a job."""
        for call in self._calls.values():
            yield call.fileno()

    def arm(self, queues: Sequence[str]) -> None:
        """Wait for a job in each of these queues that is not waited for yet."""
        for queue in queues:
            call = self._calls[queue]
            if not call.pending:
                source, target = keys.queue(queue), keys.ready(queue)
                call.send("BLMOVE", source, target, "LEFT", "RIGHT", BLOCK)

    def fired(self) -> int:
        """How many of them answered with a job since."""
        jobs = 0
        for call in self._calls.values():
            if call.pending and call.readable():
                jobs += call.read() is not None
        return jobs

    def disarm(self) -> int:
        """Stop waiting, so that the ids go to workers with an idle slot.

        :return: How many answered with a job all the same.
        """
        pending = [call for call in self._calls.values() if call.pending]
        for call in pending:
            self._client.client_unblock(call.client_id)
        # Closing without reading would lose the id of one that fired just now.
        return sum(call.read() is not None for call in pending)
