"""What runs after a job whose process was killed: hooks, signals, callbacks."""

from __future__ import annotations

import logging
import typing as t
from functools import partial

from redis import Redis
from redis.exceptions import ResponseError

from .. import _rq, context, joblog, keys, signals, states
from ..broker import scripts
from ..broker.trouble import is_unavailable
from ..broker.wire import Note
from ..errors import DecodeError, SoftTimeLimitExceeded
from ..hooks import Hooks
from ..job import StoredJob
from ..request import current
from ..stored_error import load_error, rebuild_error
from . import callbacks, webhooks
from .endings import Failed, Parked
from .execution import Executor
from .opening import Call
from .plain import has_webhooks

logger: logging.Logger = logging.getLogger(__name__)

SOFT_LIMIT = 60.0
"""Seconds for hooks and signals together, and for a callback."""

HARD_LIMIT = 170.0
"""Seconds after which the process that calls them is killed: less than nobody else
gets the job (``lib/claiming.lua``)."""

_ENDED_BY_DEATH = ("failed", "stopped", "canceled")
_HOOKS = frozenset({"on_failure", "after_return"})


class _Silent:
    """Nobody hears what a hook says of a job that is over."""

    def report(self, state: str, info: bytes) -> None:
        """Drop it."""


class Killed(t.NamedTuple):
    """A job whose process was killed, and how it ended.

    :param trace: Of the exception, as text; often empty.
    """

    stored: StoredJob
    error: Exception
    trace: str

    @property
    def failed(self) -> bool:
        """Otherwise it was revoked."""
        return self.stored.status == "failed"


def read(executor: Executor, client: Redis, note: Note) -> Killed | None:
    """The job a claim's note is about; ``None`` if its end cannot be seen any more.

    May be repeated.
    """
    untyped: scripts.Client = client
    try:
        fields = untyped.hgetall(keys.job(note.id))
    except ResponseError as error:
        if is_unavailable(error):
            raise
        return None  # Somebody put something else there.
    stored = StoredJob(note.id, fields, note.queue)
    if stored.text("tq_execution") != note.reason or (
        stored.status not in _ENDED_BY_DEATH
    ):
        return None
    try:
        kept = load_error(stored.fields.get(b"tq_error", b""))
    except DecodeError:
        return None
    exc = rebuild_error(kept, executor.state.config.accept_content)
    return Killed(stored, exc, kept["traceback"])


def run(executor: Executor, killed: Killed) -> bool:
    """Call what its own process can no longer call. What they raise is logged.

    At least once: a slot that dies before :func:`done` leaves it to another one. The
    webhooks, once at most, are sent at the first try, before all else.

    :return: ``False`` where its task is not known here: another worker's may know it.
    """
    stored = killed.stored
    if not _is_heard(executor, killed):
        return True
    if killed.failed and has_webhooks(stored) and stored.text("tq_aftermath") == "1":
        trace = killed.trace or f"{type(killed.error).__name__}: {killed.error}\n"
        webhooks.send(executor, stored, "failed", trace)
    try:
        call = executor.opener.open(stored, _Silent())
        if isinstance(call, Parked):
            logger.warning(
                "Job %s was killed; its task %s is not known here: another worker is"
                " to call its hooks", stored.id, call.task,
            )  # fmt: skip
            return False
        context.run_apart(partial(_run_apart, executor, killed, call))
    except Exception:
        # It ran, so it could be opened; or its context cannot be pushed now.
        logger.exception("The hooks of the killed job %s cannot be called", stored.id)
        _announce(executor, killed)
    return True


def done(client: Redis, note: Note) -> None:
    """Say that it need not be run again. May be repeated."""
    key = keys.PREFIXES["aftermath_of"] + note.queue
    client.zrem(key, f"{note.id}:{note.reason}")


def settle(executor: Executor, client: Redis, note: Note) -> None:
    """Do all of it."""
    killed = read(executor, client, note)
    if killed is None or run(executor, killed):
        done(client, note)


def _is_heard(executor: Executor, killed: Killed) -> bool:
    """Somebody may listen. Nothing is decoded to find that out."""
    signal = signals.job_failed if killed.failed else signals.job_revoked
    name = killed.stored.task
    task = executor.state.tasks.get(name)
    listening = signal.has_receivers_for(executor.state.app)
    if listening or not name or task is None:
        return True
    return isinstance(task, Hooks) and bool(task.overridden & _HOOKS)


def _announce(executor: Executor, killed: Killed) -> None:
    stored, error = killed.stored, killed.error
    if killed.failed:
        told = (signals.job_failed, stored, states.FAILURE, error)
    else:
        told = (signals.job_revoked, stored, states.REVOKED, error)
    callbacks.announce(executor.state, *told)


def _run_apart(executor: Executor, killed: Killed, call: Call) -> None:
    current.set(call.request)
    joblog.running.set((call.request.task, call.stored.id))
    with context.restore(
        executor.state,
        call.stored.id,
        call.carried,
        request_context=call.task.options.request_context,
    ) as scope:
        scope.error = killed.error
        _guard(call, "a carrier", scope.enter_carriers)
        if call.plain is not None:
            _guard(call, "its callback", partial(_call_back, executor, killed, call))
        around = callbacks.Callbacks(executor.state.app, call, eager=False)
        with executor.timer.limit(SOFT_LIMIT, SoftTimeLimitExceeded):
            _guard(call, "its hooks", partial(_tell, around, killed))


def _call_back(executor: Executor, killed: Killed, call: Call) -> None:
    """RQ's callback: what runs at a failure, or because the job was stopped."""
    if call.plain is None or killed.stored.status == "canceled":
        return
    if killed.failed:
        about = (type(killed.error), killed.error, None)
        seconds, callback = call.plain.call_back("failure", *about)
    else:
        seconds, callback = call.plain.call_back("stopped")
    with executor.timer.limit(min(seconds, SOFT_LIMIT), _rq.JobTimeoutException):
        callback()


def _tell(around: callbacks.Callbacks, killed: Killed) -> None:
    if killed.failed:
        around.ended(
            Failed(
                began=0.0,
                seconds=0.0,
                exception=killed.error,
                error=b"",
                trace=killed.trace,
            )  # fmt: skip
        )
    else:
        around.revoked(killed.error, ran=killed.stored.status == "stopped")


def _guard(call: Call, what: str, function: t.Callable[[], object]) -> None:
    try:
        function()
    except BaseException:  # an exit, too, is not the worker's
        extra = {"job_id": call.stored.id, "queue": call.stored.queue, "task": ""}
        logger.exception(
            "After job %s was killed %s raised", call.stored.id, what, extra=extra
        )
