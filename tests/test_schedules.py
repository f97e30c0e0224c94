"""Schedules as users write them, their arithmetic, and their stored form."""

from __future__ import annotations

import copy
import json
import math
import pickle
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_taskqueue.beat.epoch import epoch_text, from_epoch
from flask_taskqueue.beat.schedules import (
    At,
    Every,
    Schedule,
    crontab,
    every,
    from_stored,
    read_schedule,
)

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
instants = st.datetimes(
    datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)
)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (crontab(minute="*/1"), "2026-11-20 12:01"),
        (
            crontab(minute=42, hour=8, day_of_month=11, month_of_year=4),
            "2027-04-11 08:42",
        ),
        (crontab(0, 0, tz="Asia/Shanghai"), "2026-11-20 16:00"),
        (crontab(0, 0), "2026-11-21 00:00"),
        (crontab(hour=7, minute=30, day_of_week=1), "2026-11-23 07:30"),
        (crontab(0, 9, "mon-fri", tz=PARIS), "2026-11-23 08:00"),
        (2.0, "2026-11-20 12:00:02"),
        (30.0, "2026-11-20 12:00:30"),
        (timedelta(seconds=10), "2026-11-20 12:00:10"),
        ("*/15 * * * *", "2026-11-20 12:15"),
        ("*/10 * * * * *", "2026-11-20 12:00:10"),
        ("@daily", "2026-11-21 00:00"),
        (datetime(2026, 12, 24, 18), "2026-12-24 18:00"),
        (datetime(2026, 12, 24, 18, tzinfo=PARIS), "2026-12-24 17:00"),
    ],
    ids=str,
)  # fmt: skip
def test_a_schedule_is_read_as_it_was_written(schedule, expected):
    found = read_schedule(schedule).next_run(NOON)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert found.tzinfo is UTC


@pytest.mark.parametrize("value", [None, True, b"* * * * *", [30], every], ids=repr)
def test_what_is_no_schedule_is_refused(value):
    with pytest.raises(TypeError, match="expected a schedule to be seconds, a timed"):
        read_schedule(value)


def test_a_schedule_of_celerys_is_told_what_to_import():
    made = type("crontab", (), {"__module__": "celery.schedules"})()
    with pytest.raises(TypeError, match="Celery's: import crontab .*migrate-config'"):
        read_schedule(made)
    with pytest.raises(TypeError) as caught:
        read_schedule(type("crontab", (), {"__module__": "celerylike"})())
    assert "Celery" not in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [
        ("0 0 * * *", PARIS),
        (crontab(0, 0), PARIS),
        (crontab(0, 0, tz="Asia/Tokyo"), ZoneInfo("Asia/Tokyo")),
        (crontab.from_string("0 0 1 * 1", "Asia/Tokyo", True), ZoneInfo("Asia/Tokyo")),
        (30, None),
        (NOON, None),
    ],
    ids=str,
)
def test_a_zone_is_taken_where_the_schedule_has_none(schedule, zone):
    assert read_schedule(schedule, PARIS).zone == zone
    assert read_schedule(schedule).within(PARIS) == read_schedule(schedule, PARIS)


def test_all_else_is_kept_within_a_zone():
    schedule = crontab.from_string("*/5 0 0 1 * mon", day_or=True)
    expected = crontab.from_string("*/5 0 0 1 * mon", PARIS, day_or=True)
    assert schedule.within(PARIS) == expected != schedule


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (crontab(5, 4, "sun", tz=PARIS), crontab.from_string("5 4 * * SUN", PARIS)),
        (crontab(minute=[5, 10]), crontab(minute="5, 10")),
        (crontab(minute={8, 0}), crontab(minute={0, 8})),  # each in its own order
        (crontab.from_string("0 0 0 * * *"), crontab(0, 0)),
        (every(30), every(timedelta(seconds=30))),
        (At(NOON), At(NOON.astimezone(PARIS))),
    ],
    ids=str,
)  # fmt: skip
def test_schedules_are_equal_when_written_alike(first, second):
    assert first == second
    assert hash(first) == hash(second)
    assert first.stored() == second.stored()


