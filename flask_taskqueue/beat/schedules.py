"""Schedules: rules that say when something is due. Pure: they read no clock."""

from __future__ import annotations

import typing as t
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from .cron import Cron, Spec, next_instant
from .zones import read_zone, zone_name

SHORTEST: timedelta = timedelta(milliseconds=1)
"""The shortest interval."""
LONGEST: timedelta = timedelta(days=36_525)
"""The longest interval: 100 years."""


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"expected a datetime with a time zone, got {instant!r}")
    # Its fold says nothing in UTC, yet instants of another fold are not equal.
    return instant.astimezone(UTC).replace(fold=0)


class Schedule(ABC):
    """A rule of times. Hashable; equal when written in the same way."""

    __slots__ = ()

    zone: tzinfo | None = None
    """The zone it counts in; ``None`` where none was named: then it is UTC."""

    @abstractmethod
    def next_run(self, after: datetime) -> datetime | None:
        """The first due time later than an instant.

        :param after: An instant with a zone.
        :return: In UTC; ``None`` when it is never due again.
        :raises ValueError: The instant has no zone.
        """

    @abstractmethod
    def stored(self) -> dict[str, t.Any]:
        """JSON values from which :func:`from_stored` makes it again."""

    def within(self, zone: tzinfo) -> Schedule:
        """The same in a zone, where it names none of its own."""
        return self

    def last_run(self, due: datetime, limit: datetime) -> datetime:
        """The last of a due time and those that follow it, up to a limit.

        Takes a few dozen steps, however long ago the due time is.

        :param due: Not later than the limit.
        :param limit: The latest instant that counts.
        :return: In UTC.
        """
        found, limit = _aware(due), _aware(limit)
        # From the limit backwards in growing spans: the last one is mostly near it.
        span = timedelta(seconds=1)
        while span < limit - found:
            near = self.next_run(limit - span)
            if near is not None and near <= limit:
                found = near
                break
            span *= 2
        # All that is left lies between the one found and the end: halve that.
        end = limit
        while (following := self.next_run(found)) is not None and following <= limit:
            found = following
            middle = found + (end - found) / 2
            later = self.next_run(middle)
            if later is not None and later <= limit:
                found = later
            else:
                end = middle
        return found

    def count_runs(self, due: datetime, limit: datetime, most: int) -> int:
        """How many due times there are from one to a limit, both included.

        :param most: Where counting may stop.
        """
        count, found = 0, due
        while count < most and found <= limit:
            count += 1
            following = self.next_run(found)
            if following is None:
                break
            found = following
        return count


@dataclass(frozen=True, slots=True, repr=False)
class Every(Schedule):
    """Due again and again after the same time, whatever a clock on a wall does.

    :param interval: From 1 ms to 100 years.
    """

    interval: timedelta

    def next_run(self, after: datetime) -> datetime | None:
        """One interval later."""
        try:
            return _aware(after) + self.interval
        except OverflowError:
            return None

    def last_run(self, due: datetime, limit: datetime) -> datetime:
        """The last point of the due time's grid up to the limit."""
        due = _aware(due)
        return due + (_aware(limit) - due) // self.interval * self.interval

    def count_runs(self, due: datetime, limit: datetime, most: int) -> int:
        """How many there are. Not limited: they are computed, not counted."""
        return (limit - due) // self.interval + 1 if due <= limit else 0

    def stored(self) -> dict[str, t.Any]:
        """``{"every": seconds}``."""
        return {"every": self.interval.total_seconds()}

    def __str__(self) -> str:
        seconds = self.interval.total_seconds()
        return f"every {int(seconds) if seconds.is_integer() else seconds} s"

    def __repr__(self) -> str:
        return f"every({self.interval.total_seconds()!r})"


def every(interval: float | timedelta) -> Every:
    """The schedule of a fixed interval.

    :param interval: Seconds, or a ``timedelta``; rounded to microseconds.
    :raises TypeError: It is neither.
    :raises ValueError: It is shorter than 1 ms, longer than 100 years, or not finite.
    """
    if isinstance(interval, bool) or not isinstance(interval, int | float | timedelta):
        raise TypeError(
            f"expected an interval in seconds or a timedelta, got {interval!r}"
        )
    try:
        exact = interval
        if not isinstance(exact, timedelta):
            exact = timedelta(seconds=exact)
        if SHORTEST <= exact <= LONGEST:
            return Every(exact)
    except (ValueError, OverflowError):  # not a number; beyond a timedelta
        pass
    raise ValueError(
        f"expected an interval from 0.001 s to 36525 days, got {interval!r}"
    )


