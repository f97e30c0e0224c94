"""The only place that touches names RQ does not document: each with the reason."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from rq.job import Job, Retry, _job_stack
from rq.timeouts import JobTimeoutException

__all__ = [
    "JobTimeoutException",
    "Retry",
    "callback_of",
    "current_job",
    "webhooks_of",
]


@contextmanager
def current_job(job: Job) -> Iterator[None]:
    """Make ``rq.get_current_job()`` answer with a job.

    rq 2.12 keeps the running job in ``rq.job._job_stack``, which
    ``Job.perform`` pushes to; there is no public way to run a function of ours
    as a job's.
    """
    _job_stack.push(job)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        _job_stack.pop()  # type: ignore[no-untyped-call]


def callback_of(job: Job, kind: str) -> tuple[str, float] | None:
    """Name and time-out in seconds of a job's callback, without importing it.

    ``Job.success_callback`` imports the name as soon as it is read (rq 2.12), so
    the names are read from where the class keeps them.

    :param kind: ``success``, ``failure`` or ``stopped``.
    """
    name = getattr(job, f"_{kind}_callback_name", None)
    if not isinstance(name, str) or not name:
        return None
    seconds: t.Any = getattr(job, f"{kind}_callback_timeout", None)
    return name, float(seconds or 60)


def webhooks_of(
    job: Job, status: str, exc_string: str
) -> list[tuple[float, t.Callable[[], None]]]:
    """Time-out in seconds and call of each webhook a job has for its end.

    ``Job.send_webhooks`` sends one after the other (rq 2.12) and gives each as long
    as it takes: what urllib's time-out bounds is one wait on the socket. ``Webhook``
    logs what goes wrong, and raises nothing.

    :param status: ``finished`` or ``failed``.
    :param exc_string: The traceback, for the payload of a failure.
    """
    return [
        (float(webhook.timeout), partial(webhook.send, job, exc_string=exc_string))
        for webhook in job.webhooks
        if webhook.job_status == status
    ]
