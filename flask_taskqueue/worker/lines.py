"""A loop's connections to Redis: kept, lost, and made again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from redis import Redis
from redis.exceptions import RedisError

from ..appstate import AppState
from ..broker.connection import Backoff, Subscription, check_server
from ..broker.trouble import is_unavailable
from ..errors import ConfigError
from .waiting import Waiters

logger: logging.Logger = logging.getLogger(__name__)

LOG_EVERY = 10.0
"""Seconds between two lines that say that Redis is away."""


class Lines:
    """One connection for commands, one for messages, one for each queue.

    :param channels: Whose messages are heard.
    :param queues: Whose jobs are waited for.
    :ivar retry_at: When to connect again, by the monotonic clock.
    """

    def __init__(
        self, state: AppState, channels: Sequence[str], queues: Sequence[str] = ()
    ) -> None:
        self.client: Redis = state.broker.supervisor()
        self.waiters: Waiters = Waiters(self.client, queues)
        self.subscription: Subscription = Subscription(self.client, channels)
        self.up: bool = False
        self.retry_at: float = 0.0
        self._up_since = 0.0
        self._url = state.broker.masked_url
        self._backoff = Backoff()
        self._logged = -LOG_EVERY
        self._told_up: bool | None = None  # What the log says; None: nothing yet.
        self._checked = False

    def guard(self, duty: Callable[[], None]) -> None:
        """Do what needs Redis, if there is a connection.

        An error of Redis ends the duty and closes the connections; the next turn does
        it again on new ones.

        :raises ConfigError: The server cannot carry the queue.
        """
        if not self.up:
            return
        try:
            duty()
        except ConfigError:
            # The process ends, and has nothing in Redis to tidy up.
            self.up = False
            raise
        except (RedisError, OSError) as error:
            self._drop(error)

    def connect(self) -> bool:
        """Connect if it is time to; whether there is a new connection.

        Call it once a turn. After a trouble the log does not say that it is over before
        a turn went by without any: a full server can be connected to.
        """
        if self.up:
            self._tell_up()
            return False
        if time.monotonic() < self.retry_at:
            return False
        self.up, self._up_since = True, time.monotonic()
        self.guard(self._open)
        if self.up and self._told_up is None:
            self._tell_up()
        return self.up

    def _tell_up(self) -> None:
        if not self._told_up:
            self._told_up = True
            logger.info("Connected to %s", self._url)

    def _open(self) -> None:
        if not self._checked:
            for warning in check_server(self.client):
                logger.warning("%s", warning)
            self._checked = True
        self.waiters.connect()
        self.subscription.connect()

    def _drop(self, error: Exception) -> None:
        self.waiters.close()
        self.subscription.close()
        self.client.connection_pool.disconnect()
        now = time.monotonic()
        if self.up and now - self._up_since > LOG_EVERY:
            # Not one that can be made and then fails again and again.
            self._backoff.reset()
            self._logged = -LOG_EVERY
        self.up = False
        self.retry_at = now + self._backoff.next()
        if now - self._logged >= LOG_EVERY:
            self._logged, self._told_up = now, False
            # Not away, yet it refuses: a key of another type, a missing permission.
            refused = None if is_unavailable(error) else error
            logger.warning(
                "No connection to %s: %s; trying again",
                self._url, str(error).rstrip("."), exc_info=refused,
            )  # fmt: skip

    def filenos(self) -> Iterator[int]:
        """Descriptors that say when there is something to read."""
        if self.up:
            yield from self.waiters.filenos()
            yield self.subscription.fileno()

    def _disarm(self) -> None:
        self.waiters.disarm()

    def disown(self) -> None:
        """In a forked child: a blocked call must not live on here."""
        self.waiters.close()
        self.subscription.close()

    def close(self) -> None:
        """Disconnect."""
        self.guard(self._disarm)
        self.disown()
        self.client.close()
