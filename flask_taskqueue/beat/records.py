"""The record of an entry in Redis: names of its fields, their only writer and reader.

The definition part says what the entry is; beats and commands write it whole. The
state part says what became of it; the scripts write that.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
import typing as t
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from .. import serializer
from ..broker.wire import Argument, raw, text
from ..errors import DecodeError, PayloadTooLarge
from ..job import COUNT_MOST
from ..option_values import TASK_ID
from ..patterns import check_queue_name
from ..readable import UNREADABLE
from ..signing import Signer
from .entries import Entry, entry_id, read_entry
from .epoch import from_epoch
from .packing import Targets, options_of, ordered, packed_options
from .schedules import from_stored

DEFINITION = (
    "name", "app", "source", "task", "queue", "definition", "call", "content",
)  # fmt: skip
"""Fields that say what the entry is, in the order of the fingerprint."""

SIGNED = (*DEFINITION, "fingerprint", "rhythm")
"""Fields that the signature covers, in order."""

Source = t.Literal["code", "run"]
"""Where an entry was made: it stands in the code, or was added at run time."""

PROBLEM_MOST = 500
"""Characters of a problem's text at most: it may quote a value of a megabyte."""

_JSON = serializer.CONTENT_TYPES[0]
_WRONG = (
    *UNREADABLE, ArithmeticError, AttributeError, LookupError, RecursionError,
    TypeError, ValueError,
)  # fmt: skip

_brief = reprlib.Repr()
_brief.maxother = _brief.maxstring = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An entry as Redis has it.

    :param name: The entry's; its id where the name cannot be read.
    :param entry: ``None`` where the record cannot be read; it does not fire then.
    :param problem: Why it cannot be read; ``""`` where it can.
    :param source: A :data:`Source`; ``""`` where the record has none.
    :param queue: Of its jobs.
    :param fingerprint: Of the whole definition part.
    :param rhythm: Of the schedule and its zone alone.
    :param next: When it fires next; ``None`` where it does not.
    :param ended: Over: a one-off that has fired, or was past when it was to be due.
    :param cancelled: Taken out of the schedule by rq-scheduler's own API.
    :param count: Firings so far.
    :param last_due: Due time of the last firing.
    :param last_at: When that was fired.
    :param last_job: Id of the job made last, by a firing or a trigger.
    """

    id: str
    name: str
    entry: Entry | None = None
    problem: str = ""
    source: str = ""
    queue: str = ""
    fingerprint: str = ""
    rhythm: str = ""
    next: datetime | None = None
    paused: bool = False
    ended: bool = False
    cancelled: bool = False
    count: int = 0
    last_due: datetime | None = None
    last_at: datetime | None = None
    last_job: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How an app reads its records.

    :param accept: Content types that may be decoded.
    :param signer: Checks the signature; ``None`` where signing is off.
    :param limit: Most bytes of the arguments of an entry, and of the rest.
    :param targets: Finds what a link calls.
    """

    accept: Collection[str]
    signer: Signer | None
    limit: int
    targets: Targets


def dump(
    entry: Entry,
    app_name: str,
    source: Source,
    queue: str,
    content: str,
    signer: Signer | None,
    max_args_bytes: int,
) -> dict[str, Argument]:
    """The definition part of an entry's record.

    :param queue: Where its jobs go.
    :param content: Content type of its arguments. Those of links are JSON.
    :raises TypeError: An argument cannot be encoded.
    :raises PayloadTooLarge: The arguments, or the rest, are over ``max_args_bytes``.
    """
    schedule = entry.schedule.stored()
    definition = serializer.dumps(
        {
            "schedule": schedule,
            "options": packed_options(entry.options),
            "enabled": entry.enabled,
            "overlap": entry.overlap,
            "misfire": entry.misfire,
            "grace": entry.grace,
        }
    )
    _check_size(definition, max_args_bytes)
    kwargs = ordered(entry.kwargs)
    fields: dict[str, Argument] = {
        "name": entry.name,
        "app": app_name,
        "source": source,
        "task": entry.task,
        "queue": queue,
        "definition": definition,
        "call": serializer.dump_call(
            entry.task, entry.args, kwargs, content, max_args_bytes
        ),
        "content": content,
    }
    fields["fingerprint"] = _fingerprint(fields)
    fields["rhythm"] = _digest([_canonical(serializer.dumps(schedule))])
    if signer is not None:
        fields["sig"] = signer.sign(
            *_signed(entry_id(app_name, entry.name), raw(fields))
        )
    return fields


