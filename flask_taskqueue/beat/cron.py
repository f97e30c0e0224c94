"""Cron's arithmetic: which wall times match, and which instants of a zone they are.

The fields are read as Celery reads them. Where a zone's clock changes, the rules are
those of Debian's cron: see :func:`next_instant`.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo

from .zones import change, instants, shown

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun",
           "jul", "aug", "sep", "oct", "nov", "dec")  # fmt: skip
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"(?:\*|([a-z]+|\d+)(?:-([a-z]+|\d+))?)(?:/(\d+))?", re.ASCII)

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

Spec: t.TypeAlias = int | str | Iterable[int | str]
"""A field as users write it."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one field may hold.

    :param low: Its least number.
    :param high: Its greatest number.
    :param names: Three letters for each of its numbers, from ``low`` on.
    """

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What a message says about it."""
        named = f" or names such as {self.names[1]!r}" if self.names else ""
        return (
            f"expected cron field {self.name!r} to be numbers from {self.low} to"
            f" {self.high}{named}, '*', ranges ('2-5'), steps over those ('*/15',"
            " '2-30/2'), or a list of them"
        )

    def text(self, spec: object) -> str:
        """The field as one text without spaces, in lower case.

        :raises TypeError: It is no number, text or iterable of those.
        """
        if isinstance(spec, str):
            return ",".join(part.strip() for part in spec.lower().split(","))
        if isinstance(spec, int) and not isinstance(spec, bool):
            return str(int(spec))  # of an enum's member too
        if isinstance(spec, Iterable) and not isinstance(spec, bytes | Mapping):
            parts = [self.text(part) for part in spec]
            # The order of a set's texts is another one in each process.
            in_order = isinstance(spec, set | frozenset)
            return ",".join(sorted(parts) if in_order else parts)
        raise TypeError(f"{self.expected}, got {spec!r:.100}")

    def numbers(self, text: str) -> frozenset[int]:
        """All numbers of a field.

        :raises ValueError: A part of it cannot be read.
        """
        try:
            found = {n for part in text.split(",") for n in self._part(part)}
        except ValueError:
            raise ValueError(f"{self.expected}, got {text!r:.100}") from None
        return frozenset(n % 7 for n in found) if self.high == 7 else frozenset(found)

    def _part(self, text: str) -> list[int]:
        """The numbers of ``*``, a number or a range, with or without a step.

        As in Celery a range may run over the end (``fri-mon``), and a step counts
        from the range's first number, over the end too.
        """
        found = _PART.fullmatch(text)
        if found is None:
            raise ValueError
        first, last, step = found.groups()
        if first is None:
            numbers = [*range(self.low, self._end)]
        else:
            numbers = self._between(self._number(first), self._number(last or first))
            if step and not last:  # cron programs differ on what 5/15 means
                raise ValueError
        return numbers[:: int(step or 1)]  # a ValueError for 0

    def _number(self, text: str) -> int:
        if text[:3] in self.names:
            return self.names.index(text[:3]) + self.low
        number = int(text)
        if not self.low <= number <= self.high:
            raise ValueError
        return number

    def _between(self, first: int, last: int) -> list[int]:
        if first <= last:
            return [*range(first, last + 1)]
        return [*range(first, self._end), *range(self.low, last + 1)]

    @property
    def _end(self) -> int:
        """After the last number; 7 is but another way to write Sunday."""
        return 7 if self.high == 7 else self.high + 1


