"""An entry of beat: what to call, when, and how, read and checked once."""

from __future__ import annotations

import hashlib
import re
import reprlib
import typing as t
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from ..appstate import Runnable
from ..errors import TaskQueueError
from ..nearest import hint
from ..option_values import CALL, MOST_SECONDS, SHARED
from ..options import TaskOptions
from ..patterns import check_task_name
from ..signature import Signature
from .epoch import epoch_ms
from .planning import Misfire as Misfire
from .schedules import Schedule, read_schedule
from .zones import read_zone

Overlap = t.Literal["allow", "skip"]
"""What happens at a due time while the last firing's job has not ended."""

GRACE_LEAST = 1.0
"""Seconds of the shortest grace."""

LINKS = ("link", "link_error")
"""Options that hold signatures."""

_NAME_MOST = 255
_SLUG_MOST = 60

_NO_OPTION = {
    "task_id": "each firing has an id made of the entry and its due time",
    "eta": "an entry's time is its 'schedule'",
    "countdown": "an entry's time is its 'schedule'",
}
OPTIONS: frozenset[str] = frozenset((CALL.keys() | SHARED.keys()) - _NO_OPTION.keys())
"""Options of ``apply_async`` that an entry may have."""

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A task that is called again and again, and when.

    :param task: The task's name.
    :param schedule: In a zone of its own, or in the one it was read with.
    :param options: Of ``apply_async``, checked; durations are seconds.
    :param enabled: Whether it fires. One that does not is kept, and shown as disabled.
    :param grace: Seconds. A due time missed by less is fired late, whatever
        ``misfire`` says.
    """

    name: str
    task: str
    schedule: Schedule
    args: tuple[t.Any, ...] = ()
    kwargs: dict[str, t.Any] = field(default_factory=dict)
    options: dict[str, t.Any] = field(default_factory=dict)
    enabled: bool = True
    overlap: Overlap = "allow"
    misfire: Misfire = "once"
    grace: float = 60.0


def read_entry(name: str, parts: Mapping[str, t.Any], zone: tzinfo) -> Entry:
    """The entry of a name, and of a dict in the form of ``TASKQUEUE_BEAT_SCHEDULE``.

    The zone of the schedule itself wins over ``tz``, which wins over ``zone``.

    :param zone: Of a schedule for which nothing names another.
    :raises TypeError: A part is unknown, or of the wrong type. All messages name the
        entry.
    :raises ValueError: A part is missing, or cannot be used.
    """
    _check_name(name)
    if not isinstance(parts, Mapping):
        raise TypeError(
            f"expected entry {name!r} to be a dict with 'task' and 'schedule',"
            f" got {_shown.repr(parts)}"
        )
    _check_parts(name, parts)
    if parts.get("tz") is not None:
        with _part_of(name, "tz"):
            zone = read_zone(parts["tz"])
    with _part_of(name, "schedule"):
        schedule = read_schedule(parts["schedule"], zone)
    given = {
        part: read(part, name, parts[part])
        for part, read in _READERS.items()
        if part in parts
    }
    return Entry(name=name, schedule=schedule, **given)


def check_against(entry: Entry, tasks: Mapping[str, Runnable]) -> None:
    """Check that the entry's task is known here and takes its arguments.

    :param tasks: The tasks known here, by name.
    :raises ValueError: Its task is not among them.
    :raises TypeError: Its arguments do not fit the task's signature.
    """
    task = tasks.get(entry.task)
    if task is None:
        raise ValueError(
            f"expected 'task' of entry {entry.name!r} to be a registered task,"
            f" got {entry.task!r}{hint(entry.task, tasks)}; is its module imported?"
            " TASKQUEUE_IMPORTS names modules with tasks"
        )
    try:
        task.check_args(entry.args, entry.kwargs)
    except TypeError as error:
        raise TypeError(
            f"expected 'args' and 'kwargs' of entry {entry.name!r} to fit its task:"
            f" {error}"
        ) from error


def entry_id(app_name: str, name: str) -> str:
    """The id of an app's entry: readable, and different for each name.

    It is a valid job id, because rq-scheduler's tools take it for one.
    """
    # No entry's name has a lone surrogate, but one may be asked for by such a name.
    text = f"{app_name}\0{name}".encode("utf-8", "surrogatepass")
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:_SLUG_MOST].strip("-")
    parts = ("beat", slug, hashlib.sha256(text).hexdigest()[:16])
    return "-".join(part for part in parts if part)


def firing_id(entry_id: str, due: datetime) -> str:
    """The id of the job that an entry makes at a due time.

    Whoever fires it makes the same one: nobody can write it twice.

    :param due: Aware.
    """
    return f"{entry_id}-{epoch_ms(due)}"


def trigger_id(entry_id: str, at: datetime) -> str:
    """The id of a job that somebody asked for beside the due times.

    :param at: When that was; aware.
    """
    return f"{entry_id}-t{epoch_ms(at)}"


def seconds_of(value: t.Any) -> t.Any:
    """A ``timedelta`` in seconds, whole ones as an integer; anything else as it is."""
    if not isinstance(value, timedelta):
        return value
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def told(error: Exception) -> str:
    """What is wrong with an entry, as people are told of it: the text of an error that
    explains itself; with its type, where it may not."""
    explains = isinstance(error, (TaskQueueError, TypeError, ValueError))
    return explains and str(error) or f"{type(error).__name__}: {error}"


@contextmanager
def _part_of(name: str, part: str) -> Iterator[None]:
    """Say of an error which part of which entry it is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{part!r} of entry {name!r}: {error}") from error