def test_schedules_differ_by_rule_zone_and_kind():
    several = {
        crontab(0, 0),
        crontab(0, 0, tz="UTC"),
        crontab(0, 0, tz="Europe/Paris"),
        crontab(0, 0, day_of_week="1-5"),
        crontab.from_string("0 0 * * *", day_or=True),
        crontab.from_string("1 0 0 * * *"),
        every(1),
        every(60),
        At(NOON),
        At(NOON + MICROSECOND),
    }
    assert len(several) == 10


SCHEDULES = [
    (every(30), "every 30 s"),
    (every(0.25), "every 0.25 s"),
    (every(timedelta(days=36525)), "every 3155760000 s"),
    (every(timedelta(days=30000, microseconds=1)), "every 2592000000.000001 s"),
    (crontab(), "* * * * *"),
    (crontab(0, 9, "mon-fri", tz=PARIS), "0 9 * * mon-fri (Europe/Paris)"),
    (crontab(0, 9, tz=UTC), "0 9 * * * (UTC)"),
    (crontab(0, 9, tz=timezone(timedelta(hours=-3))), "0 9 * * * (-03:00)"),
    (crontab.from_string("*/5 * * 1 * 1", None, True), "*/5 * * 1 * 1 (either day)"),
    (crontab.from_string("0 0 1 * 1", UTC, True), "0 0 1 * 1 (UTC, either day)"),
    (At(NOON), "once at 2026-11-20T12:00:00+00:00"),
    (At(NOON + MICROSECOND), "once at 2026-11-20T12:00:00.000001+00:00"),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "text"), SCHEDULES, ids=str)
def test_a_schedule_comes_back_from_its_stored_form(schedule, text):
    stored = json.loads(json.dumps(schedule.stored()))
    assert from_stored(stored) == schedule
    assert from_stored(stored).stored() == schedule.stored()


@pytest.mark.parametrize(("schedule", "text"), SCHEDULES, ids=str)
def test_a_schedule_has_a_text_and_a_code(schedule, text):
    assert str(schedule) == text
    assert eval(repr(schedule)) == schedule  # noqa: S307 - what it is for
    assert copy.deepcopy(schedule) == pickle.loads(pickle.dumps(schedule)) == schedule


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"every": 0},
        {"every": "30"},
        {"every": True},
        {"every": 30, "more": 1},
        {"every": math.nan},
        {"at": "noon"},
        {"at": 5},
        {"at": "0001-01-01T00:00:00+05:00"},
        {"cron": "* * * * *"},
        {"cron": "* * * * 9", "day_or": False, "zone": None},
        {"cron": 5, "day_or": False, "zone": None},
        {"cron": "* * * * *", "day_or": 1, "zone": None},
        {"cron": "* * * * *", "day_or": False, "zone": 5},
        {"cron": "* * * * *", "day_or": False, "zone": "Nowhere"},
        {"cron": "* * * * *", "day_or": False, "zone": None, "at": "now"},
    ],
    ids=str,
)
def test_what_is_no_stored_schedule_is_refused(data):
    with pytest.raises(ValueError, match=r"expected|isoformat"):
        from_stored(data)


@pytest.mark.parametrize(
    "interval",
    [0, -1, 0.0009, math.nan, math.inf, 10**400, 1e300, timedelta(0), timedelta(36526)],
    ids=str,
)
def test_an_interval_out_of_range_is_refused(interval):
    with pytest.raises(ValueError, match=r"expected an interval from 0\.001 s to"):
        every(interval)


@pytest.mark.parametrize("interval", [True, "30", None], ids=repr)
def test_an_interval_of_another_type_is_refused(interval):
    with pytest.raises(TypeError, match="expected an interval in seconds or a timed"):
        every(interval)


@settings(deadline=None, derandomize=True)
@given(
    interval=st.one_of(
        st.floats(0.001, 1e6), st.timedeltas(timedelta(milliseconds=1), timedelta(400))
    ),
    due=instants,
    later=st.timedeltas(timedelta(0), timedelta(4000)),
)
def test_an_interval_stays_on_its_grid(interval, due, later):
    schedule = every(interval)
    last = schedule.last_run(due, due + later)
    assert due <= last <= due + later < schedule.next_run(last)
    assert (last - due) % schedule.interval == timedelta(0)
    assert schedule.count_runs(due, last, 1) == (last - due) // schedule.interval + 1


LINES = ["* * * * *", "*/7 * * * * *", "30 2 * * *", "0 0 29 2 *", "* * * 3 * *",
         "15,45 1-3 * * sun", "0 0 29 2 mon"]  # fmt: skip


