"""``?wait=SECONDS``: an answer that is made when the job has ended."""

from __future__ import annotations

import math
import time
import typing as t
from collections.abc import Iterable, Iterator

from flask import Response
from werkzeug.wsgi import ClosingIterator

from ..errors import BrokerUnavailable
from ..inspector import Snapshot
from ..readable import UNREADABLE
from .answers import Asked, Problem, unavailable, unreadable
from .describe import is_over, is_replaced
from .watching import Watch

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

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


class Later(Response):
    """An answer whose status, headers and body are known when the time has come.

    It waits when the server asks for its body: by then Flask has popped the contexts
    of the request. Headers that the app adds to it before are kept.

    :param job: The job as it is now, which has not ended.
    :param seconds: How long to wait for that.
    """

    def __init__(
        self, asked: Asked, watch: Watch, job: Snapshot, seconds: float
    ) -> None:
        super().__init__(mimetype="application/json")
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
        for name in ("Content-Type", "Content-Length", "Content-Encoding"):
            # Of the body it did not have then.
            self.headers.pop(name, None)
        self.headers.update(answer.headers)
        answer.headers = self.headers
        yield from answer(environ, start_response)

    def _answer(self) -> Response:
        try:
            job = wait(self._watch, self._job, self._deadline)
            with self._asked.state.app.app_context():
                return self._asked.answer(job)
        except BrokerUnavailable:
            problem = unavailable()
        except UNREADABLE:
            problem = unreadable()
        except Problem as error:
            problem = error
        with self._asked.state.app.app_context():
            return problem.answer()


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
