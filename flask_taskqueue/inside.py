"""What a task asks and says while its job runs."""

from __future__ import annotations

import sys
import types
import typing as t
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from . import serializer
from .appstate import AppState
from .arguments import checked_arguments
from .errors import PayloadTooLarge, Retry
from .option_values import Seconds
from .options import ChangeOptions, TaskOptions
from .request import TaskRequest, apart, current


class InsideJob:
    """The half of a task that is for the function it runs."""

    name: str

    @property
    def _state(self) -> AppState:
        raise NotImplementedError

    @property
    def request(self) -> TaskRequest:
        """The job that runs; an empty one (``called_directly``) in a plain call."""
        running = current.get()
        if running is None or running.task != self.name or apart.get():
            return TaskRequest(task=self.name, called_directly=True)
        return running

    def _call(
        self,
        run: Callable[..., t.Any],
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
    ) -> t.Any:
        """Call the function: for its job, or plainly where its job is in it already."""
        running = current.get()
        if running is None or running.task != self.name:
            return run(*args, **kwargs)
        if running.entered:
            return _call_apart(run, args, kwargs)
        running.entered, value = True, None
        try:
            value = run(*args, **kwargs)
        finally:
            # A coroutine has not begun. Else its class may call it once more.
            running.entered = isinstance(value, types.CoroutineType)
        return value

    @t.overload
    def retry(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        exc: BaseException | None = None,
        throw: t.Literal[True] = True,
        eta: datetime | None = None,
        countdown: Seconds | None = None,
        max_retries: int | None = None,
        **options: t.Unpack[ChangeOptions],
    ) -> t.NoReturn: ...
    @t.overload
    def retry(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        exc: BaseException | None = None,
        *,
        throw: t.Literal[False],
        eta: datetime | None = None,
        countdown: Seconds | None = None,
        max_retries: int | None = None,
        **options: t.Unpack[ChangeOptions],
    ) -> Retry: ...

    def retry(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: Seconds | None = None,
        max_retries: int | None = None,
        **options: t.Unpack[ChangeOptions],
    ) -> Retry:
        """Run this job again later. Raises by itself; ``raise self.retry(…)`` reads
        the same.

        :param exc: Raised for good when no retry is left.
        :param throw: ``False`` returns: the rest of the function runs first.
        :param countdown: Seconds; the task's ``default_retry_delay`` by default.
        :param max_retries: Instead of the task's; ``None`` is the task's.
        :param options: Options of ``apply_async`` that change from now on.
        :raises Retry: It will run again.
        :raises MaxRetriesExceededError: No retry is left, and ``exc`` is not given.
        :raises TypeError: An option is unknown, or a value has the wrong type.
        :raises ValueError: A value is out of range.
        """
        request = self.request
        cause = exc or sys.exc_info()[1]
        if request.called_directly:
            raise cause or Retry("the task can be retried")
        again = _checked_retry(cause, eta, countdown, args, kwargs, options)
        if max_retries is not None:
            # For this execution: autoretry_for must not go on where this gave up.
            request.policy = replace(request.policy, max_retries=max_retries)
        # Told here already, where the function can still do something about it.
        if (given_up := request.given_up()) is not None:
            raise given_up if exc is None else exc
        if throw:
            raise again
        request.postponed = again
        return again

    def update_state(
        self,
        task_id: str | None = None,
        state: str | None = None,
        meta: object = None,
    ) -> None:
        """Say where the running job is; seen as its ``state`` and ``info``.

        :param task_id: Celery's; the running job's, if given.
        :param state: Any name; ``PROGRESS`` by default. One that is not true of a
            running job, as ``SUCCESS``, is seen after ``raise Ignore()``.
        :param meta: A JSON value.
        """
        request = self.request
        if request.reporter is None:
            raise RuntimeError("update_state() is for a running job")
        if task_id not in (None, request.id):
            raise ValueError(f"expected the running job's id, got {task_id!r}")
        name = "PROGRESS" if state is None else state
        if not isinstance(name, str) or not 0 < len(name) <= 100:
            raise ValueError(f"expected a state of 1 to 100 characters, got {state!r}")
        info = serializer.dumps(meta, "json")
        most = self._state.config.max_args_bytes
        if len(info) > most:
            raise PayloadTooLarge(
                f"the meta takes {len(info)} bytes,"
                f" TASKQUEUE_MAX_ARGS_BYTES allows {most}"
            )
        request.said = name
        request.reporter.report(name, info)

    def progress(self, current: float, total: float, message: str = "") -> None:
        """Say how far the running job is.

        :param current: Done so far, in the unit of ``total``.
        """
        meta = {"current": current, "total": total, "message": message}
        self.update_state(state="PROGRESS", meta=meta)


def _call_apart(
    run: Callable[..., t.Any], args: Sequence[t.Any], kwargs: Mapping[str, t.Any]
) -> t.Any:
    outer = apart.get()
    apart.set(True)
    try:
        value = run(*args, **kwargs)
    finally:
        apart.set(outer)
    return _await_apart(value) if isinstance(value, types.CoroutineType) else value


async def _await_apart(coroutine: Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
    outer = apart.get()
    apart.set(True)
    try:
        return await coroutine
    finally:
        apart.set(outer)


def _checked_retry(
    cause: BaseException | None,
    eta: datetime | None,
    countdown: Seconds | None,
    args: Sequence[t.Any] | None,
    kwargs: Mapping[str, t.Any] | None,
    options: ChangeOptions,
) -> Retry:
    checked_arguments(args, kwargs)
    TaskOptions().called(eta=eta, countdown=countdown)
    TaskOptions().changed(**options)
    if isinstance(countdown, timedelta):
        countdown = countdown.total_seconds()
    return Retry(
        exc=cause, eta=eta, countdown=countdown, args=args, kwargs=kwargs,
        options=t.cast("Mapping[str, t.Any]", options),
    )  # fmt: skip
