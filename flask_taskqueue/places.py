"""Where the jobs of a queue can be, and what holds them there. Pure."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from . import states
from .readable import readable

if t.TYPE_CHECKING:
    from .job import StoredJob

PLACES: tuple[str, ...] = (
    "running", "waiting", "scheduled", "deferred", "failed", "finished", "revoked",
)  # fmt: skip
"""In the order they are listed in."""

ENDED = frozenset({"failed", "finished", "revoked"})
"""Places of jobs that ended: entries are kept until the job's TTL is over."""

_PLACES = {
    "started": "running",
    "queued": "waiting",
    "created": "waiting",
    "scheduled": "scheduled",
    "deferred": "deferred",
    "failed": "failed",
    # A terminated job is REVOKED, and RQ keeps it among the failed.
    "stopped": "failed",
    "finished": "finished",
    "canceled": "revoked",
}
"""By RQ's statuses."""

_WAITING = ("waiting", "scheduled", "deferred")

_OF_STATE = {
    states.PENDING: _WAITING,
    states.RETRY: _WAITING,
    states.STARTED: ("running",),
    states.SUCCESS: ("finished",),
    states.FAILURE: ("failed",),
    states.REVOKED: ("failed", "revoked"),
}


def places_of_state(state: str) -> tuple[str, ...]:
    """Places a job in this state can be in.

    :param state: In any case. One that is none of :mod:`.states` is what a task says
        of itself while it runs, or said before it ended with ``Ignore``. A task that
        says one of those is not looked for.
    """
    return _OF_STATE.get(state.upper(), ("running", "finished"))


def place_of(stored: StoredJob) -> str | None:
    """Where a job is; ``None`` where there is no such job, or it cannot be read."""
    return _PLACES.get(readable(lambda: stored.status, ""))


def held(
    stored: StoredJob, place: str | None, queue: str, idle: Mapping[str, str]
) -> str | None:
    """Why a job that waits does not run, unless others only come before it.

    :param idle: Queues from which nothing is taken, and why.
    """
    if place == "waiting":
        return idle.get(queue)
    if place == "deferred":
        parked = b"tq_parked" in stored.fields
        return "no worker knows this task" if parked else "waits for another job"
    return None