_KINDS = (
    _Kind("second", 0, 59),
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day_of_month", 1, 31),
    _Kind("month_of_year", 1, 12, _MONTHS),
    _Kind("day_of_week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """The wall times that six fields describe. Equal when their texts are.

    :param fields: Seconds, minute, hour, day of month, month, day of week.
    :param day_or: A day need match only one of the two day fields, where neither
        begins with ``*``. Else it must match both.
    :raises ValueError: A field cannot be read, or no month has such a day.
    """

    fields: tuple[str, ...]
    day_or: bool = False
    _times: tuple[frozenset[int], ...] = field(init=False, repr=False, compare=False)
    _first: time = field(init=False, repr=False, compare=False)

    @classmethod
    def read(cls, specs: Iterable[Spec], day_or: bool = False) -> Cron:
        """The wall times of fields as users write them.

        :raises TypeError: A field is no number, text or iterable of those.
        :raises ValueError: A field cannot be read, or no month has such a day.
        """
        pairs = zip(_KINDS, specs, strict=True)
        return cls(tuple(kind.text(spec) for kind, spec in pairs), day_or)

    @classmethod
    def parse(cls, text: str, day_or: bool = False) -> Cron:
        """The wall times of a line of cron: five fields, six, or a name with ``@``.

        :raises ValueError: It cannot be read, or no month has such a day.
        """
        fields = _NICKNAMES.get(text.strip().lower(), text).split()
        if len(fields) not in (5, 6):
            raise ValueError(
                "expected a cron text of five fields (minute, hour, day of month,"
                " month, day of week), of six (seconds first), or one of"
                f" {', '.join(_NICKNAMES)}, got {text!r:.100}"
            )
        return cls.read(["0", *fields][-6:], day_or)

    def __post_init__(self) -> None:
        pairs = zip(_KINDS, self.fields, strict=True)
        times = tuple(kind.numbers(text) for kind, text in pairs)
        object.__setattr__(self, "_times", times)
        first = time(min(times[2]), min(times[1]), min(times[0]))
        object.__setattr__(self, "_first", first)
        _, _, _, days, months, _ = times
        # Every date there is falls on every weekday in some year, 29 February too.
        if not self._either and min(days) > max(_LONGEST[m - 1] for m in months):
            raise ValueError(
                "expected a date that exists, got day_of_month"
                f" {self.fields[3]!r} with month_of_year {self.fields[4]!r}"
            )

    @property
    def text(self) -> str:
        """The line of cron: five fields, or six where seconds are not 0."""
        return " ".join(self.fields[self.fields[0] == "0" :])

    @property
    def _either(self) -> bool:
        begins = (self.fields[3][0], self.fields[5][0])
        return self.day_or and "*" not in begins

    @property
    def fixed(self) -> bool:
        """Whether it names times of day, rather than to follow real time."""
        return not self.fields[1].startswith("*") and not self.fields[2].startswith("*")

    def next_wall(self, start: datetime) -> datetime:
        """The first match that is not earlier.

        :param start: A wall time of whole seconds, without a zone.
        :raises OverflowError: There is none before the year 10000.
        """
        day = start.date()
        if self._matches(day):
            found = self._next_time(start.time())
            if found is not None:
                return datetime.combine(day, found)
        day = self._following(day)
        while not self._matches(day):
            day = self._following(day)
        return datetime.combine(day, self._first)

    def _matches(self, day: date) -> bool:
        _, _, _, days, months, weekdays = self._times
        if day.month not in months:
            return False
        matches = (day.day in days, day.isoweekday() % 7 in weekdays)
        return any(matches) if self._either else all(matches)

    def _following(self, day: date) -> date:
        """The next day worth a look: the next one, or the next month's first."""
        if day.month in self._times[4]:
            return day + _DAY
        return (day.replace(day=1) + 31 * _DAY).replace(day=1)

    def _next_time(self, start: time) -> time | None:
        seconds, minutes, hours, *_ = self._times
        if start.hour in hours:
            if start.minute in minutes:
                second = _least(seconds, start.second)
                if second is not None:
                    return start.replace(second=second)
            minute = _least(minutes, start.minute + 1)
            if minute is not None:
                return self._first.replace(hour=start.hour, minute=minute)
        hour = _least(hours, start.hour + 1)
        return None if hour is None else self._first.replace(hour=hour)


def _least(numbers: frozenset[int], start: int) -> int | None:
    return min((n for n in numbers if n >= start), default=None)


def next_instant(cron: Cron, zone: tzinfo, after: datetime) -> datetime | None:
    """The first instant later than another at which a schedule is due in a zone.

    Times of day (:attr:`Cron.fixed`) are each due once: at its first occurrence,
    where the clock is set back; right after the gap, where it is set forward over it.
    Other schedules follow real time: they are due whenever the zone's clock shows a
    match, so not in a gap, and twice where it is set back.

    :param after: An instant with a zone.
    :return: In UTC, or ``None`` when there is none before the year 10000.
    """
    try:
        return (_next_fixed if cron.fixed else _next_real)(cron, zone, after)
    except OverflowError:
        return None


def _next_fixed(cron: Cron, zone: tzinfo, after: datetime) -> datetime:
    wall, repeated = shown(zone, after)
    # In the second pass, all of the repeated time was due in the first.
    start = change(zone, wall)[1] if repeated else wall + _SECOND
    found = cron.next_wall(start)
    first, second = instants(zone, found)
    return first if first <= second else change(zone, found)[0]


def _next_real(cron: Cron, zone: tzinfo, after: datetime) -> datetime:
    wall, repeated = shown(zone, after)
    found = cron.next_wall(wall + _SECOND)
    first, second = instants(zone, wall)
    if first < second and not repeated:
        _, end, again = change(zone, wall)
        if found < end:
            return instants(zone, found)[0]
        found = cron.next_wall(again)  # the second pass shows earlier times again
    while True:
        first, second = instants(zone, found)
        if first <= second:
            return first if first > after else second
        found = cron.next_wall(change(zone, found)[2])
