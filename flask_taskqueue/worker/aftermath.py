"""What is to run after a job whose process was killed: RQ's stopped callback."""

from __future__ import annotations

import logging

from redis import Redis

from .. import _rq, context, keys
from ..broker import scripts
from ..job import StoredJob
from .endings import Parked
from .execution import Executor

logger: logging.Logger = logging.getLogger(__name__)


class _Silent:
    """A callback says nothing of its job."""

    def report(self, state: str, info: bytes) -> None:
        """Drop it."""


def run(executor: Executor, client: Redis, job_id: str) -> None:
    """Run a stopped job's callback. What it raises is logged.

    At least once: a slot that dies before :func:`done` leaves it to another one.
    """
    untyped: scripts.Client = client
    stored = StoredJob(job_id, untyped.hgetall(keys.job(job_id)))
    context.run_apart(lambda: _call_back(executor, stored))


def done(client: Redis, job_id: str) -> None:
    """Say that it need not be run again."""
    client.zrem(keys.NAMES["aftermath"], job_id)


def _call_back(executor: Executor, stored: StoredJob) -> None:
    with context.restore(executor.state, stored.id) as scope:
        try:
            call = executor.opener.open(stored, _Silent())
            if isinstance(call, Parked) or call.plain is None:
                logger.warning("Job %s: its callback is not run here", stored.id)
                return
            seconds, callback = call.plain.call_back("stopped")
            with executor.timer.limit(seconds, _rq.JobTimeoutException):
                callback()
        except BaseException as error:
            scope.error = error
            logger.exception("The stopped callback of job %s raised", stored.id)
