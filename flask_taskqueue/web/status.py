"""The JSON endpoint of one job: ``GET /tasks/<id>``."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from datetime import UTC, datetime

from flask import Blueprint, Response, current_app, request, url_for
from werkzeug.routing import BaseConverter

from .. import inspector
from ..appstate import AppState, current_state
from ..errors import BrokerUnavailable, TaskQueueError
from ..inspector import Snapshot
from ..result import AsyncResult
from ..stored_error import load_error

RETRY_AFTER = "1"
"""Seconds after which to ask again."""

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
        job = inspector.snapshot(state, job_id.lower())
    except BrokerUnavailable:
        answer = problem(503, "Redis cannot be reached; ask again.")
        answer.headers["Retry-After"] = RETRY_AFTER
        return answer
    if not job.stored.exists:
        return problem(404, "There is no such job.")
    return answer_of(job)


def answer_of(job: Snapshot, code: int = 200) -> Response:
    """The answer for a job that exists, with what tells clients when to ask again."""
    body, ready = describe(job), job.ready
    answer = Response(_text(body), code, mimetype="application/json")
    if ready:
        answer.headers["Cache-Control"] = "private, no-cache"
        answer.set_etag(hashlib.sha256(answer.get_data()).hexdigest()[:32])
        answer.make_conditional(request)
        return answer
    answer.headers["Cache-Control"] = "private, no-store"
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def accepted(state: AppState, result: AsyncResult[t.Any]) -> Response:
    """A view's 202: the job as it is now, and where to ask for it."""
    job = inspector.snapshot(state, result.id)
    answer = answer_of(job, 202) if job.stored.exists else problem(404, "No such job.")
    answer.headers.pop("ETag", None)
    if link := _link(result.id):
        answer.headers["Location"] = link
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def describe(job: Snapshot) -> dict[str, t.Any]:
    """A job as JSON values. Never its arguments."""
    stored, public = job.stored, job.state
    body: dict[str, t.Any] = {
        "id": stored.id,
        "task": stored.task or stored.text("description"),
        "state": public,
        "ready": job.ready,
        "successful": stored.status == "finished",
        "result": None,
        "error": _error(job),
        "progress": _progress(job),
        "queue": stored.queue,
        "retries": stored.retries,
        "max_retries": _max_retries(job),
        "recoveries": stored.recoveries,
        "eta": _instant(stored.instant("tq_eta")),
        "enqueued_at": _instant(stored.instant("enqueued_at")),
        "started_at": _instant(stored.instant("started_at")),
        "ended_at": _instant(stored.instant("ended_at")),
        "runtime": stored.number("tq_runtime"),
        "children": stored.children,
        "links": {},
    }
    body.update(_result(job))
    if link := _link(stored.id):
        body["links"]["self"] = link
    if current_app.debug and (trace := job.traceback):
        body["traceback"] = trace
    return body


def _result(job: Snapshot) -> dict[str, t.Any]:
    """The result, or why it is not shown: nothing pickled is decoded here."""
    raw = job.entry.get(b"return_value")
    if job.stored.status != "finished" or raw is None:
        return {}
    if job.stored.text("tq_content", "json") == "pickle":
        return {"result_type": "pickle"}
    try:
        value = job.value
        current_app.json.dumps(value)
    except TaskQueueError as error:
        return {"result_type": type(error).__name__}
    except TypeError:
        return {"result_type": type(value).__name__}
    return {"result": value}


def _error(job: Snapshot) -> dict[str, str] | None:
    raw = job.stored.fields.get(b"tq_error")
    if raw and job.stored.status != "finished":
        try:
            error = load_error(raw)
        except TaskQueueError:
            return {"type": "unknown", "message": ""}
        return {"type": error["type"], "message": error["message"]}
    found = job.error
    return {"type": type(found).__name__, "message": str(found)} if found else None


def _progress(job: Snapshot) -> t.Any:
    try:
        return job.said or None
    except TaskQueueError:
        return None


def _max_retries(job: Snapshot) -> int | None:
    try:
        return job.stored.policy.max_retries
    except TaskQueueError:
        return None


def _instant(instant: datetime | None) -> str | None:
    """ISO 8601 with offset and milliseconds."""
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
