"""Soft limits in threads: an exception between two bytecodes, from another thread."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
import types
import typing as t
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue

from .. import coroutines
from .limits import NOTHING, OVER

NEVER = float("inf")

AGAIN = 0.001
"""Seconds until an alarm rings that found its thread where it must not be hit."""


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in a thread; ``None`` takes back one that has not arrived."""
    set_error = ctypes.pythonapi.PyThreadState_SetAsyncExc
    given = None if error is None else ctypes.py_object(error)
    set_error(ctypes.c_ulong(thread), given)


class Alarm(AbstractContextManager["Alarm", None]):
    """A context that may be interrupted once.

    After it, whether it returns or raises, nothing is on its way to its thread any
    more: what rings while it ends arrives in it, or not at all.
    """

    def __init__(self, timer: ThreadTimer, seconds: float, error: type[Exception]):
        self.at: float = time.monotonic() + seconds
        self._timer = timer
        self._error = error
        self._thread = threading.get_ident()
        self._over = False
        # Not a Condition, whose own code an exception could leave with it locked.
        self._lock = threading.Lock()

    def __enter__(self) -> Alarm:
        self._timer.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._over = True
            # What has not arrived yet.
            _raise_in(self._thread, None)
        self._timer.unset()

    def ring(self) -> None:
        """Interrupt the thread, now or, where it must not be hit just now, later."""
        with self._lock:
            self.at = NEVER
            if self._over:
                return
            if _is_delicate(sys._current_frames().get(self._thread)):
                self.at = time.monotonic() + AGAIN
                return
            self._timer.rang = True
            if not coroutines.interrupt(self._error(OVER), self._thread):
                _raise_in(self._thread, _with_message(self._error))


def _with_message(error: type[Exception]) -> type[Exception]:
    """A class that makes an exception of another one.

    Only a class can be raised in another thread, and is called without arguments.
    """

    def make(cls: type[Exception]) -> Exception:
        return error(OVER)

    return type(error.__name__, (error,), {"__new__": make})


def _is_delicate(frame: types.FrameType | None) -> bool:
    """Whether an exception here could leave a lock locked that others need.

    The ``with`` of a lock written in C is safe. ``threading.Condition`` and the
    handlers of :mod:`logging` lock in Python code, and of the latter there is one for
    all threads.
    """
    if frame is not None and _module_of(frame) == "threading":
        if frame.f_code.co_name in _LOCKING:
            return True
    while frame is not None:
        if _module_of(frame) == "logging":
            return True
        frame = frame.f_back
    return False


def _module_of(frame: types.FrameType) -> object:
    return frame.f_globals.get("__name__")


_LOCKING = frozenset({"__enter__", "__exit__", "acquire", "release"})


class ThreadTimer:
    """The limits of one slot's thread.

    :param clock: Rings when they are over.
    """

    def __init__(self, clock: Clock) -> None:
        self.rang: bool = False
        self.alarm: Alarm | None = None
        self._clock = clock
        clock.timers.append(self)

    def limit(
        self, seconds: float | None, error: type[Exception]
    ) -> t.ContextManager[object]:
        """A context that raises ``error`` inside itself after ``seconds``."""
        return NOTHING if seconds is None else Alarm(self, seconds, error)

    def halting(self, hard: float | None) -> t.ContextManager[None]:
        """A context that only the death of the process ends."""
        return NOTHING

    def set(self, alarm: Alarm) -> None:
        """Have it ring in time."""
        self.alarm = alarm
        self._clock.heed(alarm.at)

    def unset(self) -> None:
        """Have nothing ring."""
        self.alarm = None


class Clock:
    """Rings the alarms of all threads, in a thread that does nothing else."""

    def __init__(self) -> None:
        self.timers: list[ThreadTimer] = []
        self._news: SimpleQueue[bool] = SimpleQueue()
        self._sleeps_until = NEVER

    def heed(self, at: float) -> None:
        """Take note of an alarm that was set."""
        if at < self._sleeps_until:
            self._news.put(False)

    def stop(self) -> None:
        """End :meth:`run`."""
        self._news.put(True)

    def run(self) -> None:
        """Ring what is due, until stopped."""
        while not self._sleep():
            for timer in self.timers:
                alarm = timer.alarm
                if alarm is not None and alarm.at <= time.monotonic():
                    alarm.ring()

    def _sleep(self) -> bool:
        """Wait for the next alarm; whether to stop."""
        # Who sets one meanwhile says so, or is seen here.
        self._sleeps_until = NEVER
        alarms = [timer.alarm for timer in self.timers]
        until = min((alarm.at for alarm in alarms if alarm), default=NEVER)
        self._sleeps_until = until
        timeout = None if until == NEVER else max(until - time.monotonic(), 0.0)
        try:
            return self._news.get(timeout=timeout)
        except Empty:
            return False
