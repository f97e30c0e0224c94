"""Warns about plain RQ processes on this worker's queues."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from ..broker.wire import Mixed
from ..seldom import Seldom

logger: logging.Logger = logging.getLogger(__name__)

WARN_EVERY = 600.0
"""Seconds between two warnings of the same kind about the same queue."""

_SCHEDULER = (
    "RQ's own scheduler (%s) had queue %s. It is kept out, and what is due there waits"
    " until it has let go. 'flask worker' enqueues what is due: start 'rq worker'"
    " without --with-scheduler"
)
_WORKER = (
    "%d plain rq worker(s), %s among them, take jobs from queue %s. These run outside"
    " the app, and without a lease: stop such workers, 'flask worker' runs all jobs"
)


class Neighbours:
    """Plain RQ processes that one worker has warned of."""

    def __init__(self) -> None:
        self._seldom = Seldom(WARN_EVERY)

    def warn_of_schedulers(self, kept_out: Mapping[str, str]) -> None:
        """Warn of RQ's schedulers that are being kept out, by queue."""
        for queue, name in kept_out.items():
            if self._seldom.may_say(("scheduler", queue)):
                logger.warning(_SCHEDULER, name, queue)

    def warn_of_workers(self, mixed: Iterable[Mixed]) -> None:
        """Warn of plain rq workers beside ours."""
        for found in mixed:
            if self._seldom.may_say(("worker", found.queue)):
                logger.warning(_WORKER, found.count, found.worker, found.queue)
