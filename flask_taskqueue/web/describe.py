"""A job as JSON values."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping
from datetime import UTC, datetime

from flask import Flask

from .. import states
from ..errors import TaskFailed
from ..inspector import Snapshot
from ..job import StoredJob
from ..readable import UNREADABLE, readable
from ..stored_error import load_error

_PICKLE_BEGINS = b"g"
"""First letter of a pickle in base64: of no JSON text's."""

_NO_JSON = (TypeError, ValueError, RecursionError)
"""What is wrong with a value that cannot be written as JSON."""


def describe(
    job: Snapshot, links: Mapping[str, str], *, traceback: bool
) -> dict[str, t.Any]:
    """A job as JSON values. Never its arguments.

    :param links: Paths of what else can be asked about it, by name.
    :param traceback: Show that of its exception, too.
    """
    return _written(job, links, traceback)[0]


def text_of(job: Snapshot, links: Mapping[str, str], *, traceback: bool) -> str:
    """What :func:`describe` gives, as the app writes JSON. Needs no context."""
    return _written(job, links, traceback)[1]


def _written(
    job: Snapshot, links: Mapping[str, str], traceback: bool
) -> tuple[dict[str, t.Any], str]:
    body = _body(job, links, traceback)
    try:
        return body, _json(job.app, body)
    except _NO_JSON:
        for name in ("progress", "result"):
            _clear_unless_json(job.app, body, name)
        # In the rest a text may have no bytes.
        text = job.app.json.dumps(body)
        return body, text.encode(errors="replace").decode()


def _clear_unless_json(app: Flask, body: dict[str, t.Any], name: str) -> None:
    value = body[name]
    try:
        _json(app, {name: value})
    except _NO_JSON:
        body[name] = None
        if name == "result":
            body["result_type"] = type(value).__name__


def _body(job: Snapshot, links: Mapping[str, str], traceback: bool) -> dict[str, t.Any]:
    """A job; its result and progress may be no JSON."""
    stored = job.stored
    body: dict[str, t.Any] = {
        "id": stored.id,
        "task": readable(lambda: stored.name),
        "state": job.state,
        "ready": job.ready,
        "successful": job.ready and job.state == states.SUCCESS,
        "result": None,
        "error": _error(job),
        "progress": _said(job),
        "queue": stored.queue,
        "retries": readable(lambda: stored.retries),
        "max_retries": readable(lambda: stored.policy.max_retries),
        "recoveries": readable(lambda: stored.recoveries),
        "eta": _instant(stored, "tq_eta"),
        "enqueued_at": _instant(stored, "enqueued_at"),
        "started_at": _instant(stored, "started_at"),
        "ended_at": _instant(stored, "ended_at"),
        "runtime": readable(lambda: stored.number("tq_runtime")),
        "children": readable(lambda: stored.children) or [],
        "links": dict(links),
    }
    body.update(_result(job))
    if traceback and (trace := readable(lambda: job.traceback)):
        body["traceback"] = trace
    return body


def state_of(job: Snapshot) -> dict[str, t.Any]:
    """What of a job changes while it waits and runs, as JSON values."""
    stored = job.stored
    return {
        "state": job.state,
        "ready": job.ready,
        "retries": readable(lambda: stored.retries),
        "recoveries": readable(lambda: stored.recoveries),
    }


def is_over(job: Snapshot) -> bool:
    """Whether nothing more will come: it has ended, is gone, or cannot be read."""
    try:
        return not job.stored.exists or job.ready
    except UNREADABLE:
        return True


def is_replaced(job: Snapshot, found: Snapshot) -> bool:
    """Whether another job has taken a job's id: who may read the one may not be
    allowed the other."""
    begun, again = (x.stored.fields.get(b"created_at") for x in (job, found))
    return found.stored.exists and begun != again


def progress(job: Snapshot) -> t.Any:
    """What the running task last said of itself; ``None`` where it said nothing, or
    nothing that the app can write as JSON."""
    said = _said(job)
    try:
        _json(job.app, said)
    except _NO_JSON:
        return None
    return said


def progress_text(job: Snapshot) -> str:
    """What :func:`progress` gives, as the app writes JSON. Needs no context."""
    try:
        return _json(job.app, _said(job))
    except _NO_JSON:
        return "null"


def _said(job: Snapshot) -> t.Any:
    return readable(lambda: job.said) or None


def _result(job: Snapshot) -> dict[str, t.Any]:
    """The result, or why it is not shown: nothing pickled is decoded here."""
    raw = job.entry.get(b"return_value")
    if job.stored.status != "finished" or raw is None:
        return {}
    try:
        if _is_pickled(job.stored, raw):
            return {"result_type": "pickle"}
        return {"result": job.value}
    except UNREADABLE as error:
        return {"result_type": type(error).__name__}


def _json(app: Flask, value: object) -> str:
    """A value as the app writes JSON, if that is what every browser reads.

    :raises ValueError: It holds NaN or an infinity, or text that has no bytes.
    :raises TypeError: It holds something else that is no JSON.
    """
    text = app.json.dumps(value)
    text.encode()
    if "NaN" in text or "Infinity" in text:
        json.loads(text, parse_constant=_refuse_constant)
    return text


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is no JSON")


def _is_pickled(stored: StoredJob, raw: bytes) -> bool:
    # A plain rq job says nothing of its content type: its result does, in base64.
    content = stored.text("tq_content")
    return content == "pickle" or (not content and raw[:1] == _PICKLE_BEGINS)


def _error(job: Snapshot) -> dict[str, str] | None:
    if raw := job.stored_error:
        try:
            error = load_error(raw)
        except UNREADABLE:
            return {"type": "unknown", "message": ""}
        return {"type": error["type"], "message": error["message"]}
    found = readable(lambda: job.error)
    if isinstance(found, TaskFailed):
        return {"type": found.type_name, "message": found.text}
    return {"type": type(found).__name__, "message": str(found)} if found else None


def _instant(stored: StoredJob, name: str) -> str | None:
    """A field as ISO 8601 with offset and milliseconds."""
    return iso(readable(lambda: stored.instant(name)))


def iso(instant: datetime | None) -> str | None:
    """ISO 8601 with offset and milliseconds, as in all JSON."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")
