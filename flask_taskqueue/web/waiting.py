"""``?wait=SECONDS``: an answer that is made when the job has ended."""

from __future__ import annotations

import math
import time
import typing as t
from collections.abc import Iterable, Iterator

from flask import Response
from werkzeug.datastructures import Headers
from werkzeug.wsgi import ClosingIterator

from ..errors import BrokerUnavailable
from ..inspector import Snapshot
from ..readable import UNREADABLE
from .answers import NOT_KEPT, RETRY_AFTER, Asked, Problem, not_there, unavailable
from .describe import is_over, is_replaced
from .watching import Watch

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_OF_THE_BODY = frozenset({"content-length", "content-encoding", "etag"})
"""Headers that what the app does to an answer without a body says nothing of."""

WAIT_MOST = 20.0
"""Seconds a request waits at most: proxies give up after 30 or 60."""


def seconds_of(given: str | None) -> float:
    """What ``wait`` asks for, cut to 20 s; 0 where it is not given.

    :raises Problem: It is no number of seconds.
    """
    if given is None:
        return 0.0
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise Problem(400, "Expected wait to be a number of seconds from 0 to 20.")
    return min(seconds, WAIT_MOST)


def later(asked: Asked, watch: Watch, job: Snapshot, seconds: float) -> Response:
    """An answer for when the job has ended or the time is up.

    :param job: The job as it is now, which has not ended.
    :param seconds: How long to wait for that.
    """
    kind = _later_class(asked.state.app.response_class)
    return kind(asked, watch, job, seconds)


class Later(Response):
    """An answer whose status, headers and body are known when the time has come.

    It waits when the server asks for its body: by then Flask has popped the contexts
    of the request. Headers that the app sets before are kept.
    """

    def __init__(
        self, asked: Asked, watch: Watch, job: Snapshot, seconds: float
    ) -> None:
        # The app's functions find no JSON yet, but what is streamed.
        super().__init__(iter(()), mimetype="application/octet-stream")
        self.headers["Cache-Control"] = NOT_KEPT
        self.headers["Retry-After"] = RETRY_AFTER
        self._begun = Headers(self.headers)
        self._asked = asked
        self._watch = watch
        self._job = job
        self._deadline = time.monotonic() + seconds
        watch.end_with(self)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a server, which waits when it asks for the first part."""
        return ClosingIterator(self._parts(environ, start_response), self.close)

    def _parts(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterator[bytes]:
        try:
            answer = self._answer()
        finally:
            # Others may wait while a slow client reads.
            self._watch.close()
        self._pass_on(answer.headers)
        # As Flask does with what a view returns.
        kind = self._asked.state.app.response_class
        yield from kind.force_type(answer, environ)(environ, start_response)

    def _pass_on(self, headers: Headers) -> None:
        """Set the headers that the app has set, and remove those that it removed."""
        for name in {*self._begun.keys(), *self.headers.keys()}:
            given = self.headers.getlist(name)
            if name.lower() in _OF_THE_BODY or given == self._begun.getlist(name):
                continue
            headers.setlist(name, given)

    def _answer(self) -> Response:
        # Without a context: at its end the app's functions would run once more.
        try:
            return self._asked.answer(wait(self._watch, self._job, self._deadline))
        except BrokerUnavailable:
            return unavailable().answer()
        except UNREADABLE:
            return not_there().answer()
        except Problem as problem:
            return problem.answer()


def _later_class(base: type[Response]) -> type[Later]:
    """:class:`Later` as one of an app's own responses: Flask would turn any other into
    one of these, without a body."""
    return Later if issubclass(Later, base) else type("Later", (Later, base), {})


def wait(watch: Watch, job: Snapshot, deadline: float) -> Snapshot:
    """Wait until a job has ended or the time is up; the job as it is then.

    :param job: As it was last read.
    :param deadline: By :func:`time.monotonic`.
    :raises BrokerUnavailable: Redis is away when the time is up.
    :raises DecodeError: What is stored of it cannot be read.
    """
    trouble: BrokerUnavailable | None = None
    while (left := deadline - time.monotonic()) > 0:
        try:
            found = watch.next(left)
        except BrokerUnavailable as error:
            trouble = error
            continue
        if found is None or is_replaced(job, found):
            break
        job, trouble = found, None
        if is_over(job):
            break
    if trouble is not None:
        raise trouble
    return job
