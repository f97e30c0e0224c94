"""What is due around every change of every zone's clock, from 2020 to 2035.

Held against a clock made of nothing but the offsets of many instants: what it shows
is looked at minute for minute.
"""

from __future__ import annotations

import random
import typing as t
import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from flask_taskqueue.beat.cron import Cron, next_instant

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FROM, TO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)


def runs(line, zone, start, end):
    """All due times of a stretch, in UTC; each later than the one before."""
    made, found = Cron.parse(line), []
    while (due := next_instant(made, zone, start)) and due < end:
        assert due > start
        found.append(due)
        start = due
    return found


class Clock(t.NamedTuple):
    """One zone's offsets, found by asking for many instants.

    :param pieces: Instants from which on an offset holds.
    """

    zone: ZoneInfo
    pieces: tuple[tuple[datetime, timedelta], ...]

    @property
    def changes(self):
        """Instants of changes, and the offsets before and after."""
        both = zip(self.pieces, self.pieces[1:], strict=False)
        return [(at, old, new) for (_, old), (at, new) in both]

    def near(self, instant, within):
        """Starts, ends and offsets of the pieces around an instant."""
        starts = [at for at, _ in self.pieces]
        ends = [*starts[1:], TO + 400 * DAY]
        return [
            (max(start, instant - within), min(end, instant + within), offset)
            for (start, offset), end in zip(self.pieces, ends, strict=True)
            if start < instant + within and end > instant - within
        ]


def offset_at(zone, instant):
    return instant.astimezone(zone).utcoffset()


def bisect(zone, low, high):
    """The minute between two instants at which the offset changes."""
    old = offset_at(zone, low)
    while high - low > MINUTE:
        middle = low + (high - low) // MINUTE // 2 * MINUTE
        low, high = (middle, high) if offset_at(zone, middle) == old else (low, middle)
    return high


def clock_of(name):
    zone, at = ZoneInfo(name), FROM
    pieces = [(at, offset_at(zone, at))]
    while at < TO:
        following = at + 3 * DAY
        if offset_at(zone, following) != pieces[-1][1]:
            changed = bisect(zone, at, following)
            pieces.append((changed, offset_at(zone, changed)))
        at = following
    return Clock(zone, tuple(pieces))


@cache
def clocks():
    """Every zone there is, once where several have the same changes."""
    every = map(clock_of, sorted(zoneinfo.available_timezones()))
    return list({clock.pieces: clock for clock in every}.values())


def first_shown(pieces, wall):
    """The first instant at which a clock shows a time, or a later one."""
    wall = wall.replace(tzinfo=UTC)
    for start, end, offset in pieces:
        reached = max(start, wall - offset)
        if reached < end:
            return reached
    raise AssertionError(f"{wall} is not near")


def test_all_changes_of_all_zones_are_looked_at():
    assert len(clocks()) > 50
    assert sum(len(clock.changes) for clock in clocks()) > 800
    shifts = {abs(new - old) for clock in clocks() for _, old, new in clock.changes}
    assert {HOUR / 2, HOUR, 2 * HOUR} < shifts


def daily_times(at, old, new, draw):
    """Times of day before, in, at the ends of, and after a change."""
    around = [(at + offset + n * MINUTE) for offset in (old, new) for n in (-1, 0, 1)]
    between = at + (old + new) / 2
    drawn = at + old + timedelta(minutes=draw.randrange(-300, 300))
    midnight = datetime(2020, 1, 1)
    return sorted({(w.hour, w.minute) for w in (*around, between, drawn, midnight)})


def test_a_time_of_day_is_due_once_a_day_in_every_zone():
    draw = random.Random(4)
    for clock in clocks():
        for at, old, new in clock.changes:
            pieces = clock.near(at, 4 * DAY)
            today = (at + old).replace(hour=0, minute=0, tzinfo=None)
            for hour, minute in daily_times(at, old, new, draw):
                time = timedelta(hours=hour, minutes=minute)
                days = [today + n * DAY + time for n in range(-1, 3)]
                expected = [first_shown(pieces, wall) for wall in days]
                start, end = expected[0] - MINUTE, expected[-1] + MINUTE
                found = runs(f"{minute} {hour} * * *", clock.zone, start, end)
                assert found == expected, (clock.zone, at, hour, minute)
                assert len(set(found)) == len(days)


def scan(pieces, step):
    """Instants of some stretches, and what the clock shows at them."""
    return [
        (start + n * step, start + n * step + offset)
        for start, end, offset in pieces
        for n in range((end - start) // step)
    ]


def real_lines(at, old, new):
    """Lines that follow real time, around the hours of a change."""
    hours = sorted({(at + old - MINUTE).hour, (at + new).hour, (at + old).hour})
    some = ",".join(map(str, hours))
    return {
        "*/20 * * * *": lambda w: w.minute % 20 == 0,
        f"*/15 {some} * * *": lambda w: w.minute % 15 == 0 and w.hour in hours,
        "0,45 */2 * * *": lambda w: w.minute in (0, 45) and w.hour % 2 == 0,
    }


def test_real_time_is_followed_in_every_zone():
    for clock in clocks():
        for at, old, new in clock.changes:
            pieces = clock.near(at, 4 * HOUR)
            shown = scan(pieces, MINUTE)
            for line, matches in real_lines(at, old, new).items():
                expected = [instant for instant, wall in shown if matches(wall)]
                start, end = shown[0][0] - MINUTE, shown[-1][0] + MINUTE
                found = runs(line, clock.zone, start, end)
                assert found == expected, (clock.zone, at, line)


def matching_six_fields(line):
    """The same by hand, of three lines with seconds."""
    return {
        "*/20 * * * * *": lambda w: w.second % 20 == 0,
        "7 */10 * * * *": lambda w: w.second == 7 and w.minute % 10 == 0,
        "7 5-45 0-3 * * *": lambda w: (
            w.second == 7 and 5 <= w.minute <= 45 and w.hour <= 3
        ),
    }[line]


@pytest.mark.parametrize(
    "line", ["*/20 * * * * *", "7 */10 * * * *", "7 5-45 0-3 * * *"]
)
@pytest.mark.parametrize(
    "zone", ["Europe/Paris", "Australia/Lord_Howe", "America/Nuuk", "Antarctica/Troll"]
)
def test_the_first_later_time_is_found_from_any_instant(zone, line):
    clock, matches, draw = (
        clock_of(zone),
        matching_six_fields(line),
        random.Random(zone),
    )
    for at, old, new in clock.changes[:2] + clock.changes[-2:]:
        pieces = clock.near(at, 4 * HOUR)
        if Cron.parse(line).fixed:
            start = (at + min(old, new) - 3 * HOUR).replace(tzinfo=None)
            walls = [start + n * SECOND for n in range(6 * 3600)]
            due = {first_shown(pieces, wall) for wall in walls if matches(wall)}
        else:
            due = {instant for instant, wall in scan(pieces, SECOND) if matches(wall)}
        for _ in range(50):
            start = at + draw.uniform(-2, 2) * HOUR
            found = next_instant(Cron.parse(line), clock.zone, start)
            later = [one for one in due if one > start]
            assert found == min(later) if later else found > at + 2 * HOUR
