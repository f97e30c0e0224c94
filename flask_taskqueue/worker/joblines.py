"""Logs how executions ended. Stores nothing."""

from __future__ import annotations

import logging
import typing as t

from redis import Redis

from .. import joblog, keys
from ..broker import scripts
from ..broker.wire import text
from ..config import Config
from ..errors import WorkerLostError
from ..job import StoredJob
from ..stored_error import load_error
from .endings import Failed, Halted, Outcome, Parked, Retried, Returned, Succeeded

logger: logging.Logger = logging.getLogger(__name__)


def log(config: Config, stored: StoredJob, outcome: Outcome) -> None:
    """Log how an execution ended; with the traceback where nobody expected it."""
    level = log_level(stored, outcome)
    if logger.isEnabledFor(level):
        line = log_line(stored, outcome, config.redact, config.log_results)
        failed = isinstance(outcome, Failed) and not outcome.expected
        error = outcome.exception if isinstance(outcome, Failed) and failed else None
        logger.log(level, "%s", line, extra=log_extra(stored), exc_info=error)


def log_lost(client: Redis, job_id: str, queue: str) -> None:
    """Log the end of a job that failed with its process, which can no longer do so.

    Of one that did not end so nothing is logged.
    """
    untyped: scripts.Client = client
    names = ("status", "tq_task", "description", "tq_error")
    found = zip(names, untyped.hmget(keys.job(job_id), names), strict=True)
    fields = {name.encode(): value for name, value in found if value is not None}
    stored = StoredJob(job_id, fields, queue)
    if stored.status == "failed":
        error = WorkerLostError(load_error(fields[b"tq_error"])["message"])
        line = joblog.failed(shown_name(stored), job_id, None, repr(error))
        logger.error("%s", line, extra=log_extra(stored))


def log_level(stored: StoredJob, outcome: Outcome) -> int:
    """Level of the line that says how an execution ended."""
    match outcome:
        case Succeeded():
            return logging.INFO
        case Failed():
            return logging.INFO if outcome.expected else logging.ERROR
        case Halted(status="failed"):
            return logging.ERROR
        case Parked() if b"tq_parked" not in stored.fields:
            return logging.WARNING
    return logging.INFO


def log_line(
    stored: StoredJob, outcome: Outcome, redact: t.Collection[str], results: bool
) -> str:
    """The line that says how an execution ended."""
    name, job_id = shown_name(stored), stored.id
    match outcome:
        case Succeeded(ignored=True):
            return joblog.ignored(name, job_id)
        case Succeeded():
            shown = _shown_result(stored, outcome.value, redact) if results else None
            return joblog.succeeded(name, job_id, outcome.seconds, shown)
        case Failed() | Halted(status="failed"):
            shown = joblog.brief_repr(outcome.exception, redact, 500)
            return joblog.failed(name, job_id, outcome.seconds, shown)
        case Halted():
            return joblog.revoked(name, job_id, str(outcome.exception))
        case Retried():
            cause = outcome.exception
            shown = None if cause is None else joblog.brief_repr(cause, redact, 500)
            return joblog.retried(name, job_id, outcome.delay, shown)
        case Parked():
            return joblog.parked(outcome.task, job_id)
        case Returned():
            reason = f"rejected: {outcome.reason}"
            return joblog.retried(name, job_id, 0.0, reason)


def _shown_result(
    stored: StoredJob, value: t.Any, redact: t.Collection[str]
) -> str | None:
    if stored.options.get("ignore_result"):
        return None
    return joblog.brief_repr(value, redact)


def shown_name(stored: StoredJob) -> str:
    """A job's name for logs, without arguments; bytes that are no text stay visible."""
    described = stored.fields.get(b"description", b"").partition(b"(")[0]
    return text(stored.fields.get(b"tq_task") or described or b"?")


def log_extra(stored: StoredJob) -> dict[str, str]:
    """What every line about a job carries."""
    return {"job_id": stored.id, "queue": stored.queue, "task": shown_name(stored)}
