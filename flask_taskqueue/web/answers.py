"""Answers of the endpoint: a job, or a problem as RFC 9457 describes it."""

from __future__ import annotations

import hashlib
import json
import typing as t
from dataclasses import dataclass
from http import HTTPStatus

from flask import Response, url_for

from ..appstate import AppState
from ..inspector import Snapshot
from ..readable import UNREADABLE
from .describe import text_of
from .permission import TRACEBACK, answers_for

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

RETRY_AFTER = "1"
"""Seconds after which to ask again."""

NOT_KEPT = "private, no-store"
"""``Cache-Control`` of what may change at any moment."""


class Problem(Exception):
    """Why a request is not answered with a job.

    :param code: HTTP status.
    :param detail: One sentence for whoever reads the answer.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    def answer(self) -> Response:
        """The problem as JSON."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.code).phrase,
            "status": self.code,
            "detail": self.detail,
        }
        text = json.dumps(body) + "\n"
        answer = Response(text, self.code, mimetype="application/problem+json")
        answer.headers["Cache-Control"] = NOT_KEPT
        if self.code == HTTPStatus.SERVICE_UNAVAILABLE:
            answer.headers["Retry-After"] = RETRY_AFTER
        return answer


def not_there() -> Problem:
    """Of jobs that do not exist, of those that must look so, and of those of which
    nobody can be told whose they are."""
    return Problem(404, "There is no such job.")


def unreadable() -> Problem:
    """Of jobs whose fields are not what they should be."""
    return Problem(404, "What is stored of this job cannot be read.")


def unavailable() -> Problem:
    """Redis is away."""
    return Problem(503, "Redis cannot be reached; ask again.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What answers about a job need of their request, taken while there is one.

    :param may: What it may do with the job.
    :param links: Paths of what else can be asked about it, by name.
    """

    state: AppState
    may: frozenset[str]
    links: dict[str, str]
    environ: WSGIEnvironment

    def text(self, job: Snapshot) -> str:
        """The job as JSON.

        :raises Problem: What is stored of it cannot be read.
        """
        traceback = TRACEBACK in self.may or self.state.app.debug
        try:
            return text_of(job, self.links, traceback=traceback) + "\n"
        except UNREADABLE:
            # Its state: without that nothing can be said.
            raise unreadable() from None

    def answer(self, job: Snapshot) -> Response:
        """The job as it is now, or that this is known to the client already.

        :raises Problem: It is gone, or what is stored of it cannot be read.
        """
        if not job.stored.exists:
            raise not_there()
        text = self.text(job)
        answer = job_answer(text)
        if job.ready:
            answer.headers["Cache-Control"] = "private, no-cache"
            answer.set_etag(tag(text))
            if "HTTP_IF_NONE_MATCH" in self.environ:
                answer.make_conditional(self.environ)
        else:
            answer.headers["Retry-After"] = RETRY_AFTER
        return answer


def job_answer(text: str, code: int = 200) -> Response:
    """An answer that holds a job."""
    answer = Response(text, code, mimetype="application/json")
    answer.headers["Cache-Control"] = NOT_KEPT
    return answer


def tag(text: str) -> str:
    """Tells one body from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def links_of(state: AppState, job_id: str) -> dict[str, str]:
    """Paths of what can be asked about a job, by name, in a request; none where the
    endpoint does not answer for it."""
    if not answers_for(state, job_id):
        return {}
    links = {"self": url_for("taskqueue.status", job_id=job_id)}
    if state.config.max_streams:
        links["events"] = url_for("taskqueue.events", job_id=job_id)
    return links
