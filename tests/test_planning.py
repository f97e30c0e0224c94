"""Which due times are fired, late or not, and which are given up."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_taskqueue.beat.planning import (
    MISFIRES_MOST,
    STEPS_MOST,
    Plan,
    Step,
    first_due,
    plan,
)
from flask_taskqueue.beat.schedules import At, crontab, every

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MISFIRES = ("once", "skip", "all")
MINUTELY = [every(60), crontab()]
SECOND = timedelta(seconds=1)


def at(minutes):
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def in_minutes(found):
    """The steps, as minutes after noon."""

    def minutes(instant):
        return None if instant is None else (instant - NOON) / timedelta(minutes=1)

    return [(minutes(s.expected), minutes(s.due), minutes(s.next)) for s in found.steps]


def all_plans(schedule, due, now, **how):
    """The plans one after the other, until nothing is due."""
    plans = []
    while due is not None and (found := plan(schedule, due, now, **how)).steps:
        plans.append(found)
        due = found.steps[-1].next
    return plans


@pytest.mark.parametrize(
    ("schedule", "fired", "expected"),
    [
        pytest.param(every(60), None, 1, id="interval"),
        pytest.param(every(60), at(-5), 1, id="interval, fired"),
        pytest.param(crontab(), at(5), 6, id="crontab, the clock was set back"),
        pytest.param(At(at(5)), None, 5, id="instant"),
        pytest.param(At(NOON), None, 0, id="instant, now"),
        pytest.param(At(at(-0.99)), None, -0.99, id="instant, late"),
        pytest.param(At(at(-1)), None, None, id="instant, missed by the grace"),
        pytest.param(At(at(-0.5)), at(-0.5), None, id="instant, fired"),
        pytest.param(At(at(-0.5)), at(-0.6), -0.5, id="instant, fired before"),
        pytest.param(At(at(5)), at(5), None, id="instant, fired, clock set back"),
    ],
)
def test_when_something_new_is_due_first(schedule, fired, expected):
    found = first_due(schedule, NOON, fired=fired, grace=60.0)
    assert found == (None if expected is None else at(expected))


@pytest.mark.parametrize("misfire", MISFIRES)
@pytest.mark.parametrize("schedule", MINUTELY, ids=str)
@pytest.mark.parametrize(
    ("now", "steps"),
    [
        pytest.param(at(-1), [], id="clock-set-back"),
        pytest.param(NOON - timedelta(microseconds=1), [], id="not-yet"),
        pytest.param(NOON, [(0, 0, 1)], id="on-time"),
        pytest.param(at(0.5), [(0, 0, 1)], id="late"),
        pytest.param(at(2.5), [(0, 0, 1), (1, 1, 2), (2, 2, 3)], id="several-late"),
    ],
)
def test_due_times_within_the_grace_are_fired_oldest_first(
    misfire, schedule, now, steps
):
    found = plan(schedule, NOON, now, misfire=misfire, grace=180)
    assert in_minutes(found) == steps
    assert found.dropped == 0


@pytest.mark.parametrize("schedule", MINUTELY, ids=str)
@pytest.mark.parametrize(
    ("misfire", "steps", "dropped"),
    [
        # 12:00 to 12:03 are late by 2 minutes or more; 12:04 and 12:05 are not.
        ("once", [(0, 3, 4), (4, 4, 5), (5, 5, 6)], 3),
        ("skip", [(0, 4, 5), (5, 5, 6)], 4),
        ("all", [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 4), (4, 4, 5), (5, 5, 6)], 0),
    ],
    ids=MISFIRES,
)
def test_older_ones_are_misfires(schedule, misfire, steps, dropped):
    found = plan(schedule, NOON, at(5.5), misfire=misfire, grace=120)
    assert in_minutes(found) == steps
    assert found.dropped == dropped


@pytest.mark.parametrize("schedule", MINUTELY, ids=str)
@pytest.mark.parametrize(
    ("misfire", "steps", "dropped"),
    [
        ("once", [(0, 5, 6)], 5),
        ("skip", [(0, None, 6)], 6),
        ("all", [(n, n, n + 1) for n in range(6)], 0),
    ],
    ids=MISFIRES,
)
def test_misfires_alone(schedule, misfire, steps, dropped):
    found = plan(schedule, NOON, at(5.5), misfire=misfire, grace=10)
    assert in_minutes(found) == steps
    assert found.dropped == dropped


@pytest.mark.parametrize(
    ("lateness", "steps"),
    [(59.999, [(0, 0, 5)]), (60, [(0, None, 5)])],
    ids=["less", "as-much"],
)
def test_a_misfire_is_late_by_the_grace(lateness, steps):
    now = NOON + timedelta(seconds=lateness)
    found = plan(crontab("*/5"), NOON, now, misfire="skip", grace=60)
    assert in_minutes(found) == steps


@pytest.mark.parametrize(
    ("misfire", "step", "dropped"),
    [("once", (0, 0, None), 0), ("skip", (0, None, None), 1), ("all", (0, 0, None), 0)],
    ids=MISFIRES,
)
def test_a_single_instant_is_over_afterwards(misfire, step, dropped):
    found = plan(At(NOON), NOON, at(60), misfire=misfire, grace=60)
    assert in_minutes(found) == [step]
    assert found.dropped == dropped


def test_a_single_instant_is_fired_late():
    found = plan(At(NOON), NOON, at(0.5), misfire="skip", grace=60)
    assert found == Plan((Step(NOON, NOON, None),), 0)


@pytest.mark.parametrize("schedule", MINUTELY, ids=str)
def test_only_the_newest_misfires_are_fired(schedule):
    now = at(5000.5)
    plans = all_plans(schedule, NOON, now, misfire="all", grace=90)
    steps = [step for one in plans for step in one.steps]
    # 5000 is not yet late by 90 s; 4999 is the newest misfire.
    newest = [at(n) for n in range(4999 - MISFIRES_MOST + 1, 5001)]
    assert [step.due for step in steps] == newest
    assert steps[0].expected == NOON
    assert plans[0].dropped == (4000 if schedule == every(60) else MISFIRES_MOST)
    assert [one.dropped for one in plans[1:]] == [0] * (len(plans) - 1)


@pytest.mark.parametrize("misfire", MISFIRES)
@pytest.mark.parametrize(
    "schedule",
    [every(1), every(0.001), crontab.from_string("* * * * * *"), crontab()],
    ids=str,
)
def test_a_year_away_takes_no_longer_than_an_hour(misfire, schedule):
    began = time.process_time()
    due = NOON - timedelta(days=365)
    found = plan(schedule, due, NOON, misfire=misfire, grace=60)
    assert 0 < len(found.steps) <= STEPS_MOST
    assert found.dropped >= MISFIRES_MOST
    # A due time a second would be 31 million steps, of some microseconds each.
    assert time.process_time() - began < 5


def test_given_up_due_times_of_an_interval_are_counted_exactly():
    due = NOON - timedelta(days=365)
    found = plan(every(1), due, NOON, misfire="once", grace=1)
    assert found.dropped == 365 * 24 * 3600 - 1
    assert found.steps[0] == Step(due, NOON - SECOND, NOON)


@pytest.mark.parametrize("grace", [0, 1e300, float("inf")], ids=str)
def test_any_number_of_seconds_is_a_grace(grace):
    found = plan(every(60), NOON, at(1.5), misfire="once", grace=grace)
    assert in_minutes(found) == ([(0, 0, 1), (1, 1, 2)] if grace else [(0, 1, 2)])


SCHEDULES = [
    *(every(7), every(0.05), every(3600), crontab("*/7"), crontab("30", "2-4")),
    *(crontab.from_string("*/5 * * * * *"), crontab(tz="Australia/Lord_Howe")),
]


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    schedule=st.sampled_from(SCHEDULES),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    away=st.floats(0, 100) | st.floats(0, 10_000),
    misfire=st.sampled_from(MISFIRES),
    grace=st.floats(0, 300),
)
def test_every_due_time_is_fired_or_given_up(schedule, start, away, misfire, grace):
    due = schedule.next_run(start.replace(tzinfo=UTC))
    now = due + timedelta(seconds=away)
    edge = now - timedelta(seconds=grace)
    plans = all_plans(schedule, due, now, misfire=misfire, grace=grace)
    steps = [step for one in plans for step in one.steps]
    assert all(len(one.steps) <= STEPS_MOST for one in plans)
    assert steps[0].expected == due
    for step, following in zip(steps, steps[1:], strict=False):
        assert step.next == following.expected
    assert steps[-1].next > now >= steps[-1].expected
    fired = [step.due for step in steps if step.due is not None]
    passed = everything(schedule, due, now)
    misfires = [one for one in passed if one <= edge]
    kept = {"once": misfires[-1:], "skip": [], "all": misfires[-MISFIRES_MOST:]}[
        misfire
    ]
    assert fired == kept + passed[len(misfires) :]
    dropped = len(passed) - len(fired)
    assert sum(one.dropped for one in plans) in (dropped, min(dropped, MISFIRES_MOST))


def everything(schedule, due, now):
    """All due times, one by one."""
    found = []
    while due <= now:
        found.append(due)
        due = schedule.next_run(due)
    return found
