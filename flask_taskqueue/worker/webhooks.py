"""Sends the webhooks of plain ``rq`` jobs, once their end is stored."""

from __future__ import annotations

import logging

from redis import Redis
from redis.exceptions import ResponseError

from .. import _rq, keys, serializer
from ..broker import scripts
from ..broker.trouble import is_unavailable
from ..job import StoredJob
from .endings import Failed, Outcome, Succeeded
from .execution import Executor
from .plain import PlainJob

logger: logging.Logger = logging.getLogger(__name__)

WAITS = 2.0
"""Time-outs of its own a webhook has in all: one to connect, one for the answer."""


def as_ended(client: Redis, stored: StoredJob) -> StoredJob:
    """A job as it was claimed, with the time its end was stored. May be repeated."""
    untyped: scripts.Client = client
    try:
        at = untyped.hget(keys.job(stored.id), "ended_at") or b""
    except ResponseError as error:
        if is_unavailable(error):
            raise
        at = b""  # Somebody put something else there.
    return StoredJob(stored.id, {**stored.fields, b"ended_at": at}, stored.queue)


def send_after(executor: Executor, stored: StoredJob, outcome: Outcome) -> None:
    """Send those of an execution that ended its job.

    :param stored: From :func:`as_ended`.
    """
    if isinstance(outcome, Succeeded):
        send(executor, stored, "finished", "")
    elif isinstance(outcome, Failed):
        # RQ has no traceback where the function returned Retry too often (rq 2.12).
        trace = outcome.trace if outcome.result_type == 2 else ""
        send(executor, stored, "failed", trace)


def send(executor: Executor, stored: StoredJob, status: str, trace: str) -> None:
    """Send a job's webhooks for how it ended. What goes wrong is logged.

    :param status: ``finished`` or ``failed``.
    :param trace: The traceback of a failure.
    """
    try:
        for seconds, call in _opened(executor, stored).webhooks(status, trace):
            with executor.timer.limit(WAITS * seconds, _rq.JobTimeoutException):
                call()
    except Exception:
        logger.exception("Job %s: a webhook was not sent", stored.id)


def _opened(executor: Executor, stored: StoredJob) -> PlainJob:
    """The job as RQ sees it. Its function, which may not exist, is not imported.

    :raises Exception: It may not be decoded here: the job failed because of that, and
        nobody knows who asks for its webhooks.
    """
    config = executor.state.config
    data = stored.data(config.max_args_bytes)
    if (signer := executor.state.signer) is not None:
        stored.verify(signer, data)
    content = serializer.content_type_of(data)
    most = config.max_args_bytes
    serializer.load_call(data, content, config.accept_content, most)
    client = executor.opener.client
    return PlainJob(stored, client, config.importable, data=data, content=content)
