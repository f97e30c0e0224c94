"""What travels from the call to the run: picked when enqueueing, put back when
running. Both halves are here."""

from __future__ import annotations

import contextvars
import json
import logging
import typing as t
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import flask.globals
from flask import Flask, has_request_context
from flask.globals import app_ctx

from .appstate import AppState, Carrier
from .carried import NOTHING, Binding, Carried, new_context
from .errors import PayloadTooLarge

logger: logging.Logger = logging.getLogger(__name__)

R = t.TypeVar("R")

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

# Flask 3.1 has a context for the request beside the app's. Later versions have one
# for both and make this a deprecated name for it, which is not in the module's dict.
_request_ctx: t.Any = vars(flask.globals).get("request_ctx", app_ctx)


_running: contextvars.ContextVar[Scope | None] = contextvars.ContextVar(
    "taskqueue_carried", default=None
)
"""That of the job that runs in this context: what it enqueues carries the same."""

_once: contextvars.ContextVar[dict[AppState, str] | None] = contextvars.ContextVar(
    "taskqueue_captured", default=None
)


def capture(state: AppState) -> str:
    """What goes along with a job that is enqueued here and now, as JSON; ``""`` for
    nothing.

    In a request these are its URL binding and headers, in a running job those the
    job has itself; and in each case what the carriers say now.

    :raises TypeError: A carrier's value is not JSON.
    :raises PayloadTooLarge: It is over ``TASKQUEUE_MAX_ARGS_BYTES``.
    """
    known = _once.get()
    if known is not None and state in known:
        return known[state]
    text = _captured(state)
    if known is not None:
        known[state] = text
    return text


@contextmanager
def captured_once() -> Iterator[None]:
    """What is enqueued inside carries the same: it is picked once for each app."""
    token = _once.set({})
    try:
        yield
    finally:
        _once.reset(token)


def _captured(state: AppState) -> str:
    carriers = state.provided.carriers
    if not (carriers or has_request_context()) and _running.get() is None:
        return ""
    url, headers = _surroundings(state)
    values = _values(carriers) if carriers else {}
    row = Carried(url, headers, values).stored()
    if not row:
        return ""
    try:
        text = _encoder.encode(row)
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_json(values) from error
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


def _values(carriers: Mapping[str, Carrier]) -> dict[str, t.Any]:
    found = ((name, carrier.capture()) for name, carrier in carriers.items())
    return {name: value for name, value in found if value is not None}


def _no_json(values: Mapping[str, t.Any]) -> TypeError:
    """What is wrong with the first carrier's value that is not JSON."""
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            return TypeError(
                f"expected capture() of the carrier {name!r} to give a JSON value or"
                f" None, got {type(value).__qualname__} ({error}); carry a text or"
                " an id that restore() understands"
            )
    return TypeError("expected what a job carries to be JSON")


class Scope:
    """The context one job runs in: pushed when it is entered, popped when it is left.

    What a teardown function raises is logged and does not change the outcome.

    :param context: An app or a request context.
    :param passing: What goes on to the caller, whoever raises it.
    :ivar error: The exception that left the job's function, for what is left at the
        end.
    """

    def __init__(
        self,
        app: Flask,
        carriers: Mapping[str, Carrier],
        job_id: str,
        carried: Carried,
        context: t.Any,
        passing: tuple[type[BaseException], ...],
    ) -> None:
        self.error: BaseException | None = None
        self.app: Flask = app
        self.carried = carried
        self.context = context
        self._carriers = carriers
        self._job_id = job_id
        self._passing = passing
        self._entered: list[tuple[str, ExitStack]] = []

    def __enter__(self) -> Scope:
        _running.set(self)
        try:
            self.context.push()
        except BaseException as error:
            # It is pushed all the same: what comes last in it raised.
            self.error = error
            self._pop()
            raise
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if error is not None:
            self.error = error
        try:
            if self._entered:
                self.leave_carriers()
        finally:
            self._pop()

    def _pop(self) -> None:
        try:
            self.context.pop(self.error)
        except self._passing:
            raise
        except BaseException:
            logger.exception("Teardown after job %s raised", self._job_id)

    def enter_carriers(self) -> None:
        """Enter the carriers' context managers, in the order of their registration.

        :raises Exception: What one of them raises.
        """
        values = self.carried.values
        if not values:
            return
        for name in values:
            if name not in self._carriers:
                logger.debug("Job %s carries %r, which has no carrier here",
                             self._job_id, name)  # fmt: skip
        for name, carrier in self._carriers.items():
            if name in values:
                stack = ExitStack()
                stack.enter_context(carrier.restore(values[name]))
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


@contextmanager
def alone(app: Flask) -> Iterator[None]:
    """An app context that is no job's. What a teardown function raises is logged."""
    context = app.app_context()
    context.push()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        try:
            context.pop(error)
        except (Exception, SystemExit):
            logger.exception("Teardown of the app %r raised", app.name)


def restore(
    state: AppState,
    job_id: str,
    carried: Carried = NOTHING,
    *,
    request_context: bool = False,
    passing: tuple[type[BaseException], ...] = (),
) -> Scope:
    """A fresh context for one job, to be entered once.

    :param request_context: A request context, which brings its app context along.
    :param passing: What goes on to the caller, whoever raises it.
    :raises DecodeError: What the job carries cannot be bound.
    """
    app = state.app
    context = new_context(app, carried, request_context)
    return Scope(app, state.provided.carriers, job_id, carried, context, passing)


def run_apart(function: t.Callable[[], R]) -> R:
    """Call a function in an empty context: nothing of the caller is visible."""
    return contextvars.Context().run(function)
