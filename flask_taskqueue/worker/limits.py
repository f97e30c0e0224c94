"""Soft time limits: an exception in the running task when its time is over."""

from __future__ import annotations

import signal
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from .. import coroutines


class Timer(t.Protocol):
    """How a pool interrupts the function that runs in a slot.

    :ivar rang: A limit was over since somebody set this to ``False``.
    """

    rang: bool

    def limit(
        self, seconds: float | None, error: type[Exception]
    ) -> t.ContextManager[None]:
        """A context that raises ``error`` inside itself after ``seconds``."""


class NoTimer:
    """For where nothing can interrupt a function: the limit is not kept."""

    rang = False

    @contextmanager
    def limit(self, seconds: float | None, error: type[Exception]) -> Iterator[None]:
        """A context without a limit."""
        yield


class AlarmTimer:
    """``SIGALRM`` in the main thread, to the microsecond."""

    def __init__(self) -> None:
        self.rang: bool = False
        self._error: type[Exception] | None = None
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, *_: object) -> None:
        # The alarm may come after the function returned and before it is switched
        # off: then it must not hit our own code.
        if self._error is not None:
            self.rang = True
            error, self._error = self._error("the soft time limit is over"), None
            if not coroutines.interrupt(error):
                raise error

    @contextmanager
    def limit(self, seconds: float | None, error: type[Exception]) -> Iterator[None]:
        """A context that raises ``error`` inside itself after ``seconds``."""
        if seconds is None:
            yield
            return
        self._error = error
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            self._error = None
            signal.setitimer(signal.ITIMER_REAL, 0)
