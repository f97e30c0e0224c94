"""``/events``: how a job is doing, as server-sent events."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from flask import Response

from ..errors import BrokerUnavailable
from ..inspector import Snapshot
from ..readable import UNREADABLE
from .answers import Asked, Problem, tag
from .describe import is_over, is_replaced, progress_text, state_of
from .watching import Watch

STREAM_LASTS = 25.0
"""Seconds after which a stream is closed; the browser opens the next."""

COMMENT_EVERY = 10.0
"""Seconds after which a comment shows proxies that the stream is alive, and the server
that its client is not."""

_NEWLINE = re.compile(r"\r\n|\r|\n")


def stream(asked: Asked, watch: Watch | None, job: Snapshot) -> Response:
    """An answer that goes on until the job has ended or 25 s are over.

    :param watch: ``None`` where there is nothing to wait for.
    :param job: The job as it is now.
    """
    answer = events_answer(_parts(asked, watch, job))
    if watch is not None:
        watch.end_with(answer)
    return answer


def events_answer(parts: Iterator[str] | None = None) -> Response:
    """An answer of events; none is for ``HEAD``."""
    answer = Response(parts, mimetype="text/event-stream")
    answer.automatically_set_content_length = False
    answer.headers["Cache-Control"] = "private, no-store, no-transform"
    answer.headers["X-Accel-Buffering"] = "no"  # nginx would keep them back.
    return answer


def is_known(asked: Asked, job: Snapshot, last_event_id: str) -> bool:
    """Whether a client that comes back has seen the job's end.

    :param last_event_id: ``""`` of one that comes for the first time.
    :raises Problem: What is stored of it cannot be read.
    """
    if not last_event_id or not job.ready:
        return False
    return last_event_id == tag(asked.text(job))


def _parts(asked: Asked, watch: Watch | None, job: Snapshot) -> Iterator[str]:
    story = _Story(asked)
    yield "retry: 1000\n\n" + story.tell(job)
    if watch is None:
        return
    for found in _changes(watch, job):
        if found is not None and is_over(found):
            # Others may watch while a slow client reads.
            watch.close()
        # An empty part could be taken for the last.
        if part := ":\n\n" if found is None else story.tell(found):
            yield part


def _changes(watch: Watch, job: Snapshot) -> Iterator[Snapshot | None]:
    """What is read of a job until it is over; ``None`` every 10 s."""
    ends = time.monotonic() + STREAM_LASTS
    comment_at = time.monotonic() + COMMENT_EVERY
    while not is_over(job) and (now := time.monotonic()) < ends:
        if now >= comment_at:
            comment_at += COMMENT_EVERY
            yield None
        try:
            found = watch.next(min(ends, comment_at) - time.monotonic())
        except BrokerUnavailable:
            # A browser does not come back to a 503: it may be better in a moment.
            continue
        except UNREADABLE:
            return
        if found is None:
            continue
        if is_replaced(job, found):
            return
        job = found
        yield job


class _Story:
    """What a client has been told, and what is new."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._state: str | None = None
        self._progress = "null"

    def tell(self, job: Snapshot) -> str:
        """Events of what is new; ``""`` where nothing is."""
        if not job.stored.exists:
            # The stream ends, and who comes back finds no job.
            return ""
        try:
            return "".join(self._events(job))
        except (Problem, *UNREADABLE):
            return ""

    def _events(self, job: Snapshot) -> Iterator[str]:
        whole = self._asked.text(job) if job.ready else None
        state = job.app.json.dumps(state_of(job))
        if state != self._state:
            self._state = state
            yield _event("state", state)
        said = progress_text(job)
        if said != self._progress:
            self._progress = said
            yield _event("progress", said)
        if whole is not None:
            yield _event("end", whole, tag(whole))


def _event(name: str, data: str, event_id: str | None = None) -> str:
    lines = [f"event: {name}"]
    if event_id is not None:
        lines.append(f"id: {event_id}")
    lines += [f"data: {line}" for line in _NEWLINE.split(data.rstrip("\n"))]
    return "\n".join(lines) + "\n\n"
