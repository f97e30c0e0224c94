"""Reads an entry as plain rq-scheduler keeps it: a job, its rhythm in ``meta``.

That is, in rq-scheduler 0.13 and 0.14: a member of its sorted set, whose score is the
due time, and RQ's hash of the job that is enqueued each time.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo

from .. import serializer
from ..content import JSON, PICKLE
from ..errors import ContentDisallowed
from ..job import RQ_TIMEOUT, StoredJob
from .schedules import At, Schedule, crontab, every

_CALLBACK = "it has a callback of RQ's: give the task a hook, or a link"
_NOT_KEPT = {
    "success_callback_name": _CALLBACK,
    "failure_callback_name": _CALLBACK,
    "stopped_callback_name": _CALLBACK,
    "dependency_id": "it depends on another job, which an entry cannot",
    "dependency_ids": "it depends on another job, which an entry cannot",
    "webhooks": "it has webhooks of RQ's, which an entry cannot have",
}
"""What would be lost, by the field that says so."""

FIELDS = (
    *("data", "meta", "origin", "timeout", "result_ttl", "failure_ttl", "ttl"),
    *("enqueue_at_front", *_NOT_KEPT),
)
"""Fields of the hash that are read here."""

_OF_SCHEDULER = {"interval", "cron_string", "use_local_timezone", "queue_class_name"}
"""What rq-scheduler itself keeps in a job's ``meta``."""

_HIGHEST = (59, 59, 23, 31, 12, 6)
"""Of each field of a cron text, seconds first."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What an entry of plain rq-scheduler says.

    :param parts: As ``TASKQUEUE_BEAT_SCHEDULE`` has them.
    :param left_out: Names of values in ``meta`` that are the user's own: there is no
        place for them.
    """

    due: datetime
    parts: dict[str, t.Any]
    left_out: tuple[str, ...] = ()


def read(
    stored: StoredJob,
    due: datetime,
    zone: tzinfo,
    *,
    accept: Collection[str],
    max_bytes: int,
) -> Foreign:
    """What an entry says.

    :param stored: Its job, with :data:`FIELDS`.
    :param due: When it is due.
    :param zone: Of its cron text.
    :param accept: Content types that may be decoded.
    :param max_bytes: Most bytes its call, or its ``meta``, may have.
    :raises ContentDisallowed: It is in a content type that is not accepted.
    :raises ValueError: It cannot be read, or kept as it is; the text says why.
    """
    for field, reason in _NOT_KEPT.items():
        if stored.text(field) not in ("", "[]"):
            raise ValueError(reason)
    data, raw_meta = stored.data(max_bytes), stored.fields.get(b"meta", b"")
    content = serializer.content_type_of(data)
    contents = {content, _content_of_meta(raw_meta)} if raw_meta else {content}
    _check_accepted(contents, accept)
    task, instance, args, kwargs = serializer.load_call(
        data, content, accept, max_bytes
    )
    if instance is not None:
        raise ValueError("it calls a method of an object: only functions can be tasks")
    meta = _meta(raw_meta, accept, max_bytes)
    parts = {"task": task, "schedule": _schedule(meta, due, zone)}
    parts |= {"args": args, "kwargs": kwargs, "options": _options(stored)}
    left_out = sorted(name for name in meta if name not in _OF_SCHEDULER)
    return Foreign(due, parts, tuple(left_out))


def _check_accepted(contents: Collection[str], accept: Collection[str]) -> None:
    """Refuse what may not be decoded, with the setting that would allow it."""
    missing = sorted(content for content in contents if content not in accept)
    if missing:
        wanted, key = [*accept, *missing], "TASKQUEUE_ACCEPT_CONTENT"
        raise ContentDisallowed(
            f"it is in {' and '.join(map(repr, missing))}, which {key} does not name:"
            " if you know who made it, run this once with"
            f" FLASK_{key}={','.join(wanted)} where the app reads FLASK_ variables,"
            f" else with {key} = {json.dumps(wanted)}"
        )


def _content_of_meta(raw: bytes) -> str:
    return PICKLE if raw.startswith(b"\x80") else JSON


def _meta(raw: bytes, accept: Collection[str], max_bytes: int) -> dict[str, t.Any]:
    """A job's ``meta``: another scheduler may have written it in another content type
    than the arguments."""
    if not raw:
        return {}
    if len(raw) > max_bytes:
        raise ValueError(f"its meta has more than {max_bytes} bytes")
    meta = serializer.loads(raw, _content_of_meta(raw), accept)
    if not isinstance(meta, dict) or not all(isinstance(name, str) for name in meta):
        raise ValueError("its meta is no dict of values by name")
    return meta


def _schedule(meta: Mapping[str, t.Any], due: datetime, zone: tzinfo) -> Schedule:
    """Its rhythm, by the rules rq-scheduler goes on with after it enqueued the job."""
    if meta.get("repeat") is not None:
        raise ValueError(
            f"it ends after {meta['repeat']!a:.20} more times, which an entry cannot"
        )
    if interval := meta.get("interval"):
        return every(interval)
    if text := meta.get("cron_string"):
        return crontab.from_string(translated(str(text)), tz=zone)
    return At(due)


def translated(text: str) -> str:
    """A cron text of the ``crontab`` library in this package's grammar.

    What differs: ``?`` is ``*``, a step needs no last value, and a sixth field is a
    year: only a seventh makes the first one seconds.

    :raises ValueError: It names a year, or has too few or too many fields.
    """
    if text.startswith("@"):
        return text
    fields = text.lower().replace("?", "*").split()
    if len(fields) not in (5, 6, 7):
        raise ValueError(f"expected a cron text of 5 to 7 fields, got {text!r}")
    if len(fields) > 5 and fields.pop() != "*":
        raise ValueError(f"the cron text {text!r} names a year, which an entry cannot")
    # A range of days ends with the Sunday after it: "0-0" is the whole week.
    fields[-1] = re.sub(r"-(?:0|sun)\b", "-7", fields[-1])
    return " ".join(map(_field, fields, _HIGHEST[-len(fields) :]))


def _field(field: str, highest: int) -> str:
    pieces = field.split(",")
    if "*" in pieces:
        return "*"
    # "5/15" goes up to the highest value: it is 5-59/15.
    return ",".join(re.sub(r"^(\w+)(?=/)", rf"\1-{highest}", piece) for piece in pieces)


def _options(stored: StoredJob) -> dict[str, t.Any]:
    """Options of a call, from the fields RQ's worker goes by."""
    options: dict[str, t.Any] = {}
    if queue := stored.text("origin"):
        options["queue"] = queue
    timeout = stored.number("timeout")
    if timeout and timeout != RQ_TIMEOUT:
        # RQ's -1 is no limit at all, also where the app has one.
        options["time_limit"] = timeout if timeout > 0 else None
    for field, option in (("result_ttl", "result_ttl"), ("failure_ttl", "failure_ttl")):
        seconds = stored.number(field)
        if seconds is not None and seconds >= 0:
            options[option] = int(seconds)
    if ttl := stored.number("ttl"):
        options["expires"] = ttl
    if stored.text("enqueue_at_front") not in ("", "0"):
        options["priority"] = 1
    return options