def load(
    entry_id: str,
    fields: Mapping[bytes, bytes],
    score: float | None,
    reading: Reading,
) -> Record:
    """An entry's record from its hash. The data may come from anyone.

    :param score: When it is due, in seconds since the epoch; ``None``: not at all.
    :return: What cannot be read has no entry, and says why.
    """
    shown = {name.decode("ascii", "replace"): text(v) for name, v in fields.items()}
    known: dict[str, t.Any] = {
        "id": entry_id,
        "name": shown.get("name") or entry_id,
        **{
            name: shown.get(name, "")
            for name in ("source", "queue", "fingerprint", "rhythm")
        },
        **{name: shown.get(name) == "1" for name in ("paused", "ended", "cancelled")},
    }
    try:
        known |= _state(shown, score)
        if reading.signer is not None:
            reading.signer.verify(fields.get(b"sig"), *_signed(entry_id, fields))
        known["entry"] = _entry(entry_id, fields, reading)
    except _WRONG as error:
        known["problem"] = _problem(error)
    return Record(**known)


def _state(shown: Mapping[str, str], score: float | None) -> dict[str, t.Any]:
    """What became of it."""
    count = shown.get("count") or "0"
    if not (count.isascii() and count.isdigit() and len(count) <= len(f"{COUNT_MOST}")):
        raise DecodeError("the record's field 'count' is not a count")
    last_job = shown.get("last_job") or None
    if last_job is not None and not TASK_ID.fullmatch(last_job):
        raise DecodeError("the record's field 'last_job' is not the id of a job")
    return {
        "next": None if score is None else _instant("due", score),
        "count": int(count),
        "last_due": _instant("last_due", shown.get("last_due")),
        "last_at": _instant("last_at", shown.get("last_at")),
        "last_job": last_job,
    }


def _instant(name: str, value: str | float | None) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        return from_epoch(value)
    except _WRONG:
        raise DecodeError(f"the record's field {name!r} is not an instant") from None


def _entry(id: str, fields: Mapping[bytes, bytes], reading: Reading) -> Entry:
    name, app, source, task, queue, content = (
        fields[field.encode()].decode()
        for field in ("name", "app", "source", "task", "queue", "content")
    )
    # Another entry's record, copied here, would fire under this one's id.
    if entry_id(app, name) != id:
        raise DecodeError(f"the record is that of {entry_id(app, name)}")
    if source not in t.get_args(Source):
        raise DecodeError(f"the record's source {_brief.repr(source)} is unknown")
    check_queue_name(queue)
    called, _, args, kwargs = serializer.load_call(
        fields[b"call"], content, reading.accept, reading.limit
    )
    if called != task:
        raise DecodeError("the record's arguments are those of another task")
    definition = fields[b"definition"]
    _check_size(definition, reading.limit)
    parts = serializer.loads(definition, _JSON, (_JSON,))
    parts["schedule"] = from_stored(parts["schedule"])
    parts["options"] = options_of(parts["options"], reading.targets)
    return read_entry(
        name, {**parts, "task": task, "args": args, "kwargs": kwargs}, UTC
    )


def _problem(error: Exception) -> str:
    """Why a record cannot be read, in one line of bounded length."""
    if isinstance(error, KeyError):
        key = error.args[0]
        name = text(key) if isinstance(key, bytes) else key
        return f"the record lacks {_brief.repr(name)}"
    if isinstance(error, RecursionError):
        return "the record is nested too deeply"
    return f"{error}"[:PROBLEM_MOST] or type(error).__name__


def _signed(id: str, fields: Mapping[bytes, bytes]) -> list[bytes]:
    """What the signature of a record covers, in order."""
    rest = [fields.get(name.encode(), b"") for name in SIGNED]
    return [id.encode(), b"entry", *rest]


def _fingerprint(fields: Mapping[str, Argument]) -> str:
    """Equal definitions have equal ones, whatever the order of their dicts.

    Of pickled or msgpack arguments the bytes count.
    """
    parts = []
    for name, value in raw({name: fields[name] for name in DEFINITION}).items():
        is_json = name == b"definition" or (
            name == b"call" and fields["content"] == _JSON
        )
        parts.append(_canonical(value) if is_json else value)
    return _digest(parts)


def _canonical(data: bytes) -> bytes:
    """JSON with its objects in order."""
    return json.dumps(json.loads(data), sort_keys=True).encode()


def _digest(parts: Collection[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # Why the lengths: ("ab", "c") and ("a", "bc") must differ.
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def _check_size(definition: bytes, limit: int) -> None:
    if len(definition) > limit:
        raise PayloadTooLarge(
            f"expected schedule and options of an entry to be at most {limit} bytes"
            f" (TASKQUEUE_MAX_ARGS_BYTES), got {len(definition)} bytes"
        )
