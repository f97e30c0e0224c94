"""Runs an ``async def`` function to its end, and can interrupt it where it waits."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import types
import typing as t
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

# As text: not in every Python the class takes parameters.
_Coroutine: t.TypeAlias = "types.CoroutineType[t.Any, t.Any, t.Any]"
_Task = asyncio.Task[t.Any]


def finished(value: t.Any) -> t.Any:
    """What a call gave; of an ``async def`` function what awaiting that gives.

    :raises RuntimeError: Coroutines were refused.
    """
    if not isinstance(value, types.CoroutineType):
        return value
    if _refused:
        value.close()
        raise RuntimeError(_refused[-1])
    return run(value)


def refuse(why: str) -> None:
    """Run no coroutine of a job in this process from now on.

    :param why: Message of the error instead.
    """
    _refused.append(why)


def run(coroutine: _Coroutine) -> t.Any:
    """The result of a coroutine, as ``asyncio.run`` gives it.

    Where an event loop runs in this thread, as in an async view, it waits while
    another thread runs the coroutine in one of its own, in a copy of the context.
    """
    running = _Running(coroutine)
    if not _is_in_a_loop():
        return running.to_its_end()
    with ThreadPoolExecutor(1, "taskqueue-coroutine") as pool:
        ended = pool.submit(contextvars.copy_context().run, running.to_its_end)
        try:
            return ended.result()
        except BaseException:
            # Nobody waits for it any more, if it has not ended.
            running.cancel()
            raise


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def interrupt(error: Exception, thread: int | None = None) -> bool:
    """Let an exception arrive in the coroutine that a thread runs, where it waits.
    For signal handlers, and for other threads.

    Raised there and then, it would hit whatever happens to be executed: the selector,
    and then the coroutine is cancelled and never sees it; or a callback, whose
    exceptions the event loop logs and forgets.

    :param thread: Its identifier; ``None`` is this one.
    :return: ``False`` where no coroutine waits; its own code may be what is executed.
        Raise it then.
    """
    running = _running.get(threading.get_ident() if thread is None else thread)
    return running is not None and running.interrupt(error)


class _Running:
    """A coroutine in an event loop of its own."""

    def __init__(self, coroutine: _Coroutine) -> None:
        self._coroutine = coroutine
        self._task: _Task | None = None
        self._due: Exception | None = None
        self._arrived: tuple[BaseException, Exception] | None = None

    def to_its_end(self) -> t.Any:
        """Its result, from an event loop in this thread."""
        main = self._main()
        thread = threading.get_ident()
        _running[thread] = self
        try:
            return asyncio.run(main)
        finally:
            _running.pop(thread, None)
            # They may never have begun.
            main.close()
            self._coroutine.close()

    def cancel(self) -> None:
        """Cancel it from another thread, if it runs."""
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it ended
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _main(self) -> t.Any:
        self._task = task = t.cast(_Task, asyncio.current_task())
        try:
            return await self._drive(task)
        except asyncio.CancelledError as raised:
            if self._arrived is None or raised is not self._arrived[0]:
                raise
            error = self._arrived[1]
            raise error.with_traceback(raised.__traceback__) from raised.__cause__

    def interrupt(self, error: Exception) -> bool:
        """As :func:`interrupt`."""
        task = self._task
        if task is None or task.done() or self._coroutine.cr_running:
            return False
        try:
            task.get_loop().call_soon_threadsafe(self._cancel, task, error)
        except RuntimeError:  # its loop is closed: it has just ended
            return False
        return True

    def _cancel(self, task: _Task, error: Exception) -> None:
        # Cancelling wakes it: no matter with what, the error takes its place.
        if task.cancel():
            self._due = error

    @types.coroutine
    def _drive(self, task: _Task) -> Generator[t.Any, t.Any, t.Any]:
        """Await the coroutine as ``await`` does (PEP 380), but for the error due."""
        step: t.Callable[[t.Any], t.Any] = self._coroutine.send
        given: t.Any = None
        while True:
            try:
                waits_for = step(given)
            except StopIteration as stop:
                return stop.value
            try:
                step, given = self._coroutine.send, (yield waits_for)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - its own to handle
                step, given = self._coroutine.throw, error
            if self._due is not None:
                step, given = self._coroutine.throw, self._arrive(self._due)
                task.uncancel()  # Or a time-out inside would take it for its own.

    def _arrive(self, error: Exception) -> BaseException:
        self._due = None
        arrived = _as_cancellation(error)
        self._arrived = arrived, error
        return arrived


def _as_cancellation(error: Exception) -> BaseException:
    """The exception as one that asyncio's own primitives clean up after, too: a
    ``TaskGroup`` stops its tasks, and a lock wakes the next, for a cancellation."""
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    both = type(kind.__name__, (kind, asyncio.CancelledError), names)
    return t.cast(BaseException, both(*error.args))


_running: dict[int, _Running] = {}
"""By the thread each runs in: an event loop cannot run inside another one."""

_refused: list[str] = []
