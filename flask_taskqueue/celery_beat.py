"""Celery's beat schedule as plain values that beat accepts.

Celery is not needed: its schedules are known by their attributes.
"""

from __future__ import annotations

import re
import sys
import typing as t
from collections.abc import Mapping
from datetime import UTC, timedelta

from .beat.entries import read_entry
from .celery_settings import PRIORITY, Lost
from .option_values import CALL, SHARED
from .python_code import as_code
from .serializer import dump_call

_CRON = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_PARTS = ("task", "schedule", "args", "kwargs", "options")
_CHECKS = CALL | SHARED
_LINK = "a signature cannot stand in a configuration: link it in a task"
_NO_OPTION = {
    "priority": PRIORITY,
    "link": _LINK,
    "link_error": _LINK,
    "task_id": "each firing has an id of its own",
    "eta": "the schedule says when",
    "countdown": "the schedule says when",
}


def beat_schedule(value: t.Any, content_type: str) -> tuple[dict[str, t.Any], Lost]:
    """``TASKQUEUE_BEAT_SCHEDULE`` for ``beat_schedule``.

    :param content_type: What the arguments must go into: an entry whose arguments
        do not would fail at each call.
    :raises ValueError: It is no dict.
    """
    if not isinstance(value, Mapping):
        raise ValueError("expected a dict of entries by name")
    kept: dict[str, t.Any] = {}
    lost: Lost = {}
    for name, entry in value.items():
        try:
            kept[str(name)] = _entry(str(name), entry, content_type, lost)
        except (ValueError, TypeError) as error:
            lost[str(name),] = str(error)
    return kept, lost


def _entry(name: str, value: t.Any, content_type: str, lost: Lost) -> dict[str, t.Any]:
    if not isinstance(value, Mapping) or not {"task", "schedule"} <= value.keys():
        raise ValueError("expected a dict with 'task' and 'schedule'")
    entry: dict[str, t.Any] = {
        "task": value["task"],
        "schedule": schedule(value["schedule"]),
        "args": value.get("args") or (),
        "kwargs": value.get("kwargs") or {},
        "options": _options(name, value.get("options") or {}, lost),
    }
    read = read_entry(name, entry, UTC)
    entry["task"] = read.task
    content_type = read.options.get("serializer", content_type)
    dump_call(read.task, read.args, read.kwargs, content_type, sys.maxsize)
    as_code(entry)
    _report_parts(name, value, lost)
    return {part: each for part, each in entry.items() if each}


def _report_parts(name: str, value: Mapping[str, t.Any], lost: Lost) -> None:
    for part in value:
        if part not in (*_PARTS, "relative"):
            lost[name, part] = "an entry has no such part"
    if value.get("relative") or getattr(value["schedule"], "relative", False):
        lost[name, "relative"] = "times are not rounded to the interval"


def _options(name: str, options: t.Any, lost: Lost) -> dict[str, t.Any]:
    """Those a call takes."""
    if not isinstance(options, Mapping):
        raise ValueError(f"expected 'options' to be a dict, got {options!r}")
    kept = {}
    for option, value in options.items():
        part = (name, "options", option)
        if option in _NO_OPTION or option not in _CHECKS:
            lost[part] = _NO_OPTION.get(option, "a call has no such option")
        else:
            try:
                _CHECKS[option](option, value)
                as_code(value)
                kept[option] = value
            except (ValueError, TypeError) as error:
                lost[part] = str(error)
    return kept


def schedule(value: t.Any) -> float | str:
    """Seconds, or a cron text of five fields, for one of Celery's schedules.

    :raises ValueError: It depends on the sun, or is of a class of its own.
    """
    value = getattr(value, "run_every", value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float | str):
        return value
    fields = [getattr(value, f"_orig_{name}", None) for name in _CRON]
    if None in fields:
        raise ValueError(f"expected seconds or a crontab, got {value!r}")
    return " ".join(map(_cron_field, fields))


def _cron_field(value: t.Any) -> str:
    if isinstance(value, str | int):
        return re.sub(r"\s", "", str(value))
    return ",".join(map(str, sorted(value)))
