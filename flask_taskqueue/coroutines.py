"""Runs an ``async def`` function to its end, and can interrupt it where it waits."""

from __future__ import annotations

import asyncio
import typing as t
from collections.abc import Coroutine, Generator

T = t.TypeVar("T")


class Running(t.Generic[T]):
    """A coroutine in an event loop of its own.

    An exception raised by a signal's handler would as often hit the loop as the
    coroutine. So the handler asks for a cancellation, and what arrives where the
    coroutine waits is not ``CancelledError`` but the exception meant.
    """

    def __init__(self, coroutine: Coroutine[t.Any, t.Any, T]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[t.Any] | None = None
        self._error: BaseException | None = None

    def interrupt(self, error: BaseException) -> bool:
        """Raise an exception inside it, at its next ``await``; whether that will be."""
        if self._task is None or self._task.done():
            return False
        self._error = error
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        return True

    async def main(self) -> T:
        """Its result."""
        self._task = asyncio.current_task()
        return await self

    def __await__(self) -> Generator[t.Any, t.Any, T]:
        step: t.Callable[[t.Any], t.Any] = self._coroutine.send
        given: t.Any = None
        while True:
            try:
                waits_for = step(given)
            except StopIteration as stop:
                return t.cast(T, stop.value)
            try:
                step, given = self._coroutine.send, (yield waits_for)
            except asyncio.CancelledError as cancelled:
                step, given = self._coroutine.throw, self._meant(cancelled)
            except BaseException as error:  # noqa: BLE001 - its own to handle
                step, given = self._coroutine.throw, error

    def _meant(self, cancelled: asyncio.CancelledError) -> BaseException:
        error, self._error = self._error, None
        if error is None or self._task is None:
            return cancelled
        self._task.uncancel()
        return error


_running: list[Running[t.Any]] = []


def run(coroutine: Coroutine[t.Any, t.Any, T]) -> T:
    """The result of a coroutine, as ``asyncio.run`` gives it."""
    running = Running(coroutine)
    _running.append(running)
    try:
        return asyncio.run(running.main())
    finally:
        _running.remove(running)


def interrupt(error: BaseException) -> bool:
    """Raise an exception in the coroutine that runs here; whether there is one."""
    return bool(_running) and _running[-1].interrupt(error)
