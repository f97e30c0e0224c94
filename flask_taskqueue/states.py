"""Public states, and the one map from RQ's statuses to them."""

from __future__ import annotations

PENDING = "PENDING"
STARTED = "STARTED"
PROGRESS = "PROGRESS"
RETRY = "RETRY"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"
UNKNOWN = "UNKNOWN"

NOT_WHILE_RUNNING = frozenset({PENDING, RETRY, SUCCESS, FAILURE, REVOKED, UNKNOWN})
"""States a task may say it is in, as in Celery, which are true once it has ended."""

WAITING = frozenset({"created", "queued", "scheduled", "deferred"})
"""RQ statuses of a job that waits to be executed."""

ENDED = frozenset({"finished", "failed", "canceled", "stopped"})
"""RQ statuses that only a requeue, or a new call with the same id, leaves."""

_FROM_RQ = {
    "created": PENDING,
    "queued": PENDING,
    "deferred": PENDING,
    "scheduled": PENDING,
    "started": STARTED,
    "finished": SUCCESS,
    "failed": FAILURE,
    "canceled": REVOKED,
    "stopped": REVOKED,
}


def public_state(status: str, *, retries: int = 0, said: str = "") -> str:
    """The state users see.

    :param status: RQ's status of the job; empty when there is no such job.
    :param retries: Retries done; a waiting job that has some is in ``RETRY``.
    :param said: The state the task last gave to ``update_state()``. It counts
        while the task runs, unless it contradicts that, and after it ended by
        ``Ignore`` (given only then).
    """
    state = _FROM_RQ.get(status, UNKNOWN)
    if state == PENDING and retries:
        return RETRY
    if said and status == "finished":
        return said
    if said and status == "started" and said not in NOT_WHILE_RUNNING:
        return said
    return state
