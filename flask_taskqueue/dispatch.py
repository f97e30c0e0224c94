"""Takes prepared calls where they belong: to Redis, this process, or who gathers."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import groupby
from operator import itemgetter

from . import producer
from .appstate import AppState
from .broker.wire import NewJob
from .result import AsyncResult


class Call(t.NamedTuple):
    """A prepared call, and the handle its caller has."""

    state: AppState
    new: NewJob
    handle: AsyncResult[t.Any]


_gather: ContextVar[Callable[[Call], object] | None] = ContextVar(
    "taskqueue_gather", default=None
)


@contextmanager
def gathered_by(gather: Callable[[Call], object]) -> Iterator[None]:
    """Give the calls made inside to somebody who sends them later.

    So every way to make a call goes through ``apply_async``, which a class of tasks
    may override.
    """
    token = _gather.set(gather)
    try:
        yield
    finally:
        _gather.reset(token)


def dispatch(state: AppState, new: NewJob) -> AsyncResult[t.Any]:
    """Enqueue a call, run it where calls are eager, or hand it to who gathers.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    handle: AsyncResult[t.Any] = AsyncResult(new.id, state)
    gather = _gather.get()
    if gather is not None:
        gather(Call(state, new, handle))
    elif state.eager:
        handle.created = run_here(state, new, state.eager_propagates)
    else:
        handle.created = producer.send(state, new)
    return handle


def dispatch_all(calls: Sequence[Call]) -> list[BaseException]:
    """Enqueue calls in few round trips, or run them; each handle learns of its own.

    :return: What eager jobs raised, where that is to be raised: all have run.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    errors: list[BaseException] = []
    for state, group in groupby(calls, itemgetter(0)):
        of_app = list(group)
        if state.eager:
            errors += _run_all(state, of_app)
            continue
        made = producer.send_many(state, [call.new for call in of_app])
        for call, created in zip(of_app, made, strict=True):
            call.handle.created = created
    return errors


def _run_all(state: AppState, calls: Sequence[Call]) -> list[BaseException]:
    ended = []
    for call in calls:
        call.handle.created, error = _run(state, call.new)
        ended.append(error)
    propagated = ended if state.eager_propagates else []
    return [error for error in propagated if error is not None]


def run_here(state: AppState, new: NewJob, throw: bool) -> bool:
    """Run a call in this process, as a worker would.

    :param throw: Raise what the task raises.
    :return: ``False`` where a job with its id has not ended: nothing ran.
    """
    created, error = _run(state, new)
    if error is not None and throw:
        raise error
    return created


def _run(state: AppState, new: NewJob) -> tuple[bool, BaseException | None]:
    # The worker's code is loaded by those who run it only.
    from . import eager

    return eager.run(state, new)
