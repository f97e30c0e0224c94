"""The clock of the server is set while a beat runs, or while none does.

What is due at a fixed time fires once for it, whatever the clock does.
"""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ..servers import Server, eventually
from .clocked import ADD, APP, Clocked, clocked

DAY = datetime(2026, 1, 12, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

TAKES_OVER = 5.0
"""Seconds within which a dead leader is promised to be replaced."""

POLICIES = ("once", "skip", "all")

Begin = t.Callable[..., t.ContextManager[Clocked]]


@pytest.fixture
def begin(clock_server: Server, tmp_path: Path) -> Begin:
    """Makes a :class:`Clocked`, of an instant and schedules by name."""

    def make(at: datetime, **schedules: object) -> t.ContextManager[Clocked]:
        entries = {
            name: parts if isinstance(parts, dict) else {"schedule": parts}
            for name, parts in schedules.items()
        }
        return clocked(clock_server, tmp_path, at, entries)

    return make


def at(clock: str, day: datetime = DAY) -> datetime:
    """An instant of a day: ``10:00``, ``10:00:00.5``."""
    given = datetime.fromisoformat(f"{day:%Y-%m-%d}T{clock}")
    return given.replace(tzinfo=UTC)


def minutes(first: str, last: str) -> list[datetime]:
    """All full minutes from one to another, both included."""
    count = (at(last) - at(first)) // MINUTE
    return [at(first) + n * MINUTE for n in range(count + 1)]


def for_each_policy(name: str, schedule: str) -> dict[str, dict[str, t.Any]]:
    """Entries ``name_once``, ``name_skip`` and ``name_all``."""
    return {f"{name}_{p}": {"schedule": schedule, "misfire": p} for p in POLICIES}


def assert_dues(clock: Clocked, name: str, *expected: list[datetime]) -> None:
    """What each policy's entry of a name fired for; one list stands for all."""
    lists = expected * len(POLICIES) if len(expected) == 1 else expected
    for policy, dues in zip(POLICIES, lists, strict=True):
        assert clock.dues(f"{name}_{policy}") == dues, f"{name}_{policy}"


FIXED = for_each_policy("daily", "0 10 * * *") | for_each_policy(
    "minutely", "* * * * *"
)


def test_a_clock_set_back_repeats_no_fixed_time(begin: Begin):
    with begin(at("09:59:30"), **FIXED) as clock:
        beat = clock.beat()
        clock.set(at("10:00:00.2"))
        for instant in ("09:00:00.2", "09:30:30", "09:59:59", "10:00:00.3", "10:00:50"):
            clock.set(at(instant))
            assert_dues(clock, "daily", [at("10:00")])
            assert_dues(clock, "minutely", [at("10:00")])
        clock.set(at("10:01:00.2"))
        assert_dues(clock, "minutely", [at("10:00"), at("10:01")])
        clock.set(at("10:00:00.2", NEXT_DAY))
        assert_dues(clock, "daily", [at("10:00"), at("10:00", NEXT_DAY)])
        assert "set back" not in beat.output


def test_a_clock_set_forward_drops_no_fixed_time_beyond_the_policy(begin: Begin):
    with begin(at("09:30:30"), **FIXED) as clock:
        beat = clock.beat()
        clock.set(at("10:30:30"))
        daily = [at("10:00")], [], [at("10:00")]
        assert_dues(clock, "daily", *daily)
        # 10:30 was missed by less than the grace of a minute.
        minutely = (
            [at("10:29"), at("10:30")],
            [at("10:30")],
            minutes("09:31", "10:30"),
        )
        assert_dues(clock, "minutely", *minutely)
        beat.await_line("daily_skip missed 1 due times")
        beat.await_line("minutely_once missed 58 due times")
        # And back: what was fired, or given up, in that hour is not due again.
        for instant in ("09:30:31", "10:00:00.2", "10:30:30"):
            clock.set(at(instant))
            assert_dues(clock, "daily", *daily)
            assert_dues(clock, "minutely", *minutely)
        clock.set(at("10:31:00.2"))
        assert_dues(clock, "daily", *daily)
        more = [at("10:31")]
        assert_dues(clock, "minutely", *(dues + more for dues in minutely))
        clock.set(at("10:00:00.2", NEXT_DAY))
        more = [at("10:00", NEXT_DAY)]
        assert_dues(clock, "daily", *(dues + more for dues in daily))


def test_a_clock_set_forward_by_a_day_while_no_beat_runs(begin: Begin):
    entries = for_each_policy("daily", "0 10 * * *")
    entries |= for_each_policy("hourly", "0 * * * *")
    with begin(at("09:30:30"), **entries) as clock:
        assert clock.beat().stop() == 0
        clock.set_unseen(at("09:45", NEXT_DAY))
        beat = clock.beat()
        daily = [at("10:00")], [], [at("10:00")]
        hourly = [at("10:00") + n * HOUR for n in range(24)]
        assert_dues(clock, "daily", *daily)
        assert_dues(clock, "hourly", hourly[-1:], [], hourly)
        beat.await_line("hourly_once missed 23 due times")
        clock.set(at("10:00:00.2", NEXT_DAY))
        more = [at("10:00", NEXT_DAY)]
        assert_dues(clock, "daily", *(dues + more for dues in daily))
        assert_dues(clock, "hourly", hourly[-1:] + more, more, hourly + more)
        assert beat.stop() == 0


def test_an_interval_keeps_its_grid_when_the_clock_is_set_forward(begin: Begin):
    entries = {
        f"tens_{policy}": {"schedule": 600, "misfire": policy} for policy in POLICIES
    }
    with begin(at("09:30"), **entries) as clock:
        clock.beat()
        grids = {}
        for policy in POLICIES:
            first = clock.next(f"tens_{policy}")
            assert first is not None
            grids[policy] = [first + n * 10 * MINUTE for n in range(8)]
        # In the middle between two points of the grids, which are close together.
        clock.set(at("10:35"))
        kept = {"once": [5], "skip": [], "all": range(6)}
        fired = {p: [grids[p][number] for number in kept[p]] for p in POLICIES}
        assert {p: clock.dues(f"tens_{p}") for p in POLICIES} == fired
        clock.set(max(grid[6] for grid in grids.values()) + timedelta(seconds=0.2))
        fired = {p: [*fired[p], grids[p][6]] for p in POLICIES}
        assert {p: clock.dues(f"tens_{p}") for p in POLICIES} == fired


def assert_goes_on(clock: Clocked, seconds: float = TAKES_OVER) -> None:
    """An interval of a second is due each second from about now on."""
    now, dues = clock.now(), clock.await_more("second", 3, seconds + 3)[-3:]
    assert dues[1] - dues[0] == dues[2] - dues[1] == timedelta(seconds=1)
    assert abs(dues[0] - now) < timedelta(seconds=seconds)


@pytest.mark.parametrize("running", [True, False], ids=["beat runs", "none runs"])
def test_an_interval_goes_on_when_the_clock_is_set_back(begin: Begin, running: bool):
    with begin(at("09:30"), second=1, hour=3600, cron="* * * * *") as clock:
        beat = clock.beat()
        clock.set(at("10:30:30"))
        (due,) = clock.dues("hour")
        if running:
            clock.set_unseen(at("09:30:30"))
        else:
            assert beat.stop() == 0
            clock.set_unseen(at("09:30:30"))
            beat = clock.folder.beat()
        assert_goes_on(clock)
        beat.await_line("was set back")
        # An hour from when that was noticed, and not the two of the old grid.
        following = clock.next("hour")
        assert following is not None
        assert at("10:30:30") <= following < at("10:30:40")
        cron = clock.dues("cron")
        clock.set(following + timedelta(seconds=0.2))
        assert clock.dues("hour") == [due, following]
        assert clock.dues("cron") == cron
        assert beat.stop() == 0


def test_a_clock_corrected_by_days_lets_all_go_on_at_once(begin: Begin):
    wrong = DAY + timedelta(days=400)
    with begin(at("09:59:30"), daily="0 10 * * *", second=1) as clock:
        beat = clock.beat()
        clock.set(at("10:00:00.2"))
        clock.set(wrong)
        clock.set(at("10:05"))
        # The latest that was missed by then.
        assert clock.dues("daily") == [at("10:00"), at("10:00", wrong - HOUR)]
        assert_goes_on(clock)
        beat.await_line("was set back")
        clock.set(at("10:00:00.2", NEXT_DAY))
        assert clock.dues("daily")[2:] == [at("10:00", NEXT_DAY)]


def test_a_clock_set_forward_and_back_by_days_repeats_no_fixed_time(begin: Begin):
    day_after = DAY + timedelta(days=2)
    with begin(at("09:30"), daily="0 10 * * *") as clock:
        clock.beat()
        clock.set(at("09:30", day_after))
        assert clock.dues("daily") == [at("10:00", NEXT_DAY)]
        clock.set(at("09:30"))
        clock.set(at("10:00:00.2"))
        expected = [at("10:00", NEXT_DAY), at("10:00")]
        assert clock.dues("daily") == expected
        clock.set(at("10:00:00.2", NEXT_DAY))
        assert clock.dues("daily") == expected
        clock.set(at("10:00:00.2", day_after))
        assert clock.dues("daily") == [*expected, at("10:00", day_after)]


def test_a_dead_leader_is_replaced_soon_though_the_clock_is_set_back(begin: Begin):
    with begin(at("09:30"), second=1) as clock:
        beats = [clock.folder.beat() for _ in range(2)]
        clock.await_more("second", 2, 10)
        leader = clock.client.get(f"tq:lead:{APP}").decode()
        for beat in beats:
            if beat.output.split()[0] == leader:
                beat.kill()
        clock.set_unseen(at("08:30"))
        eventually(
            lambda: clock.client.get(f"tq:lead:{APP}") not in (leader.encode(), None),
            TAKES_OVER,
            "another beat leads",
        )
        assert_goes_on(clock, seconds=10)


def test_a_one_off_a_year_ahead_fires_once(begin: Begin):
    in_a_year = at("10:00").replace(year=2027)
    with begin(at("09:30"), minutely="* * * * *") as clock:
        with clock.app.app_context():
            clock.tq.task(name="jobs.add")(lambda x, y: x + y)
            clock.tq.schedules.add("far", "jobs.add", in_a_year, ADD["args"])
        clock.beat()
        for instant in (at("10:00:00.2"), in_a_year - MINUTE):
            clock.set(instant)
            assert clock.dues("far") == []
        clock.set(in_a_year + timedelta(seconds=0.2))
        assert clock.dues("far") == [in_a_year]
        assert clock.next("far") is None
        for back in (timedelta(seconds=30), HOUR, timedelta(days=365)):
            clock.set(in_a_year - back)
            clock.set(in_a_year + MINUTE)
            assert clock.dues("far") == [in_a_year]


def test_a_server_restarted_with_its_clock_set_back(begin: Begin):
    with begin(at("09:30"), second=1, daily="0 9 * * *") as clock:
        beat = clock.beat()
        clock.await_more("second", 2, 10)
        clock.server.stop()
        clock.set_unseen(at("08:30"))
        clock.server.start()
        beat.await_line("was set back")
        assert_goes_on(clock, seconds=10)
        clock.set(at("09:00:00.2"))
        # It was first due on the next day: a beat saw it after that time.
        assert clock.dues("daily") == []
