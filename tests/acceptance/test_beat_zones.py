"""A real beat over the changes of clocks of 2026, zone by zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..servers import Server
from .clocked import Clocked, clocked

QUARTER = timedelta(minutes=15)

WINDOWS = [
    ("03-08 06:15", "03-08 08:15"),  # New York, forward at 07:00
    ("03-28 01:15", "03-28 01:45"),
    ("03-28 15:45", "03-28 16:15"),
    ("03-29 00:15", "03-29 02:15"),  # Paris and Nuuk, forward at 01:00
    ("03-30 00:15", "03-30 01:15"),
    ("04-04 14:15", "04-04 16:15"),  # Lord Howe, half an hour back at 15:00
    ("10-03 14:45", "10-03 16:15"),  # Lord Howe, half an hour forward at 15:30
    ("10-24 00:15", "10-24 01:15"),
    ("10-25 00:15", "10-25 02:15"),  # Paris and Nuuk, back at 01:00
    ("10-26 00:15", "10-26 02:15"),
    ("11-01 04:45", "11-01 07:15"),  # New York, back at 06:00
]
"""Times in UTC within which the clock goes on by quarters of an hour."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


def quarters() -> Iterator[datetime]:
    """All times at which the beat looks."""
    for first, last in WINDOWS:
        instant = utc(first)
        while instant <= utc(last):
            yield instant
            instant += QUARTER


HALF_HOURS = [f"{q:%m-%d %H:%M}" for q in quarters() if q.minute % 30 == 0]

ENTRIES = {
    "paris": (
        "30 2 * * *",
        "Europe/Paris",
        # In the gap: right after it. Twice in October: the first.
        ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
        + ["10-24 00:30", "10-25 00:30", "10-26 01:30"],
    ),
    "new_york": ("*/30 * * * *", "America/New_York", HALF_HOURS),
    "lord_howe_at_a_quarter_past_two": (
        "15 2 * * *",
        "Australia/Lord_Howe",
        ["04-04 15:45", "10-03 15:30"],
    ),
    "lord_howe_at_a_quarter_to_two": (
        "45 1 * * *",
        "Australia/Lord_Howe",
        ["04-04 14:45", "10-03 15:15"],
    ),
    "nuuk_before_midnight": (
        "30 23 * * *",
        "America/Nuuk",
        ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
        + ["10-24 00:30", "10-25 00:30", "10-26 01:30"],
    ),
    "nuuk_at_midnight": (
        "0 0 * * *",
        "America/Nuuk",
        # Its clock goes from 23:00 to 0:00, and in October from 0:00 to 23:00.
        ["03-29 01:00", "03-30 01:00", "10-24 01:00", "10-25 02:00", "10-26 02:00"],
    ),
    "shanghai": (
        "0 0 * * *",
        "Asia/Shanghai",
        ["03-28 16:00", "04-04 16:00", "10-03 16:00"],
    ),
}
"""Schedule, zone, and when it fires within the windows, in UTC."""


def test_each_zone_fires_at_its_times(clock_server: Server, tmp_path: Path):
    entries = {
        # What is due between the windows is given up.
        name: {"schedule": schedule, "tz": zone, "misfire": "skip"}
        for name, (schedule, zone, _) in ENTRIES.items()
    }
    with clocked(clock_server, tmp_path, utc(WINDOWS[0][0]), entries) as clock:
        beat = clock.beat()
        for quarter in quarters():
            clock.set(quarter + timedelta(seconds=0.2))
        fired = {name: fired_by(clock, name) for name in ENTRIES}
        assert fired == {name: times for name, (_, _, times) in ENTRIES.items()}
        assert beat.stop() == 0


def fired_by(clock: Clocked, name: str) -> list[str]:
    return [f"{due:%m-%d %H:%M}" for due in clock.dues(name)]
