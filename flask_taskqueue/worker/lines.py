"""A supervisor's connections to Redis: kept, lost, and made again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from redis.exceptions import RedisError

from .. import keys
from ..appstate import AppState
from ..broker.connection import (
    Backoff,
    Subscription,
    check_server,
    is_connection_trouble,
)
from .waiting import Waiters

logger = logging.getLogger(__name__)

LOG_EVERY = 10.0
"""Seconds between two lines that say that Redis is away."""


class Lines:
    """One connection for commands, one for messages, one for each queue.

    :ivar retry_at: When to connect again, by the monotonic clock.
    """

    def __init__(self, state: AppState, name: str, queues: Sequence[str]) -> None:
        self.client = state.broker.worker()
        self.waiters = Waiters(self.client, queues)
        channels = (keys.NAMES["wake"], keys.commands(name))
        self.subscription = Subscription(self.client, channels)
        self.up = False
        self.retry_at = 0.0
        self._url = state.broker.masked_url
        self._backoff = Backoff()
        self._logged = -LOG_EVERY
        self._checked = False

    def guard(self, duty: Callable[[], None]) -> None:
        """Do what needs Redis, if it is there; a broken connection ends it.

        :raises ConfigError: The server cannot carry the queue.
        """
        if not self.up:
            return
        try:
            duty()
        except (RedisError, OSError) as error:
            if not is_connection_trouble(error):
                raise
            self._drop(error)

    def connect(self) -> bool:
        """Connect if it is time to; whether there is a new connection."""
        if self.up or time.monotonic() < self.retry_at:
            return False
        self.up = True
        self.guard(self._open)
        if self.up:
            self._backoff.reset()
            self._logged = -LOG_EVERY
            logger.info("Connected to %s", self._url)
        return self.up

    def _open(self) -> None:
        if not self._checked:
            for warning in check_server(self.client):
                logger.warning("%s", warning)
            self._checked = True
        self.waiters.connect()
        self.subscription.connect()

    def _drop(self, error: BaseException) -> None:
        self.up = False
        self.waiters.close()
        self.subscription.close()
        self.client.connection_pool.disconnect()
        now = time.monotonic()
        self.retry_at = now + self._backoff.next()
        if now - self._logged >= LOG_EVERY:
            self._logged = now
            logger.warning("No connection to %s: %s; trying again", self._url, error)

    def filenos(self) -> Iterator[int]:
        """Descriptors that say when there is something to read."""
        if self.up:
            yield from self.waiters.filenos()
            yield self.subscription.fileno()

    def disown(self) -> None:
        """In a forked child: a blocked call must not live on here."""
        self.waiters.close()
        self.subscription.close()

    def close(self) -> None:
        """Disconnect."""
        self.guard(lambda: None if self.waiters.disarm() else None)
        self.disown()
        self.client.close()
