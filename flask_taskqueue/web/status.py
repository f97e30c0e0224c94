"""The JSON endpoint of one job: its routes, and which of them answers what."""

from __future__ import annotations

import json
import typing as t
from contextlib import ExitStack, suppress

from flask import Blueprint, Flask, Response, request
from werkzeug.routing import BaseConverter

from .. import control, inspector, parsing
from ..appstate import AppState, current_state
from ..errors import BrokerUnavailable, JobNotFound
from ..inspector import Snapshot
from ..readable import UNREADABLE
from ..result import AsyncResult
from . import events as streams
from . import waiting
from .answers import (
    RETRY_AFTER,
    Asked,
    Problem,
    job_answer,
    links_of,
    not_there,
    unavailable,
    unreadable,
)
from .describe import is_over, is_replaced, state_of
from .openapi import openapi
from .permission import (
    READ,
    REVOKE,
    UUID,
    answers_for,
    permitted,
    permitted_or_nothing,
)
from .watching import Watch, hub_of


class _UuidConverter(BaseConverter):
    """Ids that are their own permission."""

    regex = UUID
    # Before the app's own "/tasks/<slug>", which has 100.
    weight = 50


class _AnyIdConverter(BaseConverter):
    """Whatever the app has no rule of its own for: also what no job can be named,
    which is to look like an id that is unknown."""

    # After the app's own "/tasks/<slug>" and "/tasks/<path:rest>".
    weight = 300


def blueprint() -> Blueprint:
    """The endpoint, as ``taskqueue.status`` and ``taskqueue.events``."""
    blueprint = Blueprint("taskqueue", __name__, static_folder="static")

    @blueprint.record_once
    def add_converters(setup: t.Any) -> None:
        converters = setup.app.url_map.converters
        converters["taskqueue_uuid"] = _UuidConverter
        converters["taskqueue_id"] = _AnyIdConverter

    blueprint.add_url_rule("/<taskqueue_uuid:job_id>", "status", status)
    blueprint.add_url_rule("/<taskqueue_uuid:job_id>/events", "events", events)
    # In the place of the file below the static folder.
    blueprint.add_url_rule("/static/openapi.json", "openapi", openapi)
    blueprint.register_error_handler(Problem, Problem.answer)
    blueprint.register_error_handler(BrokerUnavailable, _away)
    return blueprint


def open_to_authorised(app: Flask, prefix: str) -> None:
    """Answer for ids of any form, and to those who may revoke."""
    any_id, uuid = (
        f"{prefix}/<taskqueue_id:job_id>",
        f"{prefix}/<taskqueue_uuid:job_id>",
    )
    app.add_url_rule(any_id, "taskqueue.status", status)
    app.add_url_rule(f"{any_id}/events", "taskqueue.events", events)
    # Of the job "static": else it would be one of the blueprint's files.
    static = f"{prefix}/static/events"
    app.add_url_rule(static, "taskqueue.events", events, defaults={"job_id": "static"})
    for rule in (uuid, any_id):
        app.add_url_rule(rule, "taskqueue.revoke", revoke, methods=["DELETE"])


def _away(error: BrokerUnavailable) -> Response:
    return unavailable().answer()


def status(job_id: str) -> Response:
    """Answer what is known of a job, at once or when it has ended."""
    state = current_state()
    seconds = waiting.seconds_of(request.args.get("wait"))
    with ExitStack() as stack:
        watch = _watch(state, job_id, stack) if seconds else None
        job = _read(state, job_id, watch)
        asked = _asked(state, job, _permitted(state, job))
        if watch is None or is_over(job):
            return asked.answer(job)
        answer = waiting.later(asked, watch, job, seconds)
        stack.pop_all()
        return answer


def events(job_id: str) -> Response:
    """Stream how a job is doing."""
    state = current_state()
    with ExitStack() as stack:
        watch = _watch(state, job_id, stack)
        if watch is None and _can_wait(state, job_id):
            raise Problem(503, "This process holds as many streams as it may.")
        job = _read(state, job_id, watch)
        asked = _asked(state, job, _permitted(state, job))
        if streams.is_known(asked, job, request.headers.get("Last-Event-ID", "")):
            # This is what keeps a browser from coming back.
            return Response(status=204)
        if request.method == "HEAD":
            return streams.events_answer()
        if is_over(job):
            # All is said at once: others may watch meanwhile.
            return streams.stream(asked, None, job)
        answer = streams.stream(asked, watch, job)
        stack.pop_all()
        return answer


