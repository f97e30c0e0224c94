"""Calls hooks and sends job signals, in the process that runs the jobs."""

from __future__ import annotations

import logging
import traceback
import typing as t
from collections.abc import Callable, Sequence
from functools import partial

from blinker import NamedSignal
from flask import Flask
from redis import Redis

from .. import announcing, context, coroutines, signals, states
from ..appstate import AppState
from ..broker.wire import NewJob, Note
from ..errors import DecodeError, TaskQueueError, TaskRevokedError
from ..hooks import Hooks
from ..job import StoredJob
from ..jobinfo import JobInfo
from .endings import Failed, Outcome, Retried, Succeeded
from .opening import Call

logger: logging.Logger = logging.getLogger(__name__)

INTERRUPTS: tuple[type[BaseException], ...] = (KeyboardInterrupt, GeneratorExit)
"""Where a job runs in its caller these are the caller's, whoever raises them."""

_NOTED: dict[str, tuple[NamedSignal, str, type[TaskQueueError]]] = {
    "expired": (signals.job_revoked, states.REVOKED, TaskRevokedError),
    "revoked": (signals.job_revoked, states.REVOKED, TaskRevokedError),
    "quarantined": (signals.job_failed, states.FAILURE, DecodeError),
}
"""Signal, state and exception of a job that a claim dropped, by its note's kind."""


def _is_heard() -> bool:
    """Whether somebody listens to a signal of an execution's end."""
    ends = signals.job_succeeded, signals.job_retried, signals.job_failed
    return any([signal.receivers for signal in ends])


class Callbacks:
    """Hooks and signals of one execution, called inside the job's app context.

    :param eager: It runs in the caller.
    """

    __slots__ = ("_app", "_call", "_eager", "_hooks")

    def __init__(self, app: Flask, call: Call, eager: bool) -> None:
        self._app = app
        self._call = call
        self._eager = eager
        task = call.task
        self._hooks = task.overridden if isinstance(task, Hooks) else frozenset()

    def started(self) -> None:
        """Before the execution."""
        self._send(signals.job_started, states.STARTED)

    def before_start(self) -> None:
        """Call the hook that is a part of the execution: it may raise."""
        if "before_start" in self._hooks:
            self._method("before_start", (), ())

    def ended(self, outcome: Outcome) -> None:
        """After the execution, in Celery's order. ``Ignore`` and a job that goes back
        to its queue as if it had not run have no callbacks."""
        if not (self._hooks or _is_heard()):
            return
        match outcome:
            case Succeeded(ignored=False, value=value):
                self._hook("on_success", (value,))
                self._send(signals.job_succeeded, states.SUCCESS)
                self._hook("after_return", (states.SUCCESS, value), None)
            case Retried(exception=error):
                if "on_retry" in self._hooks:
                    self._hook("on_retry", (error,), trace_of(error))
                self._send(signals.job_retried, states.RETRY, error)
            case Failed(exception=error, trace=trace):
                self._hook("on_failure", (error,), trace)
                self._send(signals.job_failed, states.FAILURE, error)
                self._hook("after_return", (states.FAILURE, error), trace)

    def revoked(self, error: BaseException, ran: bool) -> None:
        """After an execution whose job was revoked, by another process.

        :param ran: It was stopped: what it began in ``before_start`` is to be ended.
        """
        self._send(signals.job_revoked, states.REVOKED, error)
        if ran:
            self._hook("after_return", (states.REVOKED, error), "")

    def _method(
        self, name: str, before: Sequence[t.Any], after: Sequence[t.Any]
    ) -> None:
        call = self._call
        method = getattr(call.task, name)
        value = method(*before, call.stored.id, call.args, call.kwargs, *after)
        coroutines.finished(value)

    def _hook(self, name: str, before: Sequence[t.Any], *after: t.Any) -> None:
        if name in self._hooks:
            self._guard(f"Hook {name}", lambda: self._method(name, before, after))

    def _send(
        self, signal: NamedSignal, state: str, error: BaseException | None = None
    ) -> None:
        if signal.receivers:
            stored, task = self._call.stored, self._call.task.name
            job = JobInfo.of(stored, state, task=task, exception=error)
            send = partial(signals.send, signal, self._app, job=job)
            self._guard(f"Signal {signal.name}", send)

    def _guard(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            if self._eager and isinstance(error, INTERRUPTS):
                raise
            stored, task = self._call.stored, self._call.task.name
            _log(what, stored.id, task, stored.queue)


def announce(
    state: AppState,
    signal: NamedSignal,
    stored: StoredJob,
    leads_to: str,
    error: BaseException,
) -> None:
    """Send a signal about a job that is not executed, in an app context of its own.

    :param leads_to: The state the job has from now on.
    """
    if signal.receivers:
        job = JobInfo.of(stored, leads_to, exception=error)
        send = partial(signals.send, signal, state.app, job=job)
        _apart(state, send, job.id, job.task, job.queue)


def announce_links(state: AppState, links: Sequence[NewJob]) -> None:
    """Send ``job_enqueued`` for jobs that the end of another enqueued."""
    for new in links:
        send = partial(announcing.enqueued, state, new)
        _apart(state, send, new.id, str(new.fields["tq_task"]), new.queue)


def dropped(state: AppState, client: Redis, note: Note) -> None:
    """Send the signal of a job that a claim dropped: one read, if somebody listens.

    May be repeated where the read was not answered.
    """
    if note.kind not in _NOTED:
        return
    signal, leads_to, kind = _NOTED[note.kind]
    if signal.receivers:
        stored = announcing.read(client, note.id, note.queue)
        announce(state, signal, stored, leads_to, kind(note.reason or note.kind))


def _apart(state: AppState, send: Callable[[], object], *about: str) -> None:
    """Call a function in a context and an app context of its own.

    :param about: Id, task and queue of the job.
    """

    def inside() -> None:
        try:
            with state.app.app_context():
                send()
        except (Exception, SystemExit):  # noqa: BLE001 - logged
            # A teardown function of the app, or a receiver that exits.
            _log("A signal", *about)

    context.run_apart(inside)


def _log(what: str, job_id: str, task: str, queue: str) -> None:
    extra = {"job_id": job_id, "task": task, "queue": queue}
    logger.exception("%s of job %s raised", what, job_id, extra=extra)


def trace_of(error: BaseException | None) -> str:
    """Its traceback as text; ``""`` where there is none."""
    return "" if error is None else "".join(traceback.format_exception(error))
