"""``{{ task_progress(result) }}``: how a job is doing, in the app's pages."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, current_app, has_request_context, url_for
from markupsafe import Markup

from .. import inspector, states
from ..appstate import AppState, current_state
from ..errors import BrokerUnavailable
from ..inspector import Snapshot
from ..readable import UNREADABLE
from ..result import AsyncResult
from .describe import progress
from .permission import READ, answers_for, permitted_or_nothing

TEMPLATE = "taskqueue/progress.html"
"""What a bar is made of. An app's own template of that name comes first."""

UNAVAILABLE = "UNAVAILABLE"
"""Shown instead of a state while Redis, or the endpoint, cannot be asked."""

TEXTS: Mapping[str, str] = {
    states.PENDING: "Waiting",
    states.STARTED: "Running",
    states.PROGRESS: "Running",
    states.RETRY: "Waiting to try again",
    states.SUCCESS: "Done",
    states.FAILURE: "Failed",
    states.REVOKED: "Cancelled",
    states.UNKNOWN: "No such job",
    UNAVAILABLE: "Not known at the moment",
    "refresh": "Refresh",
    "continue": "Continue",
}
"""Words for each state, and of the links. A state that a task invents is its own."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a page shows of a job at one moment.

    :param state: Public state, or :data:`UNAVAILABLE`.
    :param ended: Nothing more will come.
    :param current: Length of the bar, 0 to ``total``.
    :param total: Length of the full bar; 0 where it is not known how far the job is.
    :param message: What the task says.
    """

    state: str
    ended: bool = False
    current: float = 0
    total: float = 0
    message: str = ""


def blueprint() -> Blueprint:
    """The templates of pages: no routes."""
    return Blueprint("taskqueue_pages", __name__, template_folder="templates")


def task_progress(
    result: AsyncResult[t.Any] | str,
    *,
    label: str = "Progress",
    reload: bool = False,
    next: str | None = None,
    texts: Mapping[str, object] | None = None,
) -> Markup:
    """Markup that shows how a job is doing; live where the browser runs scripts.

    It never fails because of the job: while Redis is away the bar says so, and it is
    not live where the authoriser refuses, aborts or fails.

    :param result: The job, or its id.
    :param label: Says what the bar is about.
    :param reload: Load the page again when the job ends while it is shown.
    :param next: URL to go to when the job succeeds while it is shown. After that, and
        without JavaScript, a link leads there.
    :param texts: Words instead of some of :data:`TEXTS`.
    :raises TypeError: ``result`` is neither.
    """
    job_id = result.id if isinstance(result, AsyncResult) else result
    if not isinstance(job_id, str):
        raise TypeError(f"expected an AsyncResult or the id of a job, got {result!r}")
    bar, url = _look(current_state(), job_id)
    words = {**TEXTS, **{name: str(text) for name, text in (texts or {}).items()}}
    # Not render_template(): its signals and context processors are for pages.
    template = current_app.jinja_env.get_template(TEMPLATE)
    rendered = template.render(
        bar=bar, url=url, label=label, reload=reload, next=next, texts=words
    )
    return Markup(rendered)  # noqa: S704 - the template escapes


def _look(state: AppState, job_id: str) -> tuple[Bar, str | None]:
    """The bar of a job, and where the browser may ask how it goes on, if it may."""
    # A page may be made outside a request: nobody is there to ask.
    live = has_request_context() and answers_for(state, job_id)
    try:
        job = inspector.snapshot(state, job_id)
        bar = bar_of(job)
        live = live and not bar.ended and READ in permitted_or_nothing(state, job)
    except BrokerUnavailable:
        bar = Bar(UNAVAILABLE)
    except UNREADABLE:
        bar, live = Bar(states.UNKNOWN, ended=True, total=1), False
    return bar, url_for("taskqueue.status", job_id=job_id) if live else None


def bar_of(job: Snapshot) -> Bar:
    """What to show of a job."""
    if not job.stored.exists:
        return Bar(states.UNKNOWN, ended=True, total=1)
    said = progress(job)
    facts = said if isinstance(said, dict) else {}
    message = facts.get("message")
    current, total = _length(facts.get("current"), facts.get("total"))
    if job.ready:
        total = total or 1
        if job.state == states.SUCCESS:
            current = total
    text = "" if message is None else str(message)
    return Bar(job.state, job.ready, current, total, text)


def _length(current: object, total: object) -> tuple[float, float]:
    """How much of the bar is done, ``(0, 0)`` where that is not known."""
    numbers = (int, float)
    if not isinstance(current, numbers) or not isinstance(total, numbers):
        return 0, 0
    if total <= 0 or current < 0:
        return 0, 0
    return min(current, total), total
