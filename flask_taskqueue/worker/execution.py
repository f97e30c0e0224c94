"""Runs one job and says how it ended. Writes nothing: see :mod:`.outcome`."""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Sequence
from functools import partial

from redis import Redis

from .. import _rq, context, errors, joblog, serializer, signals, states
from ..appstate import AppState
from ..job import StoredJob
from ..options import TaskOptions
from ..request import Reporter, current
from ..retry import covers
from ..stored_error import dump_error
from . import callbacks
from .callbacks import INTERRUPTS, Callbacks, trace_of
from .changes import changes_of
from .endings import Failed, Halted, Outcome, Parked, Retried, Returned, Succeeded
from .limits import NOTHING, Halt, Timer
from .opening import Call, Opener
from .plain import PlainJob

logger: logging.Logger = logging.getLogger(__name__)


class Executor:
    """Runs jobs of one app.

    :param hostname: Name of the worker.
    :param timer: How soft limits are kept here.
    :param client: For callbacks of plain ``rq`` jobs.
    :param eager: Jobs run in the caller: an interrupt is the caller's.
    """

    def __init__(
        self,
        state: AppState,
        hostname: str,
        timer: Timer,
        client: Redis | None = None,
        *,
        eager: bool = False,
    ) -> None:
        self.state = state
        self.timer = timer
        self.eager = eager
        self.opener: Opener = Opener(state, hostname, client, eager)

    def run(self, stored: StoredJob, reporter: Reporter) -> Outcome:
        """Run a job. Whatever is wrong with it becomes its outcome."""
        began = time.time()
        try:
            call = self.opener.open(stored, reporter)
        except Exception as error:  # noqa: BLE001 - becomes the outcome
            # What a stored job holds is anybody's: undecodable, unsigned, too
            # large, or an import that fails.
            return self._not_run(stored, error, began)
        if isinstance(call, Parked):
            return call
        try:
            return context.run_apart(partial(self._run_apart, call))
        except errors.DecodeError as error:
            # What it carries cannot be bound: not the next time, either.
            return self._not_run(stored, error, began)
        except Exception as error:  # noqa: BLE001 - becomes the outcome
            # Its context could not be pushed: a session could not be opened, or a
            # receiver of Flask's signals raised.
            return self._without_context(call, error, began)

    def _not_run(self, stored: StoredJob, error: Exception, began: float) -> Outcome:
        """A job that nothing is known to run again."""
        failed = _failed(error, began, 0.0, "json")
        told = (signals.job_failed, stored, states.FAILURE, error)
        callbacks.announce(self.state, *told)
        return failed

    def _without_context(self, call: Call, error: Exception, began: float) -> Outcome:
        """An execution whose function was not called, which its task may repeat."""
        outcome = self._raised(call, error, began, 0.0)
        if isinstance(outcome, Retried):
            told = (call.stored, states.RETRY, error)
            callbacks.announce(self.state, signals.job_retried, *told)
        elif isinstance(outcome, Failed):
            told = (call.stored, states.FAILURE, error)
            callbacks.announce(self.state, signals.job_failed, *told)
        return outcome

    def _run_apart(self, call: Call) -> Outcome:
        current.set(call.request)
        joblog.running.set((call.request.task, call.stored.id))
        with context.restore(
            self.state,
            call.stored.id,
            call.carried,
            request_context=call.task.options.request_context,
            passing=INTERRUPTS if self.eager else (),
        ) as scope:
            return self._perform(call, scope)

    def _perform(self, call: Call, scope: context.Scope) -> Outcome:
        around = Callbacks(scope.app, call, self.eager)
        around.started()
        outcome = self._outcome(call, around, scope)
        around.ended(outcome)
        return outcome

    def _outcome(self, call: Call, around: Callbacks, scope: context.Scope) -> Outcome:
        began, clock = time.time(), time.perf_counter()
        try:
            scope.enter_carriers()
            value = self._invoke(call, around)
            if isinstance(value, _rq.Retry):
                return self._returned_retry(call, value, began, clock)
            if call.request.postponed is not None:
                raise call.request.postponed
            encoded = self._encoded(call, value)
            if call.plain is not None:
                self._call_back_success(call.plain, value)
        except BaseException as error:
            # Whatever it means for the job: its work was not finished.
            scope.error = error
            if self.eager and isinstance(error, INTERRUPTS):
                raise
            return self._raised(call, error, began, time.perf_counter() - clock)
        return Succeeded(
            began=began,
            seconds=time.perf_counter() - clock,
            children=call.request.children,
            value=value,
            encoded=encoded,
        )

    def _invoke(self, call: Call, around: Callbacks) -> t.Any:
        plain = call.plain
        soft = call.request.soft_time_limit
        halting = self.timer.halting(call.request.time_limit)
        if plain is None and soft is None and halting is NOTHING:
            around.before_start()
            return call.task.invoke(call.args, call.kwargs)
        error = errors.SoftTimeLimitExceeded
        kind = _rq.JobTimeoutException if plain else error
        with (
            plain.running() if plain else NOTHING,
            halting,
            NOTHING if soft is None else self.timer.limit(soft, kind),
        ):
            around.before_start()
            return call.task.invoke(call.args, call.kwargs)

    def _encoded(self, call: Call, value: t.Any) -> bytes | None:
        if value is None or call.stored.options.get("ignore_result"):
            return None
        encoded = serializer.dumps(value, call.content)
        most = self.state.config.max_result_bytes
        if len(encoded) > most:
            raise errors.PayloadTooLarge(
                f"the result takes {len(encoded)} bytes,"
                f" TASKQUEUE_MAX_RESULT_BYTES allows {most}"
            )
        return encoded

    def _call_back_success(self, plain: PlainJob, value: t.Any) -> None:
        """RQ's success callback: what it raises fails the job."""
        seconds, callback = plain.call_back("success", value)
        with self.timer.limit(seconds, _rq.JobTimeoutException):
            callback()

    def _raised(
        self, call: Call, error: BaseException, began: float, seconds: float
    ) -> Outcome:
        request, options = call.request, call.task.options
        ran: dict[str, t.Any] = {
            "began": began, "seconds": seconds, "children": request.children,
        }  # fmt: skip
        if isinstance(error, Halt):
            return Halted(**ran, exception=error.error, status=error.status)
        if isinstance(error, errors.Ignore):
            return Succeeded(**ran, ignored=True)
        if isinstance(error, errors.Reject) and error.requeue and not self.eager:
            return Returned(reason=str(error.reason))
        if isinstance(error, errors.Retry):
            answer = self._asked(call, error, ran)
            if isinstance(answer, Retried):
                return answer
            error = answer
        if call.plain is not None:
            self._call_back_failure(call.plain, error)
        fields = _fewer_left(call)
        # RQ's Retry covers whatever is raised, also where the job runs as a task.
        retried_for = (Exception,) if fields else options.autoretry_for
        covered = covers(error, retried_for, options.dont_autoretry_for)
        delay = request.policy.next_delay(request.retries) if covered else None
        if delay is None:
            expected = isinstance(error, options.throws)
            return _failed(error, content=call.content, expected=expected, **ran)
        return Retried(
            **ran, due=f"+{delay:.6f}" if delay else "", delay=delay, exception=error,
            error=dump_error(error, trace_of(error), call.content), fields=fields,
        )  # fmt: skip

    def _call_back_failure(self, plain: PlainJob, error: BaseException) -> None:
        """RQ runs it on each attempt; what it raises is logged."""
        try:
            seconds, callback = plain.call_back(
                "failure", type(error), error, error.__traceback__
            )
            with self.timer.limit(seconds, _rq.JobTimeoutException):
                callback()
        except Exception:
            logger.exception("A job's failure callback raised")

    def _asked(
        self, call: Call, retry: errors.Retry, ran: dict[str, t.Any]
    ) -> Retried | BaseException:
        """The retry that was asked for, or what the job fails with instead.

        Its limit is kept here: not every ``Retry`` comes from the job's ``retry()``.
        """
        given_up = call.request.given_up()
        if given_up is not None:
            given_up.__cause__ = retry
            return given_up if retry.exc is None else retry.exc
        try:
            return self._retried(call, retry, ran)
        except Exception as wrong:  # noqa: BLE001 - the task's, e.g. its arguments
            return wrong

    def _retried(
        self, call: Call, retry: errors.Retry, ran: dict[str, t.Any]
    ) -> Retried:
        request = call.request
        if retry.eta is not None:
            due = TaskOptions().called(eta=retry.eta).due
            delay = max(float(due) - time.time(), 0.0)
        else:
            asked = retry.countdown
            delay = request.policy.delay if asked is None else max(asked, 0.0)
            due = f"+{delay:.6f}" if delay else ""
        fields, queue, front = changes_of(self.state, call, retry)
        cause = retry.exc or retry
        return Retried(
            **ran, due=due, delay=delay, exception=retry.exc, queue=queue,
            front=front, error=dump_error(cause, trace_of(cause), call.content),
            fields={**fields, **_fewer_left(call)},
        )  # fmt: skip

    def _returned_retry(
        self, call: Call, retry: _rq.Retry, began: float, clock: float
    ) -> Outcome:
        """RQ: a function may return ``rq.Retry`` to run again."""
        ran: dict[str, t.Any] = {
            "began": began, "seconds": time.perf_counter() - clock,
            "children": call.request.children,
        }  # fmt: skip
        done = call.stored.count("number_of_retries")
        error = errors.MaxRetriesExceededError(
            f"the function returned Retry more than {retry.max} times"
        )
        if done >= retry.max:
            return _failed(error, content="json", result_type=5, **ran)
        delay = float(_rq.Retry.get_interval(done, retry.intervals))
        asked = errors.Retry("the function returned Retry")
        return Retried(
            **ran, due=f"+{delay:.6f}" if delay else "", delay=delay, exception=None,
            front=bool(retry.enqueue_at_front), error=dump_error(asked, ""),
            fields={"number_of_retries": done + 1}, result_type=4,
        )  # fmt: skip


def _fewer_left(call: Call) -> dict[str, t.Any]:
    """RQ's count of the retries left, one less; nothing where RQ does not count."""
    if call.plain is None or b"retries_left" not in call.stored.fields:
        return {}
    return {"retries_left": max(call.stored.count("retries_left") - 1, 0)}


def _failed(
    error: BaseException,
    began: float,
    seconds: float,
    content: str,
    *,
    children: Sequence[str] = (),
    result_type: int = 2,
    expected: bool = False,
) -> Failed:
    trace = trace_of(error)
    return Failed(
        began=began, seconds=seconds, children=children, exception=error,
        error=dump_error(error, trace, content), trace=trace,
        result_type=result_type, expected=expected,
    )  # fmt: skip
