"""Decorator, app and call options as one frozen, checked value."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import Enum

from .config import Config
from .retry import RetryPolicy

if t.TYPE_CHECKING:
    from .signature import Signature

Seconds = float | timedelta
Instant = float | timedelta | datetime


class Unset(Enum):
    """Marks an option nobody has set, where ``None`` has a meaning of its own."""

    UNSET = "unset"


UNSET = Unset.UNSET

MOST_SECONDS = 100 * 365 * 86_400
"""No duration is longer: timers take no more than some 100 years."""

TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""Ids RQ can keep (rq 2.12, ``rq.job.JOB_ID_PATTERN``), of bounded length."""


class RetryOptions(t.TypedDict, total=False):
    """Options about retries, of a task and of a call."""

    max_retries: int | None
    default_retry_delay: Seconds
    retry_backoff: float | bool
    retry_backoff_max: Seconds
    retry_jitter: bool


class SharedOptions(RetryOptions, total=False):
    """Options of a task that a call may override."""

    queue: str
    routing_key: str
    priority: int
    time_limit: Seconds | None
    soft_time_limit: Seconds | None
    expires: Instant | None
    result_ttl: int | timedelta
    failure_ttl: int | timedelta
    ignore_result: bool
    serializer: str


class DecoratorOptions(SharedOptions, total=False):
    """Options of ``@tq.task``. ``name``, ``bind`` and ``base`` come beside them."""

    autoretry_for: t.Sequence[type[BaseException]]
    dont_autoretry_for: t.Sequence[type[BaseException]]
    throws: t.Sequence[type[BaseException]]
    request_context: bool
    on_worker_lost: t.Literal["requeue", "fail"]
    max_recoveries: int


class CallOptions(SharedOptions, total=False):
    """Options of ``apply_async``."""

    countdown: Seconds | None
    eta: datetime | None
    task_id: str | None
    headers: t.Mapping[str, t.Any] | None
    link: Signature | t.Sequence[Signature] | None
    link_error: Signature | t.Sequence[Signature] | None


class ChangeOptions(t.TypedDict, total=False):
    """Options of ``retry()`` that change the job from its next execution on.

    What it says about the retry itself (``countdown``, ``max_retries``, …) comes
    beside them.
    """

    queue: str
    routing_key: str
    priority: int
    time_limit: Seconds | None
    soft_time_limit: Seconds | None
    expires: Instant | None
    ignore_result: bool


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
    if isinstance(value, str) and re.fullmatch(r"[^\s:,\x00-\x1f\x7f]{1,200}", value):
        return value
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


_Check = t.Callable[[str, object], t.Any]

_CALL: dict[str, _Check] = {
    "countdown": _countdown,
    "eta": _eta,
    "task_id": _task_id,
    "headers": _headers,
    "link": _links,
    "link_error": _links,
}
_SHARED: dict[str, _Check] = {
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
_TASK: dict[str, _Check] = {
    "autoretry_for": _errors,
    "dont_autoretry_for": _errors,
    "throws": _errors,
    "request_context": _flag,
    "on_worker_lost": _on_lost,
    "max_recoveries": _cap,
}

_CHANGE = {name: _SHARED[name] for name in ChangeOptions.__optional_keys__}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What is known about how a task is to be called and run.

    One value travels: made by the decorator, completed from the app's
    configuration, changed by a call. Instants and due times are text as the scripts
    read it: ``""`` none, ``"+SECONDS"`` from now, epoch seconds.
    """

    queue: str | None = None
    routing_key: str | None = None
    priority: int = 0
    max_retries: int | None | Unset = UNSET
    default_retry_delay: float | Unset = UNSET
    retry_backoff: float = 0.0
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True
    time_limit: float | None | Unset = UNSET
    soft_time_limit: float | None | Unset = UNSET
    expires: str = ""
    result_ttl: int | Unset = UNSET
    failure_ttl: int | Unset = UNSET
    ignore_result: bool | Unset = UNSET
    serializer: str | Unset = UNSET

    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    throws: tuple[type[BaseException], ...] = ()
    request_context: bool = False
    on_worker_lost: str = "requeue"
    max_recoveries: int = 3

    countdown: str = ""
    eta: str = ""
    task_id: str | None = None
    headers: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    link: tuple[t.Any, ...] = ()
    link_error: tuple[t.Any, ...] = ()

    @classmethod
    def of_task(cls, **given: t.Unpack[DecoratorOptions]) -> TaskOptions:
        """Options of a decorator.

        :raises TypeError: An option is unknown, or a value has the wrong type.
        :raises ValueError: A value is out of range.
        """
        return cls(**_checked(given, _SHARED | _TASK, "task option"))

    def completed(self, config: Config) -> TaskOptions:
        """The same with the app's defaults where nothing was set."""
        return dataclasses.replace(
            self,
            **{
                row.name: getattr(config, row.name)
                for row in fields(self)
                if getattr(self, row.name) is UNSET
            },
        )

    def called(self, **given: t.Unpack[CallOptions]) -> TaskOptions:
        """The same with the options of a call.

        :raises TypeError: An option is unknown, or a value has the wrong type.
        :raises ValueError: A value is out of range.
        """
        changes = _checked(given, _SHARED | _CALL, "option of apply_async")
        if given.get("eta") is not None and given.get("countdown") is not None:
            raise ValueError("expected 'eta' or 'countdown', got both")
        return dataclasses.replace(self, **changes)

    def changed(self, **given: t.Unpack[ChangeOptions]) -> TaskOptions:
        """The same with the options of a ``retry()``.

        :raises TypeError: An option is unknown, or a value has the wrong type.
        :raises ValueError: A value is out of range.
        """
        return dataclasses.replace(self, **_checked(given, _CHANGE, "option of retry"))

    @property
    def due(self) -> str:
        """When it may start, as the scripts read it."""
        return self.eta or self.countdown

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy of completed options."""
        return RetryPolicy(
            max_retries=t.cast("int | None", self.max_retries),
            delay=t.cast(float, self.default_retry_delay),
            backoff=self.retry_backoff,
            backoff_max=self.retry_backoff_max,
            jitter=self.retry_jitter,
        )

    def stored(self) -> bytes:
        """What a worker needs of completed options, as compact JSON."""
        out: dict[str, t.Any] = {"retry": self.policy.to_dict()}
        if self.time_limit is not None:
            out["time_limit"] = self.time_limit
        if self.soft_time_limit is not None:
            out["soft_time_limit"] = self.soft_time_limit
        if self.ignore_result:
            out["ignore_result"] = True
        return json.dumps(out, separators=(",", ":")).encode()


def _checked(
    given: t.Mapping[str, t.Any], known: t.Mapping[str, _Check], what: str
) -> dict[str, t.Any]:
    """Values by name, each checked and in the form the dataclass keeps."""
    for name in given:
        if name not in known:
            raise TypeError(
                f"expected a known {what}, got {name!r}; known are "
                + ", ".join(sorted(known))
            )
    checked = {name: known[name](name, value) for name, value in given.items()}
    # Only limits given together: one of a call may well undercut the task's other.
    hard, soft = checked.get("time_limit"), checked.get("soft_time_limit")
    if hard is not None and soft is not None and soft > hard:
        raise ValueError(
            f"expected 'soft_time_limit' to be at most 'time_limit' ({hard!r}),"
            f" got {soft!r}"
        )
    return checked
