"""Instants as Redis and ids have them: seconds, or milliseconds, since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)


def epoch_text(instant: datetime) -> str:
    """Seconds since 1970 as text with 6 decimals, to the microsecond.

    :param instant: With a zone.
    """
    count = (instant - _EPOCH) // _MICROSECOND
    seconds, rest = divmod(abs(count), 1_000_000)
    return f"{'-' if count < 0 else ''}{seconds}.{rest:06d}"


def from_epoch(seconds: str | float) -> datetime:
    """The instant, in UTC, of seconds since 1970, rounded to microseconds.

    :raises ValueError: It is no number, or beyond the years 1 to 9999.
    """
    try:
        return _EPOCH + timedelta(microseconds=round(float(seconds) * 1_000_000))
    except (ValueError, OverflowError):
        raise ValueError(f"expected seconds since 1970, got {seconds!r}") from None


def epoch_ms(instant: datetime) -> int:
    """Whole milliseconds since 1970.

    :param instant: With a zone.
    """
    return (instant - _EPOCH) // _MILLISECOND