def _wrong(part: str, name: str, expected: str, value: object, fix: str = "") -> str:
    return (
        f"expected {part!r} of entry {name!r} to be {expected},"
        f" got {_shown.repr(value)}{fix}"
    )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(
            f"expected an entry's name to be a non-empty text, got {_shown.repr(name)}"
        )
    surrogate = any("\ud800" <= char <= "\udfff" for char in name)
    if len(name) > _NAME_MOST or surrogate:
        raise ValueError(
            f"expected an entry's name to be a text of up to {_NAME_MOST} characters,"
            f" got {_shown.repr(name)}"
        )


def _check_parts(name: str, parts: Mapping[t.Any, t.Any]) -> None:
    for part in parts:
        if part not in PARTS and part != _OF_CELERY:
            raise TypeError(
                f"entry {name!r} has an unknown part {part!r}; known are"
                f" {', '.join(PARTS)}{hint(str(part), PARTS)}"
            )
    for part in ("task", "schedule"):
        if parts.get(part) is None:
            raise ValueError(f"expected entry {name!r} to have {part!r}, got none")
    if parts.get(_OF_CELERY):
        raise ValueError(
            _wrong(_OF_CELERY, name, "False", parts[_OF_CELERY])
            + ": the times of an interval are not rounded to it. A crontab has round"
            " times"
        )


def _task(part: str, name: str, value: t.Any) -> str:
    given = value if isinstance(value, str) else getattr(value, "name", None)
    if not isinstance(given, str):
        fix = ": decorate it with @tq.task" if callable(value) else ""
        raise TypeError(_wrong(part, name, "a task, or its name", value, fix))
    with _part_of(name, part):
        return check_task_name(given)


def _args(part: str, name: str, value: t.Any) -> tuple[t.Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        shown = _shown.repr(value)
        fix = f": write ({shown},) or [{shown}]"
        if isinstance(value, Mapping):
            fix = ": arguments by name are 'kwargs'"
        raise TypeError(_wrong(part, name, "a list or tuple", value, fix))
    return tuple(value)


def _by_name(part: str, name: str, value: t.Any) -> dict[str, t.Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise TypeError(_wrong(part, name, "a dict with text as keys", value))
    return dict(value)


def _options(part: str, name: str, value: t.Any) -> dict[str, t.Any]:
    """Options of ``apply_async``: durations in seconds, signatures in tuples."""
    options = _by_name(part, name, value)
    for option in options:
        if option in _NO_OPTION:
            raise ValueError(
                f"{part!r} of entry {name!r} cannot have {option!r}:"
                f" {_NO_OPTION[option]}"
            )
        if option not in OPTIONS:
            raise TypeError(
                f"{part!r} of entry {name!r} has an unknown option {option!r}; known"
                f" are {', '.join(sorted(OPTIONS))}{hint(option, OPTIONS)}"
            )
    with _part_of(name, part):
        checked = TaskOptions().called(**t.cast(t.Any, options))
        links = {link: getattr(checked, link) for link in LINKS if link in options}
        for signature in (each for several in links.values() for each in several):
            if not isinstance(signature, Signature):
                raise TypeError(
                    "expected links to be signatures such as add.s(3),"
                    f" got {_shown.repr(signature)}"
                )
    return {option: seconds_of(value) for option, value in options.items()} | links


def _flag(part: str, name: str, value: t.Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(_wrong(part, name, "True or False", value))
    return value


def _one_of(*known: str) -> _Reader:
    expected = " or ".join(map(repr, known))

    def read(part: str, name: str, value: t.Any) -> t.Any:
        if value not in known:
            raise ValueError(_wrong(part, name, expected, value))
        return value

    return read


def _grace(part: str, name: str, value: t.Any) -> float:
    seconds = seconds_of(value)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(_wrong(part, name, "seconds or a timedelta", value))
    # Written this way round, NaN is refused too. A grace of 0 would make every due time
    # a misfire, because a beat always fires a moment after it.
    if not GRACE_LEAST <= seconds <= MOST_SECONDS:
        expected = f"{GRACE_LEAST:g} to {MOST_SECONDS} seconds"
        raise ValueError(_wrong(part, name, expected, value))
    return float(seconds)


_Reader = Callable[[str, str, t.Any], t.Any]
"""Takes a part, the entry's name and a value; gives the form that is kept."""

_READERS: dict[str, _Reader] = {
    "task": _task,
    "args": _args,
    "kwargs": _by_name,
    "options": _options,
    "enabled": _flag,
    "overlap": _one_of(*t.get_args(Overlap)),
    "misfire": _one_of(*t.get_args(Misfire)),
    "grace": _grace,
}

PARTS: tuple[str, ...] = ("schedule", *_READERS, "tz")
"""What an entry may have."""

_OF_CELERY = "relative"
"""A part of Celery's entries that is taken where it is false."""
