"""Clients of Redis: one for each purpose, each with its own time-outs."""

from __future__ import annotations

import inspect
import os
import typing as t
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..errors import BrokerUnavailable, ConfigError, TaskQueueError
from . import embedded
from .exchange import Exchanges
from .held import BlockingCall, Subscription, ask
from .trouble import (
    Backoff,
    is_connection_trouble,
    is_no_database,
    is_unavailable,
)
from .url import mask, parse

T = t.TypeVar("T")

__all__ = [
    "Backoff",
    "BlockingCall",
    "Broker",
    "Subscription",
    "ask",
    "check_server",
    "is_connection_trouble",
]

# In a web process. A time-out is not tried again: the two of one call, to connect
# and to read, add up to the 2 s it may take. A refused or broken connection is,
# once and at once: an idle one may have been closed on its way, or lead to a server
# that another one has replaced.
_REPEATED: tuple[type[redis.RedisError], ...] = (
    redis.ConnectionError, MasterDownError, ReadOnlyError
)  # fmt: skip
_BRIEF = {
    "socket_connect_timeout": 1,
    "socket_timeout": 1,
    "retry": Retry(NoBackoff(), 1, _REPEATED),
    "retry_on_error": [*_REPEATED],  # redis-py before 6 asks for both.
}

# Repeated by its caller, who knows what that means.
_ONCE = {
    "socket_connect_timeout": 1,
    "socket_timeout": 1,
    "retry": Retry(NoBackoff(), 0),
}

_PURPOSES: dict[str, dict[str, t.Any]] = {
    "producer": _BRIEF,
    "monitor": _BRIEF,
    "waiter": _ONCE,
    "supervisor": _ONCE,
    # Where a server hangs, that is how late a slot may learn that another serves.
    "worker": {**_ONCE, "socket_connect_timeout": 2, "socket_timeout": 2},
}


def _lean_options() -> dict[str, t.Any]:
    """Arguments that spare a new connection round trips, as far as known here."""
    known = inspect.signature(AbstractConnection.__init__).parameters
    names = ("driver_info",) if "driver_info" in known else ("lib_name", "lib_version")
    options: dict[str, t.Any] = dict.fromkeys(names)
    if "maint_notifications_config" in known:  # redis-py 7 and later
        from redis.maint_notifications import MaintNotificationsConfig

        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return options


_LEAN = _lean_options()