@settings(deadline=None, derandomize=True)
@given(
    line=st.sampled_from(LINES),
    zone=st.sampled_from(["UTC", "Europe/Paris", "Australia/Lord_Howe"]),
    due=instants,
    later=st.timedeltas(timedelta(0), timedelta(40_000)),
)
def test_the_last_run_is_followed_by_one_beyond_the_limit(line, zone, due, later):
    schedule, limit = crontab.from_string(line, zone), due + later
    last = schedule.last_run(due, limit)
    assert due <= last <= limit < schedule.next_run(last)
    if last > due:  # a run, not any instant
        assert schedule.next_run(last - MICROSECOND) == last


class Counted(Schedule):
    """Another schedule, and how often it was asked."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.zone = schedule.zone
        self.asked = 0

    def next_run(self, after):
        self.asked += 1
        return self.schedule.next_run(after)

    def stored(self):
        return self.schedule.stored()


@pytest.mark.parametrize("line", LINES)
def test_the_last_run_takes_few_steps(line):
    schedule = Counted(crontab.from_string(line))
    assert schedule.last_run(datetime(1970, 1, 1, tzinfo=UTC), NOON) <= NOON
    # Half as many where there are many, and so the last one is near.
    assert schedule.asked < (35 if schedule.next_run(NOON) - NOON < DAY else 70)


def test_runs_are_counted_no_further_than_asked():
    schedule = crontab()
    assert schedule.count_runs(NOON, NOON + timedelta(hours=1), 100) == 61
    assert schedule.count_runs(NOON, NOON + timedelta(hours=1), 10) == 10
    assert schedule.count_runs(NOON, NOON - MICROSECOND, 10) == 0
    assert At(NOON).count_runs(NOON, NOON + timedelta(hours=1), 10) == 1


def test_an_instant_is_due_once():
    schedule = At(NOON)
    assert schedule.next_run(NOON - MICROSECOND) == NOON
    assert schedule.next_run(NOON) is None
    assert schedule.last_run(NOON, NOON + DAY) == NOON
    assert schedule.last_run(NOON - DAY, NOON - MICROSECOND) < NOON


@pytest.mark.parametrize("schedule", [crontab(), every(1), At(NOON)], ids=str)
def test_an_instant_without_a_zone_is_refused(schedule):
    with pytest.raises(ValueError, match="expected a datetime with a time zone"):
        schedule.next_run(datetime(2026, 1, 1))


@pytest.mark.parametrize("schedule", [crontab(), every(60), crontab(0)], ids=str)
def test_nothing_is_due_after_the_end_of_the_calendar(schedule):
    assert schedule.next_run(datetime.max.replace(tzinfo=UTC)) is None


@settings(deadline=None, derandomize=True)
@given(instants)
def test_an_instant_comes_back_from_epoch_seconds(instant):
    text = epoch_text(instant)
    assert len(text.partition(".")[2]) == 6
    assert from_epoch(text) == from_epoch(float(text)) == instant


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), "0.000000"),
        (datetime(1969, 12, 31, 23, 59, 58, 500_000, UTC), "-1.500000"),
        (datetime(2026, 11, 20, 13, 0, 0, 1, PARIS), "1795176000.000001"),
    ],
    ids=str,
)
def test_epoch_seconds_have_six_decimals(instant, text):
    assert epoch_text(instant) == text
    assert from_epoch(text) == instant


def test_epoch_seconds_are_rounded_to_microseconds():
    assert from_epoch(1.0000016) == from_epoch("1.000002")


@pytest.mark.parametrize("seconds", ["", "noon", "nan", math.inf, 1e300], ids=repr)
def test_what_is_no_instant_is_refused(seconds):
    with pytest.raises(ValueError, match="expected seconds since 1970, got"):
        from_epoch(seconds)


def test_an_interval_is_rounded_to_microseconds():
    assert every(0.1) == Every(timedelta(microseconds=100_000))
    assert every(1 / 3) == Every(timedelta(microseconds=333_333))


def test_an_instant_of_another_fold_is_the_same_instant():
    start = datetime(2024, 1, 1, tzinfo=UTC)
    found = crontab().next_run(start.replace(fold=1))
    assert found == start + timedelta(minutes=1)
