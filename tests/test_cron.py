"""Cron's fields, the days they mean, and what another program makes of them."""

from __future__ import annotations

import enum
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_taskqueue.beat.cron import Cron, next_instant

START = datetime(2026, 1, 1)
YEAR = ("second", "minute", "hour", "day_of_month", "month_of_year", "day_of_week")
LEAST = dict(zip(YEAR, (0, 0, 0, "*", "*", "*"), strict=True))
MORE = {  # how long a field takes to go round, and how to read it from a wall time
    "second": (timedelta(minutes=1), lambda wall: wall.second),
    "minute": (timedelta(hours=1), lambda wall: wall.minute),
    "hour": (timedelta(days=1), lambda wall: wall.hour),
    "day_of_month": (timedelta(days=31), lambda wall: wall.day),
    "month_of_year": (timedelta(days=365), lambda wall: wall.month),
    "day_of_week": (timedelta(days=7), lambda wall: wall.isoweekday() % 7),
}


class Month(enum.IntEnum):
    MAY = 5


def cron(day_or=False, **fields):
    return Cron.read((LEAST | fields).values(), day_or)


def walls(made, start, end):
    """All matches of a stretch of time, the end not included."""
    found = []
    while (start := made.next_wall(start)) < end:
        found.append(start)
        start += timedelta(seconds=1)
    return found


def numbers(field, spec):
    """The numbers a field matches, from those times it is found to match."""
    span, read = MORE[field]
    return sorted(
        {read(wall) for wall in walls(cron(**{field: spec}), START, START + span)}
    )