class _EmbeddedConnection(redis.UnixDomainSocketConnection):
    """A connection that starts the embedded server when it finds none."""

    def __init__(self, *, directory: Path, **options: t.Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._directory = directory

    # The one step all of redis-py's ways to connect share: `connect()` is not among
    # those of a retry from 6 on. Private; the same in 5.0 to 8.1.
    def _connect(self) -> t.Any:
        if self.path:
            try:
                return super()._connect()  # type: ignore[no-untyped-call]
            except OSError:
                pass  # It ended, or was killed.
        self.path = str(embedded.ensure(self._directory))
        return super()._connect()  # type: ignore[no-untyped-call]


class Broker:
    """The clients of one URL.

    Nothing is connected until a client is used. Any thread may use the shared ones;
    a forked child gets its own.

    :param url: As ``TASKQUEUE_URL``, an embedded one with an absolute directory.
    :raises ConfigError: It is not of a known form.
    """

    def __init__(self, url: str) -> None:
        self._address = parse(url)
        self._masked_url = mask(url)
        self._made: dict[tuple[int, str], t.Any] = {}

    @property
    def masked_url(self) -> str:
        """The URL with ``***`` for passwords."""
        return self._masked_url

    @property
    def producer(self) -> redis.Redis:
        """For enqueueing and for changes people ask for: fails within 2 s.

        A call whose connection breaks is sent once more: it must bear that.
        """
        return self._shared_client("producer")

    @property
    def exchange(self) -> Exchanges:
        """For scripts that enqueue or read: as :attr:`producer`, in half the time."""
        return self._shared("exchange", self._exchanges)

    @property
    def monitor(self) -> redis.Redis:
        """For reading, with the time-outs of :attr:`producer`."""
        return self._shared_client("monitor")

    @property
    def waiter(self) -> redis.Redis:
        """For :func:`.held.ask`. Tries nothing twice."""
        return self._shared_client("waiter")

    def worker(self) -> redis.Redis:
        """A client of its own for one loop of a worker. Tries nothing twice.

        :return: To be closed by the caller.
        """
        return self._client("worker")

    def supervisor(self) -> redis.Redis:
        """A client of its own for a loop that must not hang for over 1 s.

        :return: To be closed by the caller. Tries nothing twice.
        """
        return self._client("supervisor")

    def close(self) -> None:
        """Disconnect the shared clients. They connect again when used."""
        for key in list(self._made):
            made = self._made.pop(key, None)
            if isinstance(made, Exchanges):
                made.close()
            elif made is not None:
                # Another thread may be reading a reply: its connection ends with it.
                made.connection_pool.disconnect(inuse_connections=False)

    @contextmanager
    def errors(self) -> t.Iterator[None]:
        """Raise what says that Redis is away as one error.

        :raises BrokerUnavailable: Redis cannot be reached, does not answer in time,
            or is in a state in which it stores nothing.
        :raises ConfigError: It has no database of the number in the URL.
        """
        try:
            yield
        except TaskQueueError:
            raise
        except (OSError, redis.RedisError) as error:
            if is_no_database(error):
                raise _no_database(self._address.options) from error
            if not is_unavailable(error):
                raise
            raise BrokerUnavailable(f"{self.masked_url}: {error}") from error

    def _shared_client(self, purpose: str) -> redis.Redis:
        return self._shared(purpose, lambda: self._client(purpose))

    def _exchanges(self) -> Exchanges:
        # Of a client of its own: it takes connections out of the pool for good.
        client, repeats = self._client("producer"), not self._address.sentinels
        return Exchanges(client, repeats=repeats)

    def _shared(self, name: str, make: Callable[[], T]) -> T:
        """What all threads of this process use; a forked child makes its own."""
        # Without a lock, which another thread could hold while this process forks:
        # of two made at once one is dropped before it connects.
        key = (os.getpid(), name)
        made: T | None = self._made.get(key)
        if made is None:
            for other in list(self._made):
                if other[0] != key[0]:
                    self._made.pop(other, None)
            made = t.cast(T, self._made.setdefault(key, make()))
        return made

    def _client(self, purpose: str) -> redis.Redis:
        # What the URL says about time-outs does not count: each purpose needs its own.
        options = {
            "max_connections": 2**31,  # As many as there are threads; redis-py 8: 100.
            **self._address.options,
            **_LEAN,
            **_PURPOSES[purpose],
        }
        if self._address.sentinels:
            return self._sentinel_client(options)
        if self._address.directory is not None:
            options["connection_class"] = _EmbeddedConnection
            options["directory"] = self._address.directory
        elif "path" not in options:
            options["socket_keepalive"] = True
        client = redis.Redis(connection_pool=ConnectionPool(**options))
        # As from_pool(), which redis-py 5.0.0 lacks.
        client.auto_close_connection_pool = True
        return client

    def _sentinel_client(self, options: dict[str, t.Any]) -> redis.Redis:
        # Together the Sentinels may take as long as connecting does otherwise. None
        # is asked twice: that would double it.
        patience = options["socket_connect_timeout"] / len(self._address.sentinels)
        options["retry"] = Retry(NoBackoff(), 0)
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            self._address.sentinels,
            sentinel_kwargs={
                **self._address.sentinel_options,
                **_LEAN,
                "retry": options["retry"],
                "socket_connect_timeout": patience,
                "socket_timeout": patience,
            },
            socket_keepalive=True,
        )
        client: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
            self._address.service, **options
        )
        return client


def check_server(client: redis.Redis) -> list[str]:
    """Look whether this server can carry the queue. One call of ``INFO``.

    :return: What to warn about, one sentence each.
    :raises ConfigError: Too old, a cluster, set to evict keys that do not expire, or
        without the database of the URL.
    """
    try:
        info: dict[str, t.Any] = client.info()
    except ResponseError as error:
        if is_no_database(error):
            options = client.connection_pool.connection_kwargs
            raise _no_database(options) from error
        if is_connection_trouble(error):
            raise
        return [f"The server could not be checked, INFO says: {error}."]
    problem = _version_problem(info)
    if info.get("redis_mode") == "cluster" or info.get("cluster_enabled"):
        problem = "a server that is not part of a Redis Cluster, got one that is"
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys-"):
        problem = f"'maxmemory-policy noeviction', got {policy!r}: it drops jobs"
    if problem:
        raise ConfigError(f"TASKQUEUE_URL: expected {problem}")
    return list(_warnings(info, policy))


def _no_database(options: t.Mapping[str, t.Any]) -> ConfigError:
    return ConfigError(
        "expected 'TASKQUEUE_URL' to name a database that the server has, got"
        f" {options.get('db')}; most have 0 to 15"
    )


def _version_problem(info: dict[str, t.Any]) -> str:
    # Valkey also gives the version of Redis it was forked from.
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{kind}_version", ""))
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if major.isdecimal() and minor.isdecimal():
        wanted = (7, 2) if kind == "valkey" else (7, 0)
        if (int(major), int(minor)) < wanted:
            return f"Redis >= 7.0 or Valkey >= 7.2, got {kind.title()} {version}"
    return ""


def _warnings(info: dict[str, t.Any], policy: str) -> t.Iterator[str]:
    if policy.startswith("volatile-"):
        yield (
            f"The server's maxmemory-policy is {policy}: when its memory is full it"
            " drops results early. Set it to noeviction."
        )
    if info.get("aof_enabled") == 0:
        yield (
            "The server keeps no append-only file: a crash of it loses jobs. Set"
            " appendonly to yes."
        )
