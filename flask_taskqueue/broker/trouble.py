"""Which errors say that Redis is away, and how long to wait before trying again."""

from __future__ import annotations

import random
import typing as t

from redis import exceptions

RECONNECT = frozenset(
    {
        "LOADING",
        "MASTERDOWN",
        "NOREPLICAS",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)
"""First words of replies after which one connects anew: another server may serve."""

REFUSED = frozenset({"BUSY", "MISCONF", "OOM"})
"""First words of replies by which a server that can be reached stores nothing: it
runs a slow script, cannot write its file, or is full."""

_UNAUTHENTICATED = "Protocol error: unauthenticated"
"""Begins the reply to who should have signed in, where its first command is long: the
server closes the connection. A short one is answered with ``NOAUTH``."""

_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.TryAgainError, "TRYAGAIN"),
)
# redis-py cuts the first word off where it has a class of its own.


def reply_code(error: Exception) -> str:
    """First word of the reply an error was made of, such as ``READONLY``."""
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    return _reply(error).partition(" ")[0]


def _reply(error: Exception) -> str:
    # A pipeline puts the command in front.
    return str(error).rpartition("caused error: ")[2]


def is_connection_trouble(error: Exception) -> bool:
    """Whether to drop the connection, wait a little and try again.

    True for a lost or refused connection, a time-out, and for replies of a server that
    is loading, was demoted, lacks its replicas (:data:`RECONNECT`) or wants a password.
    """
    if isinstance(
        error, (OSError, exceptions.ConnectionError, exceptions.TimeoutError)
    ):
        return True
    return isinstance(error, exceptions.ResponseError) and (
        reply_code(error) in RECONNECT or _reply(error).startswith(_UNAUTHENTICATED)
    )


def is_unavailable(error: Exception) -> bool:
    """Whether a call failed for want of Redis, not for what it asked.

    :func:`is_connection_trouble`, and a server that is full or cannot write.
    """
    return is_connection_trouble(error) or (
        isinstance(error, exceptions.ResponseError) and reply_code(error) in REFUSED
    )


def is_no_database(error: Exception) -> bool:
    """Whether the server has no database of the number in the URL."""
    return isinstance(error, exceptions.ResponseError) and str(error).startswith(
        "DB index is out of range"
    )


class Backoff:
    """How long to wait before each try: longer each time, and never the same.

    :param low: Seconds no wait is shorter than.
    :param high: Seconds no wait is longer than.
    :param draw: Source of the jitter, called with the lower and upper bound.
    """

    def __init__(
        self,
        low: float = 0.05,
        high: float = 2.0,
        *,
        draw: t.Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._low = low
        self._high = high
        self._draw = draw
        self._ceiling = low

    def next(self) -> float:
        """Seconds to wait now; the upper bound doubles with each call."""
        self._ceiling = min(self._ceiling * 2, self._high)
        return self._draw(self._low, self._ceiling)

    def reset(self) -> None:
        """Begin anew: a try succeeded."""
        self._ceiling = self._low
