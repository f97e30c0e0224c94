"""Reads the value of each option: one function a kind, one row an option."""

from __future__ import annotations

import re
import typing as t
from datetime import UTC, datetime, timedelta

from .patterns import check_queue_name

Seconds = float | timedelta
Instant = float | timedelta | datetime

MOST_SECONDS = 100 * 365 * 86_400
"""No duration is longer: timers take no more than some 100 years."""

TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""Ids RQ can keep (rq 2.12, ``rq.job.JOB_ID_PATTERN``), of bounded length."""


def _refuse(name: str, expected: str, value: object) -> t.NoReturn:
    kind = TypeError if expected.startswith("!") else ValueError
    raise kind(f"expected {name!r} to be {expected.lstrip('!')}, got {value!r}")


def _number(name: str, value: object, *, least: float | None = None) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(name, "!a number of seconds or a timedelta", value)
    # Written this way round, NaN is refused too.
    low = -MOST_SECONDS if least is None else least
    if not low <= value <= MOST_SECONDS:
        _refuse(name, f"{low:g} to {MOST_SECONDS:g} seconds", value)
    return value


def _delay(name: str, value: object) -> float:
    return _number(name, value, least=0)


def _limit(name: str, value: object) -> float | None:
    if value is None:
        return None
    number = _number(name, value)
    return number if number > 0 else _refuse(name, "seconds > 0 or None", value)


def _ttl(name: str, value: object) -> int:
    return int(_number(name, value, least=0))


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(name, "!an integer", value)
    return value


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _refuse(name, "an integer >= 0 or None", value)
    return value


def _cap(name: str, value: object) -> int:
    return (
        count
        if (count := _count(name, value)) is not None
        else _refuse(name, "an integer >= 0", value)
    )


def _flag(name: str, value: object) -> bool:
    return value if isinstance(value, bool) else _refuse(name, "!True or False", value)


def _backoff(name: str, value: object) -> float:
    # Celery: True is a backoff of one second.
    return float(value) if isinstance(value, bool) else _delay(name, value)


def _text(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    _refuse(name, "a non-empty string", value)


def _queue(name: str, value: object) -> str | None:
    if value is None:
        return None
    try:
        return check_queue_name(value)
    except ValueError:
        _refuse(name, "a queue's name without spaces, ':' or ','", value)


def _errors(name: str, value: object) -> tuple[type[BaseException], ...]:
    kinds = (value,) if isinstance(value, type) else value
    if not isinstance(kinds, (tuple, list, set, frozenset)) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
    ):
        _refuse(name, "!exception classes", value)
    return tuple(kinds)


def _serializer(name: str, value: object) -> str:
    if value not in ("json", "msgpack", "pickle"):
        _refuse(name, "'json', 'msgpack' or 'pickle'", value)
    return str(value)


def _instant(name: str, value: object) -> str:
    """An instant as the scripts read it: '' none, '+SECONDS' from now, epoch."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        # Celery's rule: a datetime without a zone is UTC.
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return f"{max(aware.timestamp(), 0):.6f}"
    return f"+{max(_number(name, value), 0):.6f}"


def _eta(name: str, value: object) -> str:
    if value is not None and not isinstance(value, datetime):
        _refuse(name, "!a datetime", value)
    return _instant(name, value)


def _countdown(name: str, value: object) -> str:
    return "" if value is None else _instant(name, _number(name, value))


def _task_id(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and TASK_ID.fullmatch(value)):
        return value
    _refuse(name, "1 to 255 letters, digits, '_' or '-'", value)


def _headers(name: str, value: object) -> dict[str, t.Any]:
    if value is None:
        return {}
    if not isinstance(value, t.Mapping) or not all(isinstance(k, str) for k in value):
        _refuse(name, "!a mapping of names to JSON values", value)
    return dict(value)


def _links(name: str, value: object) -> tuple[t.Any, ...]:
    """One signature or several; :mod:`.signature` checks each."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _on_lost(name: str, value: object) -> str:
    if value not in ("requeue", "fail"):
        _refuse(name, "'requeue' or 'fail'", value)
    return str(value)


Check = t.Callable[[str, object], t.Any]
"""Takes a name and a value; gives the form that is kept, or raises."""

CALL: dict[str, Check] = {
    "countdown": _countdown,
    "eta": _eta,
    "task_id": _task_id,
    "headers": _headers,
    "link": _links,
    "link_error": _links,
}
"""Options of a call alone."""
SHARED: dict[str, Check] = {
    "queue": _queue,
    "routing_key": _text,
    "priority": _whole,
    "max_retries": _count,
    "default_retry_delay": _delay,
    "retry_backoff": _backoff,
    "retry_backoff_max": _delay,
    "retry_jitter": _flag,
    "time_limit": _limit,
    "soft_time_limit": _limit,
    "expires": _instant,
    "result_ttl": _ttl,
    "failure_ttl": _ttl,
    "ignore_result": _flag,
    "serializer": _serializer,
}
"""Options of a task that a call may override."""
TASK: dict[str, Check] = {
    "autoretry_for": _errors,
    "dont_autoretry_for": _errors,
    "throws": _errors,
    "request_context": _flag,
    "on_worker_lost": _on_lost,
    "max_recoveries": _cap,
}
"""Options of a task alone."""
