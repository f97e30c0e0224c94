"""What travels from the call to the run: picked when enqueueing, put back when
running. Both halves are here."""

from __future__ import annotations

import contextvars
import logging
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, has_request_context, request

from .config import Config

logger = logging.getLogger(__name__)

R = t.TypeVar("R")


def capture(config: Config) -> dict[str, t.Any]:
    """Values of the current request that go along with a job; empty outside one.

    :return: ``{"headers": {name: value}}`` of ``TASKQUEUE_CARRY_HEADERS``.
    """
    if not config.carry_headers or not has_request_context():
        return {}
    headers = {
        name: request.headers[name]
        for name in config.carry_headers
        if name in request.headers
    }
    return {"headers": headers} if headers else {}


class Scope:
    """A pushed app context, and the exception it will be popped with."""

    def __init__(self) -> None:
        self.error: BaseException | None = None


@contextmanager
def restore(app: Flask, job_id: str) -> Iterator[Scope]:
    """Push a fresh app context for one job.

    An error in a teardown function is logged and does not change the outcome.
    """
    scope = Scope()
    app_context = app.app_context()
    app_context.push()
    try:
        yield scope
    finally:
        try:
            app_context.pop(scope.error)
        except Exception:
            logger.exception("Teardown after job %s raised", job_id)


def run_apart(function: t.Callable[[], R]) -> R:
    """Call a function in an empty context: nothing of the caller is visible."""
    return contextvars.Context().run(function)
