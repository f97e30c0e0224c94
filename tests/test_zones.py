"""Time zones by name, and what is due where their clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from flask_taskqueue.beat.cron import Cron, next_instant
from flask_taskqueue.beat.zones import change, read_zone, zone_name

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Named(tzinfo):
    """As pytz has them: with ``zone``."""

    zone = "Asia/Tokyo"


@pytest.mark.parametrize(
    ("value", "zone", "name"),
    [
        ("Europe/Paris", ZoneInfo("Europe/Paris"), "Europe/Paris"),
        ("UTC", UTC, "UTC"),
        ("utc", UTC, "UTC"),
        (ZoneInfo("UTC"), UTC, "UTC"),
        (timezone(timedelta()), UTC, "UTC"),
        ("+00:00", UTC, "UTC"),
        ("+02:00", timezone(2 * HOUR), "+02:00"),
        (timezone(-3.5 * HOUR, "NST"), timezone(-3.5 * HOUR), "-03:30"),
        (timezone(timedelta(seconds=61)), timezone(timedelta(seconds=61)), "+00:01:01"),
        (ZoneInfo.no_cache("Asia/Tokyo"), ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
        (Named(), ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
    ],
    ids=str,
)
def test_a_zone_is_known_by_its_name(value, zone, name):
    assert read_zone(value) == zone
    assert zone_name(read_zone(value)) == name
    assert read_zone(name) == zone


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("Europe/Pariss", r"'Europe/Pariss' \(did you mean 'Europe/Paris'\?\)"),
        ("europe/paris ", r"'europe/paris ' \(did you mean 'Europe/Paris'\?\)"),
        ("Europe", "'Europe'"),
        ("../../etc/passwd", "'../../etc/passwd'"),
        ("Nowhere\0", r"'Nowhere\\x00'"),
        ("", "''"),
        ("+25:00", r"'\+25:00'"),
    ],
    ids=repr,
)
def test_an_unknown_zone_is_refused_with_a_near_name(value, got):
    with pytest.raises(ValueError, match=f"expected a time zone .*, got {got}"):
        read_zone(value)


def test_a_zone_without_a_name_is_refused():
    with pytest.raises(ValueError, match="expected a time zone with a name"):
        read_zone(tzinfo())
    with pytest.raises(TypeError, match="expected the name of a time zone, got 2"):
        read_zone(2)


def runs(line, zone, start, end):
    """All due times of a stretch, in UTC."""
    made, found = Cron.parse(line), []
    while (start := next_instant(made, zone, start)) and start < end:
        found.append(start)
    return found


def on(line, zone, days):
    """Due times from the one day to the end of the other, with their offsets."""
    tz = ZoneInfo(zone)
    first, last = (datetime.fromisoformat(day).replace(tzinfo=tz) for day in days)
    found = runs(line, tz, first - timedelta(microseconds=1), last + DAY)
    return [f"{due.astimezone(tz):%d %H:%M%z}" for due in found]


@pytest.mark.parametrize(
    ("zone", "line", "days", "expected"),
    [
        pytest.param(
            "Asia/Shanghai", "0 0 * * *", ("2026-05-01", "2026-05-02"),
            ["01 00:00+0800", "02 00:00+0800"],
            id="Shanghai, midnight",
        ),
        pytest.param(
            "Europe/Paris", "30 2 * * *", ("2026-03-28", "2026-03-30"),
            ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"],
            id="Paris, fixed, gap",
        ),
        pytest.param(
            "Europe/Paris", "30 2 * * *", ("2026-10-24", "2026-10-26"),
            ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"],
            id="Paris, fixed, repeated",
        ),
        pytest.param(
            "Europe/Paris", "15,45 1-3 * * *", ("2026-03-29", "2026-03-29"),
            ["29 01:15+0100", "29 01:45+0100", "29 03:00+0200", "29 03:15+0200",
             "29 03:45+0200"],
            id="Paris, several in the gap are one",
        ),
        pytest.param(
            "Europe/Paris", "15,45 1-3 * * *", ("2026-10-25", "2026-10-25"),
            ["25 01:15+0200", "25 01:45+0200", "25 02:15+0200", "25 02:45+0200",
             "25 03:15+0100", "25 03:45+0100"],
            id="Paris, several in the repeated hour",
        ),
        pytest.param(
            "Europe/Paris", "*/30 2 * * *", ("2026-03-29", "2026-03-30"),
            ["30 02:00+0200", "30 02:30+0200"],
            id="Paris, real time, gap",
        ),
        pytest.param(
            "Europe/Paris", "*/30 2 * * *", ("2026-10-25", "2026-10-25"),
            ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100"],
            id="Paris, real time, repeated",
        ),
        pytest.param(
            "Europe/Paris", "0 30 2 * * *", ("2026-10-25", "2026-10-25"),
            ["25 02:30+0200"],
            id="Paris, six fields, fixed",
        ),
        pytest.param(
            "Europe/Paris", "0 */30 2 * * *", ("2026-10-25", "2026-10-25"),
            ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100"],
            id="Paris, six fields, real time",
        ),
        pytest.param(
            "America/New_York", "*/30 1-3 * * *", ("2026-03-08", "2026-03-08"),
            ["08 01:00-0500", "08 01:30-0500", "08 03:00-0400", "08 03:30-0400"],
            id="New York, real time, gap",
        ),
        pytest.param(
            "America/New_York", "*/30 0-2 * * *", ("2026-11-01", "2026-11-01"),
            ["01 00:00-0400", "01 00:30-0400", "01 01:00-0400", "01 01:30-0400",
             "01 01:00-0500", "01 01:30-0500", "01 02:00-0500", "01 02:30-0500"],
            id="New York, real time, repeated",
        ),
        pytest.param(
            "Australia/Lord_Howe", "15 2 * * *", ("2026-10-03", "2026-10-05"),
            ["03 02:15+1030", "04 02:30+1100", "05 02:15+1100"],
            id="Lord Howe, fixed, gap of 30 minutes",
        ),
        pytest.param(
            "Australia/Lord_Howe", "45 1 * * *", ("2026-04-04", "2026-04-06"),
            ["04 01:45+1100", "05 01:45+1100", "06 01:45+1030"],
            id="Lord Howe, fixed, repeated 30 minutes",
        ),
        pytest.param(
            "Australia/Lord_Howe", "*/15 1-3 * * *", ("2026-04-05", "2026-04-05"),
            ["05 01:00+1100", "05 01:15+1100", "05 01:30+1100", "05 01:45+1100",
             "05 01:30+1030", "05 01:45+1030", "05 02:00+1030", "05 02:15+1030",
             "05 02:30+1030", "05 02:45+1030", "05 03:00+1030", "05 03:15+1030",
             "05 03:30+1030", "05 03:45+1030"],
            id="Lord Howe, real time, repeated",
        ),
        pytest.param(
            "Australia/Lord_Howe", "*/15 2 * * *", ("2026-10-04", "2026-10-04"),
            ["04 02:30+1100", "04 02:45+1100"],
            id="Lord Howe, real time, gap",
        ),
        pytest.param(  # 23:00 on Saturday is followed by 0:00 on Sunday
            "America/Nuuk", "30 23 * * *", ("2026-03-27", "2026-03-29"),
            ["27 23:30-0200", "29 00:00-0100", "29 23:30-0100"],
            id="Nuuk, the gap ends with the day",
        ),
        pytest.param(
            "America/Nuuk", "0 0 * * *", ("2026-03-28", "2026-03-30"),
            ["28 00:00-0200", "29 00:00-0100", "30 00:00-0100"],
            id="Nuuk, right after the gap",
        ),
        pytest.param(
            "America/Nuuk", "0,30 0,23 * * *", ("2026-03-28", "2026-03-29"),
            ["28 00:00-0200", "28 00:30-0200", "29 00:00-0100", "29 00:30-0100",
             "29 23:00-0100", "29 23:30-0100"],
            id="Nuuk, in the gap and right after it",
        ),
        pytest.param(
            "Africa/Cairo", "0 0 * * *", ("2026-04-23", "2026-04-25"),
            ["23 00:00+0200", "24 01:00+0300", "25 00:00+0300"],
            id="Cairo, the gap begins the day",
        ),
        pytest.param(  # the last hour of the 29th comes twice
            "Africa/Cairo", "30 23 * * *", ("2026-10-28", "2026-10-30"),
            ["28 23:30+0300", "29 23:30+0300", "30 23:30+0200"],
            id="Cairo, repeated before midnight",
        ),
        pytest.param(
            "Asia/Beirut", "15 0 * * *", ("2026-03-28", "2026-03-30"),
            ["28 00:15+0200", "29 01:00+0300", "30 00:15+0300"],
            id="Beirut, the gap begins the day",
        ),
        pytest.param(
            "America/Havana", "0 0 * * *", ("2026-03-07", "2026-03-09"),
            ["07 00:00-0500", "08 01:00-0400", "09 00:00-0400"],
            id="Havana, the gap begins the day",
        ),
        pytest.param(
            "America/Havana", "0 0 * * sun", ("2026-10-31", "2026-11-02"),
            ["01 00:00-0400"],
            id="Havana, midnight comes twice",
        ),
        pytest.param(  # no daylight saving time: its standard time changed
            "Asia/Almaty", "30 23 * * *", ("2024-02-28", "2024-03-01"),
            ["28 23:30+0600", "29 23:30+0600", "01 23:30+0500"],
            id="Almaty, fixed, a new standard time",
        ),
        pytest.param(
            "Asia/Almaty", "30 */23 * * *", ("2024-02-29", "2024-03-01"),
            ["29 00:30+0600", "29 23:30+0600", "29 23:30+0500", "01 00:30+0500",
             "01 23:30+0500"],
            id="Almaty, real time, a new standard time",
        ),
        pytest.param(  # the 30th was left out altogether
            "Pacific/Apia", "0 9 * * *", ("2011-12-29", "2011-12-31"),
            ["29 09:00-1000", "31 00:00+1400", "31 09:00+1400"],
            id="Apia, a day is skipped",
        ),
    ],
)  # fmt: skip
def test_where_the_clock_is_changed(zone, line, days, expected):
    assert on(line, zone, days) == expected


def test_the_change_of_a_clock_is_found_to_the_second():
    wall = datetime(2026, 3, 29, 2, 59, 59)
    instant = datetime(2026, 3, 29, 1, tzinfo=UTC)
    expected = (instant, datetime(2026, 3, 29, 2), datetime(2026, 3, 29, 3))
    assert change(ZoneInfo("Europe/Paris"), wall) == expected