@pytest.mark.parametrize(
    ("field", "spec", "expected"),
    [
        ("minute", 42, [42]),
        ("minute", "07", [7]),
        ("minute", "*/15", [0, 15, 30, 45]),
        ("minute", "*/1", list(range(60))),
        ("minute", "*/90", [0]),
        ("minute", "2-30/7", [2, 9, 16, 23, 30]),
        ("minute", "58-1", [0, 1, 58, 59]),
        ("minute", " 5, 10-12 ,*/30 ", [0, 5, 10, 11, 12, 30]),
        ("minute", [0, "30-32", 5], [0, 5, 30, 31, 32]),
        ("minute", {7, 9}, [7, 9]),
        ("minute", range(0, 60, 20), [0, 20, 40]),
        ("minute", (n for n in (3, 4)), [3, 4]),
        ("second", "*/20", [0, 20, 40]),
        ("hour", "22-4/2", [0, 2, 4, 22]),
        ("hour", "8-18", list(range(8, 19))),
        ("day_of_month", "*/10", [1, 11, 21, 31]),
        ("day_of_month", "30-2", [1, 2, 30, 31]),
        ("month_of_year", "jan,JUN-Aug", [1, 6, 7, 8]),
        ("month_of_year", "september", [9]),
        ("month_of_year", "nov-feb/3", [2, 11]),
        ("month_of_year", "*/5", [1, 6, 11]),
        ("month_of_year", Month.MAY, [5]),
        ("day_of_week", "mon-fri", [1, 2, 3, 4, 5]),
        ("day_of_week", "fri-mon", [0, 1, 5, 6]),
        ("day_of_week", "fri-mon/2", [0, 5]),
        ("day_of_week", "Sunday,TUESDAY", [0, 2]),
        ("day_of_week", 0, [0]),
        ("day_of_week", "7", [0]),
        ("day_of_week", "7-7", [0]),
        ("day_of_week", "5-7", [0, 5, 6]),
        ("day_of_week", "7-2", [0, 1, 2]),
        ("day_of_week", "0-7", list(range(7))),
        ("day_of_week", "*", list(range(7))),
        ("day_of_week", "*/2", [0, 2, 4, 6]),
        ("day_of_week", ["sat", 0], [0, 6]),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_means_what_celery_makes_of_it(field, spec, expected):
    assert numbers(field, spec) == expected


@pytest.mark.parametrize(
    ("field", "spec", "range_"),
    [
        ("minute", "60", "from 0 to 59"),
        ("minute", 60, "from 0 to 59"),
        ("minute", -1, "from 0 to 59"),
        ("minute", "*/0", "from 0 to 59"),
        ("minute", "5/15", "from 0 to 59"),
        ("minute", "*-5", "from 0 to 59"),
        ("minute", "", "from 0 to 59"),
        ("minute", "1,", "from 0 to 59"),
        ("minute", "1 2", "from 0 to 59"),
        ("minute", "1_0", "from 0 to 59"),
        ("minute", "٣", "from 0 to 59"),
        ("minute", "9" * 5000, "from 0 to 59"),
        ("minute", "mon", "from 0 to 59"),
        ("minute", "*/15x", "from 0 to 59"),
        ("minute", [], "from 0 to 59"),
        ("second", "1-60", "from 0 to 59"),
        ("hour", "24", "from 0 to 23"),
        ("day_of_month", "0", "from 1 to 31"),
        ("day_of_month", "L", "from 1 to 31"),
        ("month_of_year", "mon", "from 1 to 12 or names such as 'feb'"),
        ("month_of_year", 13, "from 1 to 12"),
        ("day_of_week", "8", "from 0 to 7 or names such as 'mon'"),
        ("day_of_week", "mo", "from 0 to 7"),
        ("day_of_week", "fri#2", "from 0 to 7"),
    ],
    ids=lambda value: str(value)[:12],
)  # fmt: skip
def test_a_bad_field_is_refused_by_name(field, spec, range_):
    with pytest.raises(ValueError, match=re.escape(range_)) as caught:
        cron(**{field: spec})
    assert f"expected cron field '{field}' to be numbers" in str(caught.value)
    assert ", got " in str(caught.value)


@pytest.mark.parametrize(
    "spec", [True, None, 1.5, b"5", {"5": 1}, [[True]], ["1", None]], ids=repr
)
def test_a_field_of_another_type_is_refused_by_name(spec):
    with pytest.raises(TypeError, match="expected cron field 'hour' to be numbers"):
        cron(hour=spec)


@pytest.mark.parametrize(
    ("day", "month"),
    [(30, 2), (31, "feb"), (31, "4,6,9,11"), ("30-31", 2)],
    ids=str,
)
def test_a_date_no_year_has_is_refused(day, month):
    with pytest.raises(ValueError, match="expected a date that exists, got day_of_mon"):
        cron(day_of_month=day, month_of_year=month)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"day_of_month": 29, "month_of_year": 2},
            ["2028-02-29", "2032-02-29", "2036-02-29"],
            id="leap-day",
        ),
        pytest.param(
            {"day_of_month": 29, "month_of_year": 2, "day_of_week": "mon"},
            ["2044-02-29", "2072-02-29", "2112-02-29"],
            id="leap-day-on-a-monday",
        ),
        pytest.param(
            {"day_of_month": 13, "day_of_week": "fri"},
            ["2026-02-13", "2026-03-13", "2026-11-13"],
            id="both-days",
        ),
        pytest.param(
            {"day_of_month": 13, "day_of_week": "fri", "day_or": True},
            ["2026-01-02", "2026-01-09", "2026-01-13"],
            id="either-day",
        ),
        pytest.param(
            {"day_of_month": "*/10", "day_of_week": "fri", "day_or": True},
            ["2026-05-01", "2026-07-31", "2026-08-21"],
            id="either-day-but-one-has-a-star",
        ),
        pytest.param(
            {"day_of_month": 31, "month_of_year": "feb-may"},
            ["2026-03-31", "2026-05-31", "2027-03-31"],
            id="months-without-the-day",
        ),
        pytest.param(
            {"day_of_month": 30, "month_of_year": 2, "day_of_week": 1, "day_or": True},
            ["2026-02-02", "2026-02-09", "2026-02-16"],
            id="either-day-and-one-never",
        ),
    ],
)
def test_days(fields, expected):
    made, start, found = cron(**fields), START, []
    for _ in expected:
        start = made.next_wall(start) + timedelta(days=1)
        found.append(f"{start - timedelta(days=1):%Y-%m-%d}")
    assert found == expected


def test_a_february_that_does_not_count_is_passed_in_a_leap_year():
    made = cron(month_of_year=3, day_of_month=1)
    assert made.next_wall(datetime(2028, 2, 29)) == datetime(2028, 3, 1)


