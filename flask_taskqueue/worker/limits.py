"""Soft time limits: an exception in the running task when its time is over."""

from __future__ import annotations

import signal
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from .. import coroutines

NOTHING: t.ContextManager[None] = nullcontext()

OVER = "the soft time limit is over"
"""Message of the exception."""


class Halt(BaseException):
    """Ends a job's function for good where its pool need not kill a process for that.

    Not an ``Exception``: a task that catches those must not catch it.

    :ivar error: What the job ends with.
    :ivar status: RQ's: ``failed``, or ``stopped`` where it was revoked.
    """

    def __init__(self, error: Exception, status: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.status = status


class Timer(t.Protocol):
    """How a pool interrupts the function that runs in a slot.

    :ivar rang: A limit was over since somebody set this to ``False``.
    """

    rang: bool

    def limit(
        self, seconds: float | None, error: type[Exception]
    ) -> t.ContextManager[object]:
        """A context that raises ``error`` inside itself after ``seconds``."""

    def halting(self, hard: float | None) -> t.ContextManager[None]:
        """A context that :class:`Halt` may end, where the pool can do that: because
        its job was revoked, or after ``hard`` seconds."""


class NoTimer:
    """For where nothing can interrupt a function: the limit is not kept."""

    rang = False

    @contextmanager
    def limit(self, seconds: float | None, error: type[Exception]) -> Iterator[None]:
        """A context without a limit."""
        yield

    def halting(self, hard: float | None) -> t.ContextManager[None]:
        """A context that only the death of the process ends."""
        return NOTHING


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
            error, self._error = self._error(OVER), None
            if not coroutines.interrupt(error):
                raise error

    def halting(self, hard: float | None) -> t.ContextManager[None]:
        """A context that only the death of the process ends."""
        return NOTHING

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