def revoke(job_id: str) -> Response:
    """See that a job does not run."""
    state = current_state()
    terminate = _flag("terminate")
    job = _read(state, job_id)
    may = _permitted(state, job)
    if REVOKE not in may:
        raise (
            Problem(403, "This job may be read, but not revoked.")
            if READ in may
            else not_there()
        )
    created = job.stored.fields.get(b"created_at", b"")
    with suppress(JobNotFound):
        control.revoke(state, job_id, terminate=terminate, created=created)
    if READ not in may:
        return Response(status=204)
    found = _read(state, job_id)
    if is_replaced(job, found):
        raise not_there()
    text = _asked(state, found, may).text(found)
    if is_over(found):
        return job_answer(text)
    return _later(job_answer(text, 202))


def accepted(state: AppState, result: AsyncResult[t.Any]) -> Response:
    """A view's 202: the job as it is now, and where to ask for it.

    While Redis is away, and where the authoriser refuses the request, it has the id
    and the links only: the call was accepted all the same.
    """
    links = links_of(state, result.id)
    try:
        text = _accepted(state, result.id)
    except Problem as problem:
        return problem.answer()
    except BrokerUnavailable:
        text = None
    brief = {"id": result.id, "links": links}
    answer = job_answer(json.dumps(brief) + "\n" if text is None else text, 202)
    if "self" in links:
        answer.headers["Location"] = links["self"]
    return _later(answer)


def _accepted(state: AppState, job_id: str) -> str | None:
    """A job for who enqueued it; ``None`` where the authoriser refuses that.

    :raises Problem: It is gone, or what is stored of it cannot be read.
    """
    try:
        job = inspector.snapshot(state, job_id)
    except UNREADABLE:
        raise not_there() from None
    if not job.stored.exists:
        raise not_there()
    may = permitted_or_nothing(state, job)
    return _asked(state, job, may).text(job) if READ in may else None


def _later(answer: Response) -> Response:
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def _can_wait(state: AppState, job_id: str) -> bool:
    """Whether there may be something to wait for."""
    if request.method == "HEAD" or not answers_for(state, job_id):
        return False
    # An eager job has ended, or says no more than it does now.
    return inspector.local_fields(state, job_id) is None


def _watch(state: AppState, job_id: str, stack: ExitStack) -> Watch | None:
    """Watch a job until the stack is left; ``None`` where that is of no use, or there
    are as many watches as there may be."""
    watch = hub_of(state).watch(job_id) if _can_wait(state, job_id) else None
    if watch is not None:
        stack.callback(watch.close)
    return watch


def _read(state: AppState, job_id: str, watch: Watch | None = None) -> Snapshot:
    if not answers_for(state, job_id):
        raise not_there()
    try:
        return inspector.snapshot(state, job_id) if watch is None else watch.first()
    except UNREADABLE:
        # The authoriser cannot be asked about it.
        raise not_there() from None


def _permitted(state: AppState, job: Snapshot) -> frozenset[str]:
    # Nobody is asked about a job that does not exist.
    return permitted(state, job) if job.stored.exists else frozenset()


def _asked(state: AppState, job: Snapshot, may: frozenset[str]) -> Asked:
    """What the answer to the current request needs.

    :raises Problem: There is no such job, it must look so, or its state cannot be
        read.
    """
    if READ not in may or not job.stored.exists:
        raise not_there()
    try:
        state_of(job)
    except UNREADABLE:
        raise unreadable() from None
    return Asked(state, may, links_of(state, job.stored.id), request.environ)


def _flag(name: str) -> bool:
    try:
        return parsing.flag(request.args.get(name, "0"))
    except ValueError:
        raise Problem(400, f"Expected {name} to be 1 or 0.") from None
