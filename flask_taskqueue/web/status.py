"""The JSON endpoint of one job: ``GET /tasks/<id>``."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from collections.abc import Callable
from datetime import UTC

from flask import Blueprint, Response, current_app, request, url_for
from werkzeug.routing import BaseConverter

from .. import inspector, states
from ..appstate import AppState, current_state
from ..errors import (
    BadSignature,
    BrokerUnavailable,
    ContentDisallowed,
    DecodeError,
    PayloadTooLarge,
    TaskFailed,
)
from ..inspector import Snapshot
from ..job import StoredJob
from ..result import AsyncResult
from ..stored_error import load_error

RETRY_AFTER = "1"
"""Seconds after which to ask again."""

_PICKLE_BEGINS = b"g"
"""First letter of a pickle in base64: of no JSON text's."""

UNREADABLE = (BadSignature, ContentDisallowed, DecodeError, PayloadTooLarge)
"""What is wrong with a stored job, not with the app that reads it."""

T = t.TypeVar("T")

UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"


class JobIdConverter(BaseConverter):
    """Ids of jobs that are their own permission: 122 random bits. What else lies
    below the prefix stays the app's own."""

    regex = UUID
    # Before the app's own "/tasks/<slug>", which has 100.
    weight = 50


def blueprint() -> Blueprint:
    """The endpoint, as ``taskqueue.status``."""
    blueprint = Blueprint("taskqueue", __name__)

    @blueprint.record_once
    def add_converter(setup: t.Any) -> None:
        setup.app.url_map.converters["taskqueue_id"] = JobIdConverter

    blueprint.add_url_rule("/<taskqueue_id:job_id>", "status", status)
    return blueprint


def status(job_id: str) -> Response:
    """Answer what is known of a job."""
    state = current_state()
    try:
        job = inspector.snapshot(state, job_id)
        if not job.stored.exists:
            return problem(404, "There is no such job.")
        # Asked first: without it nothing can be said.
        ready, _ = job.ready, job.state
    except BrokerUnavailable:
        answer = problem(503, "Redis cannot be reached; ask again.")
        answer.headers["Retry-After"] = RETRY_AFTER
        return answer
    except UNREADABLE:
        return problem(404, "What is stored of this job cannot be read.")
    answer = answer_of(job)
    if ready:
        answer.headers["Cache-Control"] = "private, no-cache"
        answer.set_etag(hashlib.sha256(answer.get_data()).hexdigest()[:32])
        answer.make_conditional(request)
    else:
        answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def answer_of(job: Snapshot, code: int = 200) -> Response:
    """The answer for a job that exists and can be read."""
    answer = Response(_text(describe(job)), code, mimetype="application/json")
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


def accepted(state: AppState, result: AsyncResult[t.Any]) -> Response:
    """A view's 202: the job as it is now, and where to ask for it."""
    job = inspector.snapshot(state, result.id)
    answer = answer_of(job, 202) if job.stored.exists else problem(404, "No such job.")
    if link := _link(result.id):
        answer.headers["Location"] = link
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def describe(job: Snapshot) -> dict[str, t.Any]:
    """A job as JSON values. Never its arguments."""
    stored = job.stored
    body: dict[str, t.Any] = {
        "id": stored.id,
        "task": _told(lambda: stored.name),
        "state": job.state,
        "ready": job.ready,
        "successful": job.ready and job.state == states.SUCCESS,
        "result": None,
        "error": _error(job),
        "progress": _told(lambda: _progress(job)),
        "queue": stored.queue,
        "retries": _told(lambda: stored.retries),
        "max_retries": _told(lambda: stored.policy.max_retries),
        "recoveries": _told(lambda: stored.recoveries),
        "eta": _instant(stored, "tq_eta"),
        "enqueued_at": _instant(stored, "enqueued_at"),
        "started_at": _instant(stored, "started_at"),
        "ended_at": _instant(stored, "ended_at"),
        "runtime": _told(lambda: stored.number("tq_runtime")),
        "children": _told(lambda: stored.children) or [],
        "links": {},
    }
    body.update(_result(job))
    if link := _link(stored.id):
        body["links"]["self"] = link
    if current_app.debug and (trace := _told(lambda: job.traceback)):
        body["traceback"] = trace
    return body


def _told(read: Callable[[], T]) -> T | None:
    """What a job says; ``None`` where that cannot be read: the rest still can."""
    try:
        return read()
    except UNREADABLE:
        return None


def _progress(job: Snapshot) -> t.Any:
    said = job.said or None
    try:
        _check_json(said)
    except (TypeError, ValueError, RecursionError):
        return None
    return said


def _result(job: Snapshot) -> dict[str, t.Any]:
    """The result, or why it is not shown: nothing pickled is decoded here."""
    raw = job.entry.get(b"return_value")
    if job.stored.status != "finished" or raw is None:
        return {}
    try:
        if _is_pickled(job.stored, raw):
            return {"result_type": "pickle"}
        value = job.value
        _check_json(value)
    except UNREADABLE as error:
        return {"result_type": type(error).__name__}
    except (TypeError, ValueError, RecursionError):
        return {"result_type": type(value).__name__}
    return {"result": value}


def _check_json(value: object) -> None:
    """Return if the app can write a value as JSON that every browser reads.

    :raises ValueError: It holds NaN or an infinity, or text that has no bytes.
    :raises TypeError: It holds something else that is no JSON.
    """
    text = current_app.json.dumps(value)
    text.encode()
    if "NaN" in text or "Infinity" in text:
        json.loads(text, parse_constant=_refuse_constant)


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
    found = _told(lambda: job.error)
    if isinstance(found, TaskFailed):
        return {"type": found.type_name, "message": found.text}
    return {"type": type(found).__name__, "message": str(found)} if found else None


def _instant(stored: StoredJob, name: str) -> str | None:
    """A field as ISO 8601 with offset and milliseconds."""
    instant = _told(lambda: stored.instant(name))
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")


def _link(job_id: str) -> str | None:
    """Where the job can be asked for; ``None`` where the endpoint is left out, or
    the id is none it answers for."""
    if "taskqueue.status" not in current_app.view_functions:
        return None
    if not re.fullmatch(UUID, job_id):
        return None
    return url_for("taskqueue.status", job_id=job_id)


def problem(code: int, detail: str) -> Response:
    """An error as RFC 9457 describes it."""
    title = {404: "Not Found", 503: "Service Unavailable"}[code]
    body = {"type": "about:blank", "title": title, "status": code, "detail": detail}
    answer = Response(_text(body), code, mimetype="application/problem+json")
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


def _text(body: dict[str, t.Any]) -> str:
    try:
        return current_app.json.dumps(body) + "\n"
    except TypeError:
        return json.dumps(body, default=repr) + "\n"
