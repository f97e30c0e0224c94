"""What travels from the call to the run: picked when enqueueing, put back when
running. Both halves are here."""

from __future__ import annotations

import contextvars
import json
import logging
import typing as t
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import flask.globals
from flask import Flask, has_request_context
from flask.globals import app_ctx
from werkzeug.routing import MapAdapter

from .appstate import AppState
from .carried import NOTHING, Binding, Carried
from .errors import DecodeError, PayloadTooLarge

logger: logging.Logger = logging.getLogger(__name__)

R = t.TypeVar("R")

# Flask 3.1 has a context for the request beside the app's. Later versions have one
# for both and make this a deprecated name for it, which is not in the module's dict.
_request_ctx: t.Any = vars(flask.globals).get("request_ctx", app_ctx)


@dataclass(frozen=True, slots=True)
class _Running:
    """The job that runs in this context: what it enqueues carries the same."""

    app: Flask
    carried: Carried
    context: object


_running: contextvars.ContextVar[_Running | None] = contextvars.ContextVar(
    "taskqueue_carried", default=None
)


def capture(state: AppState) -> str:
    """What goes along with a job that is enqueued here and now, as JSON; ``""`` for
    nothing.

    In a request these are its URL binding and headers, in a running job those the
    job has itself; and in each case what the carriers say now.

    :raises TypeError: A carrier's value is not JSON.
    :raises PayloadTooLarge: It is over ``TASKQUEUE_MAX_ARGS_BYTES``.
    """
    url, headers = _surroundings(state)
    values = _captured(state) if state.provided.carriers else {}
    row = Carried(url, headers, values).stored()
    if not row:
        return ""
    text = json.dumps(row, separators=(",", ":"))
    most = state.config.max_args_bytes
    if len(text) > most:
        raise PayloadTooLarge(
            f"the carried headers and values take {len(text)} bytes,"
            f" TASKQUEUE_MAX_ARGS_BYTES allows {most}; carry less, e.g. an id"
        )
    return text


def _surroundings(state: AppState) -> tuple[Binding | None, Mapping[str, str]]:
    """URL binding and headers of the current request, or of the running job."""
    running = _running.get()
    if has_request_context():
        here = _request_ctx._get_current_object()
        # The request that was made for the running job knows no more than the job.
        if running is None or here is not running.context:
            return _of_request(state, here)
    if running is None:
        return None, {}
    carried = running.carried
    return carried.url if running.app is state.app else None, carried.headers


def _of_request(
    state: AppState, here: t.Any
) -> tuple[Binding | None, Mapping[str, str]]:
    given = here.request.headers
    names = state.config.carry_headers
    headers = {name: given[name] for name in names if name in given}
    # There is none where the host is refused; and that of another app, whose request
    # led here, says nothing about the URLs of this one.
    adapter = here.url_adapter if here.app is state.app else None
    return None if adapter is None else Binding.of_adapter(adapter), headers


def _captured(state: AppState) -> dict[str, t.Any]:
    values = {}
    for name, carrier in state.provided.carriers.items():
        value = carrier.capture()
        if value is None:
            continue
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"expected capture() of the carrier {name!r} to give a JSON value or"
                f" None, got {type(value).__qualname__} ({error}); carry a text or"
                " an id that restore() understands"
            ) from error
        values[name] = value
    return values


class Scope:
    """The context one job runs in.

    :ivar error: The exception the job ended with, for what is left at the end.
    """

    def __init__(
        self,
        state: AppState,
        job_id: str,
        carried: Carried,
        passing: tuple[type[BaseException], ...],
    ) -> None:
        self.error: BaseException | None = None
        self._passing = passing
        self._carriers = state.provided.carriers
        self._job_id = job_id
        self._values = carried.values
        self._entered: list[tuple[str, ExitStack]] = []

    def enter_carriers(self) -> None:
        """Enter the carriers' context managers, in the order of their registration.

        :raises Exception: What one of them raises.
        """
        if not self._values:
            return
        for name in self._values:
            if name not in self._carriers:
                logger.debug("Job %s carries %r, which has no carrier here",
                             self._job_id, name)  # fmt: skip
        for name, carrier in self._carriers.items():
            if name in self._values:
                stack = ExitStack()
                stack.enter_context(carrier.restore(self._values[name]))
                self._entered.append((name, stack))

    def leave_carriers(self) -> None:
        """Leave them in reverse order, each with the job's exception.

        The outcome stands: what one swallows or raises does not change it.
        """
        if not self._entered:
            return
        error = self.error
        trace = None if error is None else error.__traceback__
        name, stack = self._entered.pop()
        try:
            stack.__exit__(None if error is None else type(error), error, trace)
        except self._passing:
            raise
        except BaseException as raised:  # an exit, too, is not the worker's
            if raised is not error:
                logger.exception(
                    "Leaving the carrier %r after job %s raised", name, self._job_id
                )
        finally:
            self.leave_carriers()

    def pop(self, context: t.Any) -> None:
        """Pop an app or a request context with the job's exception."""
        try:
            context.pop(self.error)
        except self._passing:
            raise
        except BaseException:
            logger.exception("Teardown after job %s raised", self._job_id)


@contextmanager
def restore(
    state: AppState,
    job_id: str,
    carried: Carried = NOTHING,
    *,
    request_context: bool = False,
    passing: tuple[type[BaseException], ...] = (),
) -> Iterator[Scope]:
    """Push one fresh context for one job, and pop it with the scope's error.

    What a teardown function raises is logged and does not change the outcome.

    :param request_context: A request context, which brings its app context along.
    :param passing: What goes on to the caller, whoever raises it.
    :raises DecodeError: What the job carries cannot be bound.
    """
    context = _new_context(state.app, carried, request_context)
    _running.set(_Running(state.app, carried, context))
    scope = Scope(state, job_id, carried, passing)
    try:
        context.push()
        yield scope
    except BaseException as error:
        scope.error = error
        raise
    finally:
        try:
            scope.leave_carriers()
        finally:
            scope.pop(context)


def _new_context(app: Flask, carried: Carried, request_context: bool) -> t.Any:
    """An app or a request context whose ``url_for()`` follows the binding."""
    bound = carried.url.adapter(app) if carried.url is not None else None
    if not request_context:
        context: t.Any = app.app_context()
    else:
        context = _request_context(app, carried, bound)
        # Without a binding the URLs are those of any other task.
        bound = bound or app.create_url_adapter(None)
    if bound is not None:
        # Both kinds of context, and the one kind of later versions, keep it here;
        # there is no call for it, and a request would bind itself by its Host alone.
        context.url_adapter = bound
    return context


def _request_context(app: Flask, carried: Carried, bound: MapAdapter | None) -> t.Any:
    """A request to ``/`` with the carried headers and nothing else."""
    environ = {}
    if bound is not None:
        root = bound.script_name.rstrip("/")
        environ = {
            "wsgi.url_scheme": bound.url_scheme,
            "HTTP_HOST": bound.get_host(None),
            # WSGI's way to write text (PEP 3333).
            "SCRIPT_NAME": root.encode("utf-8", "replace").decode("latin-1"),
        }
    try:
        return app.test_request_context(
            "/", headers=dict(carried.headers), environ_overrides=environ
        )
    except ValueError as error:
        raise DecodeError(f"the job's carried headers: {error!a:.200}") from error


def run_apart(function: t.Callable[[], R]) -> R:
    """Call a function in an empty context: nothing of the caller is visible."""
    return contextvars.Context().run(function)