@pytest.mark.parametrize("fields", [{}, {"month_of_year": 1}], ids=["days", "months"])
def test_it_ends_with_the_calendar(fields):
    made = cron(**fields)
    last = datetime(9999, 12, 31, 0, 0, 1)
    with pytest.raises(OverflowError):
        made.next_wall(last)
    assert next_instant(made, UTC, last.replace(tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("5 4 * * sun", {"minute": 5, "hour": 4, "day_of_week": "sun"}),
        ("*/10 5 4 3 2 1", {
            "second": "*/10", "minute": 5, "hour": 4, "day_of_month": 3,
            "month_of_year": 2, "day_of_week": 1,
        }),
        ("0 5 4 * * *", {"minute": 5, "hour": 4}),
        ("  @HOURLY ", {"minute": 0, "hour": "*"}),
        ("@daily", {}),
        ("@midnight", {}),
        ("@weekly", {"day_of_week": 0}),
        ("@monthly", {"day_of_month": 1}),
        ("@yearly", {"day_of_month": 1, "month_of_year": 1}),
        ("@annually", {"day_of_month": 1, "month_of_year": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_a_line_of_cron_means_its_fields(text, fields):
    assert Cron.parse(text) == cron(**fields)
    assert Cron.parse(Cron.parse(text).text) == Cron.parse(text)


@pytest.mark.parametrize("text", ["", "* * * *", "* * * * * * *", "@reboot"], ids=repr)
def test_a_line_with_another_number_of_fields_is_refused(text):
    with pytest.raises(ValueError, match=f"of five fields .*, got '{text}'"):
        Cron.parse(text)


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("30 2 * * *", True),
        ("0-59/15 2-4 * * *", True),
        ("*/10 30 2 * * *", True),
        ("*/30 2 * * *", False),
        ("30 * * * *", False),
        ("30 */2 * * *", False),
        ("5,*/30 2 * * *", True),  # as in cron, only its beginning counts
    ],
    ids=str,
)
def test_times_of_day_have_no_star_at_the_beginning(text, fixed):
    assert Cron.parse(text).fixed is fixed


def part(low, high, *names):
    """Texts of one part of a field."""
    number = st.integers(low, high)
    # Not 5-5: cronsim takes 5-5/2 for 5-59/2.
    pair = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
    step = st.integers(1, high + 5)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.sampled_from([*names, "*"]),
        pair.map("{0[0]}-{0[1]}".format),
        step.map("*/{}".format),
        st.tuples(pair, step).map("{0[0][0]}-{0[0][1]}/{0[1]}".format),
    )


def spec(*of):
    """Texts of a field: a part, or a list of up to three."""
    return st.lists(part(*of), min_size=1, max_size=3).map(",".join)


LINES = st.tuples(
    spec(0, 59), spec(0, 23), spec(1, 28), spec(1, 12, "jan", "Dec"), spec(0, 6, "sun")
).map(" ".join)
# Zones whose clocks change by an hour, in the daytime: with other ones, and from a
# start in the repeated hour, cronsim is known to err.
ZONES = [
    *("UTC", "Europe/Paris", "Europe/London", "America/New_York", "America/St_Johns"),
    *("Australia/Sydney", "Pacific/Auckland", "Asia/Kathmandu"),
]
# Days with and without a change of some of their clocks.
STARTS = [(2026, 3, 7), (2026, 3, 28), (2026, 4, 4), (2026, 10, 3), (2026, 10, 24),
          (2026, 10, 31), (2027, 12, 30), (2028, 2, 27)]  # fmt: skip


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    line=LINES,
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(STARTS),
    minutes=st.integers(0, 3 * 24 * 60),
)
def test_cronsim_finds_the_same(line, zone, day, minutes):
    tz = ZoneInfo(zone)
    start = (datetime(*day, tzinfo=UTC) + timedelta(minutes=minutes)).astimezone(tz)
    start = start.replace(fold=0)
    made, after, theirs = Cron.parse(line, day_or=True), start, CronSim(line, start)
    for _ in range(12):
        expected = next(theirs).astimezone(UTC)
        after = next_instant(made, tz, after)
        assert after == expected
