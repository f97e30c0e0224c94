"""Decides which of an entry's due times are fired now, and which are given up."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from .schedules import At, Schedule

STEPS_MOST: int = 100
"""Steps of one plan at most: the entries behind it get their turn before the rest."""
MISFIRES_MOST: int = 1_000
"""Misfires that ``"all"`` fires at most, and at which those of a ``crontab`` stop being
counted."""

_MICROSECOND = timedelta(microseconds=1)

Misfire: t.TypeAlias = t.Literal["once", "skip", "all"]
"""What happens to due times that were missed by more than the grace."""


@dataclass(frozen=True, slots=True)
class Step:
    """One move of an entry's due time. All instants are in UTC.

    :param expected: The due time as stored before it.
    :param due: What is fired; ``None`` where the due time only moves on.
    :param next: The due time after it; ``None`` when it is never due again.
    """

    expected: datetime
    due: datetime | None
    next: datetime | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about an entry.

    :param steps: In order: each one's ``next`` is what the following one expects.
    :param dropped: Due times given up, as misfires. Those of a ``crontab`` are
        counted to 1,000.
    """

    steps: tuple[Step, ...]
    dropped: int = 0


def plan(
    schedule: Schedule,
    due: datetime,
    now: datetime,
    *,
    misfire: Misfire,
    grace: float,
) -> Plan:
    """What to do about all due times up to now.

    Those missed by less than ``grace`` are fired, late, oldest first. The older ones
    are misfires: ``"once"`` fires the latest of them, ``"skip"`` none, ``"all"`` each,
    but no more than the newest 1,000. A plan has at most 100 steps; where its last
    ``next`` is not later than now, the next plan goes on from there.

    :param due: The due time as stored.
    :param now: Redis's time.
    :param grace: Seconds, 0 or more.
    :return: Without steps, if nothing is due yet.
    :raises ValueError: ``due`` or ``now`` has no zone.
    """
    if due > now:
        return Plan(())
    lateness = (now - due).total_seconds()
    # A misfire is late by the grace or more. A grace longer than the lateness is cut:
    # it makes no difference, and the calendar ends in the year 1.
    edge = now - timedelta(seconds=min(grace, lateness + 1))
    first, dropped = due, 0
    if due <= edge:
        first_kept, dropped = _first_kept(schedule, due, edge, misfire)
        if first_kept is None or first_kept > now:
            return Plan((Step(due, None, first_kept),), dropped)
        first = first_kept
    return Plan(tuple(_steps(schedule, due, first, now)), dropped)


def first_due(
    schedule: Schedule, now: datetime, *, fired: datetime | None, grace: float
) -> datetime | None:
    """When an entry is due first that is new, or has this schedule now.

    An instant that has passed by less than the grace is due all the same: it fires
    late, as any missed due time.

    :param now: Redis's time.
    :param fired: What it was last due at, which does not fire again. Later than now
        where the clock was set back. ``None``: it never was.
    :param grace: Seconds.
    :return: ``None`` where it is over.
    """
    if isinstance(schedule, At):
        is_late = (now - schedule.instant).total_seconds() >= grace
        was_due = fired is not None and schedule.instant <= fired
        return None if is_late or was_due else schedule.instant
    return schedule.next_run(now if fired is None else max(now, fired))


def _first_kept(
    schedule: Schedule, due: datetime, edge: datetime, misfire: Misfire
) -> tuple[datetime | None, int]:
    """The first due time that is not given up, and how many before it are.

    :param edge: The last instant whose due times are misfires.
    """
    if misfire == "all":
        return _newest(schedule, due, edge)
    latest = schedule.last_run(due, edge)
    if misfire == "once":
        before = latest - _MICROSECOND  # strictly before
        return latest, schedule.count_runs(due, before, MISFIRES_MOST)
    dropped = schedule.count_runs(due, latest, MISFIRES_MOST)
    return schedule.next_run(latest), dropped


def _newest(schedule: Schedule, due: datetime, edge: datetime) -> tuple[datetime, int]:
    """The first of the newest misfires, and how many are older."""
    count = schedule.count_runs(due, edge, 2 * MISFIRES_MOST)
    if count <= MISFIRES_MOST:
        return due, 0
    first_kept = schedule.last_run(due, edge)
    for _ in range(MISFIRES_MOST - 1):
        before = first_kept - _MICROSECOND  # strictly before
        first_kept = schedule.last_run(due, before)
    return first_kept, count - MISFIRES_MOST


def _steps(
    schedule: Schedule, expected: datetime, first: datetime, now: datetime
) -> Iterator[Step]:
    """Fire a due time that is not later than now, and those after it."""
    for _ in range(STEPS_MOST):
        following = schedule.next_run(first)
        yield Step(expected, first, following)
        if following is None or following > now:
            return
        expected = first = following
