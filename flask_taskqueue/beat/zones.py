"""Time zones: their names, and what their clocks show where they are changed.

Every change of a zone's offset counts, be it daylight saving time or not.
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from ..nearest import hint

_SECOND = timedelta(seconds=1)


def read_zone(value: str | tzinfo) -> tzinfo:
    """The time zone of a name, or of an object.

    :param value: A name is ``UTC``, ``Europe/Paris`` or ``+02:00``. An object is
        one of ``zoneinfo``, ``datetime`` or pytz; the last is taken by its name.
    :raises TypeError: It is neither.
    :raises ValueError: This machine knows no such zone, or the object has no name.
    """
    if isinstance(value, tzinfo):
        value = zone_name(value)
    if not isinstance(value, str):
        raise TypeError(f"expected the name of a time zone, got {value!r}")
    if value.upper() == "UTC":  # known on every machine, unlike ZoneInfo("UTC")
        return UTC
    try:
        if re.fullmatch(r"[+-]\d\d:\d\d(:\d\d)?", value):
            return datetime.fromisoformat(f"2000-01-01T00:00:00{value}").tzinfo or UTC
        return zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "expected a time zone this machine knows, such as 'Europe/Paris', got"
            f" {value!r}{hint(value, zoneinfo.available_timezones())}"
        ) from None


def zone_name(zone: tzinfo) -> str:
    """What :func:`read_zone` reads as this zone.

    :raises ValueError: It has no name.
    """
    if isinstance(zone, timezone):
        text = datetime(2000, 1, 1, tzinfo=zone).isoformat()[19:]
        return "UTC" if text == "+00:00" else text
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if not isinstance(name, str):
        raise ValueError(
            "expected a time zone with a name, such as ZoneInfo('Europe/Paris'), got"
            f" {zone!r}"
        )
    return name


def shown(zone: tzinfo, instant: datetime) -> tuple[datetime, bool]:
    """What the zone's clock shows, in whole seconds, and whether for the second time.

    :param instant: With a zone.
    """
    local = instant.astimezone(zone)
    return local.replace(tzinfo=None, microsecond=0, fold=0), bool(local.fold)


def instants(zone: tzinfo, wall: datetime) -> tuple[datetime, datetime]:
    """A wall time by the offset before, and by the one after, a change of the clock.

    :param wall: Without a zone.
    :return: In UTC. Both are the same where no change is near. Where the clock shows
        the time twice, the first is earlier; where it skips it, the first is later.
    """
    local = wall.replace(tzinfo=zone, fold=0)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def change(zone: tzinfo, wall: datetime) -> tuple[datetime, datetime, datetime]:
    """The change of the clock that shows a wall time twice, or skips it.

    :param wall: Without a zone.
    :return: The instant of the change, in UTC; the wall time just before it, as the old
        offset would show it; and the wall time from then on, by the new one.
    """
    first, second = instants(zone, wall)
    before, after = min(first, second), max(first, second)
    old, new = _offset(zone, before), _offset(zone, after)
    low, high = 0, round((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, before + middle * _SECOND) == new:
            high = middle
        else:
            low = middle
    instant = before + high * _SECOND
    naive = instant.replace(tzinfo=None)
    return instant, naive + old, naive + new


def _offset(zone: tzinfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()