@dataclass(frozen=True, slots=True, init=False, repr=False)
class crontab(Schedule):
    """Due at the times of day, days and months that Celery's fields name.

    Each field is a number, a text (``*``, ``*/15``, ``mon-fri``, ``2-30/2``, or several
    with commas between them) or an iterable of numbers and texts. Sunday is 0 or 7. A
    day must match both ``day_of_week`` and ``day_of_month``.

    Where the zone's clock changes, the rules are those of Debian's cron. A time of day
    is due once on each day: right after a gap that skips it, and at the first of two
    occurrences. A schedule whose ``minute`` or ``hour`` begins with ``*`` follows real
    time: it is not due in a gap, and due in both passes of a repeated hour.

    :param tz: Its time zone; by default the entry's.
    :raises TypeError: A field is no number, text or iterable of those.
    :raises ValueError: A field cannot be read, no month has such a day, or the zone
        is not known.
    """

    cron: Cron
    zone: tzinfo | None

    def __init__(
        self,
        minute: Spec = "*",
        hour: Spec = "*",
        day_of_week: Spec = "*",
        day_of_month: Spec = "*",
        month_of_year: Spec = "*",
        *,
        tz: str | tzinfo | None = None,
    ) -> None:
        specs = (0, minute, hour, day_of_month, month_of_year, day_of_week)
        self._set(Cron.read(specs), tz)

    def _set(self, cron: Cron, tz: str | tzinfo | None) -> None:
        object.__setattr__(self, "cron", cron)
        object.__setattr__(self, "zone", None if tz is None else read_zone(tz))

    @classmethod
    def from_string(
        cls, text: str, tz: str | tzinfo | None = None, day_or: bool = False
    ) -> crontab:
        """The schedule of a line of cron.

        :param text: Minute, hour, day of month, month, day of week; with six fields
            the first is seconds. Or ``@hourly``, ``@daily``, ``@midnight``,
            ``@weekly``, ``@monthly``, ``@yearly``, ``@annually``.
        :param tz: Its time zone; by default the entry's.
        :param day_or: As cron itself, take a day that matches only one of the two
            day fields, where neither begins with ``*``.
        :raises TypeError: It is no text.
        :raises ValueError: It cannot be read.
        """
        if not isinstance(text, str):
            raise TypeError(f"expected a cron text, got {text!r}")
        return cls._made(Cron.parse(text, day_or), tz)

    @classmethod
    def _made(cls, cron: Cron, tz: str | tzinfo | None) -> crontab:
        made = cls.__new__(cls)
        made._set(cron, tz)
        return made

    @property
    def text(self) -> str:
        """The line of cron: five fields, or six where seconds are not 0."""
        return self.cron.text

    def within(self, zone: tzinfo) -> crontab:
        """The same in a zone, where it names none of its own."""
        if self.zone is not None:
            return self
        return self._made(self.cron, zone)

    def unbound(self) -> crontab:
        """The same without a zone."""
        return self._made(self.cron, None)

    def next_run(self, after: datetime) -> datetime | None:
        """The first due time later than an instant."""
        return next_instant(self.cron, self.zone or UTC, _aware(after))

    def stored(self) -> dict[str, t.Any]:
        """``{"cron": text, "day_or": bool, "zone": name or None}``."""
        zone = None if self.zone is None else zone_name(self.zone)
        return {"cron": self.text, "day_or": self.cron.day_or, "zone": zone}

    def __str__(self) -> str:
        notes = [] if self.zone is None else [zone_name(self.zone)]
        notes += ["either day"] if self.cron.day_or else []
        return f"{self.cron.text} ({', '.join(notes)})" if notes else self.cron.text

    def __repr__(self) -> str:
        tz = "" if self.zone is None else f", tz={zone_name(self.zone)!r}"
        day_or = ", day_or=True" if self.cron.day_or else ""
        return f"crontab.from_string({self.cron.text!r}{tz}{day_or})"


@dataclass(frozen=True, slots=True, repr=False)
class At(Schedule):
    """Due once.

    :param instant: Without a zone it is UTC.
    :raises ValueError: In UTC it is not in the years 1 to 9999.
    """

    instant: datetime

    def __post_init__(self) -> None:
        instant = self.instant
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        try:
            object.__setattr__(self, "instant", instant.astimezone(UTC))
        except OverflowError:
            raise ValueError(
                f"expected an instant in the years 1 to 9999, got {instant!r}"
            ) from None

    def next_run(self, after: datetime) -> datetime | None:
        """The instant, until then."""
        return self.instant if _aware(after) < self.instant else None

    def stored(self) -> dict[str, t.Any]:
        """``{"at": ISO 8601 text}``."""
        return {"at": self.instant.isoformat()}

    def __str__(self) -> str:
        return f"once at {self.instant.isoformat()}"

    def __repr__(self) -> str:
        return f"At(datetime.fromisoformat({self.instant.isoformat()!r}))"


def read_schedule(value: object, zone: tzinfo | None = None) -> Schedule:
    """The schedule that a user wrote.

    :param value: Seconds, a ``timedelta``, a ``datetime`` (once), a cron text, or a
        schedule.
    :param zone: Of a cron text or ``crontab`` that names none.
    :raises TypeError: It is none of them.
    :raises ValueError: It cannot be read.
    """
    if isinstance(value, Schedule):
        made: Schedule = value
    elif isinstance(value, str):
        made = crontab.from_string(value)
    elif isinstance(value, datetime):
        made = At(value)
    elif isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        made = every(value)
    else:
        raise TypeError(
            "expected a schedule to be seconds, a timedelta, a datetime, a cron text,"
            f" every() or crontab(), got {value!r}{_fix(value)}"
        )
    return made if zone is None else made.within(zone)


def _fix(value: object) -> str:
    """What to do about a schedule of Celery's, which goes by the same names."""
    if type(value).__module__.partition(".")[0] != "celery":
        return ""
    return (
        ", which is Celery's: import crontab and every from flask_taskqueue, or let"
        " 'flask tasks migrate-config' translate it"
    )


def from_stored(data: object) -> Schedule:
    """The schedule of which :meth:`Schedule.stored` gave this; it may be anyone's.

    :raises ValueError: It is none.
    """
    try:
        match data:
            case {"every": interval, **rest} if not rest:
                return every(interval)
            case {"at": str() as at, **rest} if not rest:
                return At(datetime.fromisoformat(at))
            case {"cron": text, "day_or": bool() as day_or, "zone": zone, **rest} if (
                not rest
            ):
                return crontab.from_string(text, zone, day_or)
    except TypeError as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"expected a stored schedule, got {data!r}")
