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
    gather = _gather.get()
    if gather is None and state.eager:
        return run_here(state, new, state.eager_propagates)
    handle: AsyncResult[t.Any] = AsyncResult(new.id, state)
    if gather is None:
        handle._enqueued(producer.send(state, new))
    else:
        gather(Call(state, new, handle))
    return handle


def run_here(state: AppState, new: NewJob, throw: bool) -> AsyncResult[t.Any]:
    """Run a call in this process, as a worker would.

    :param throw: Raise what the task raises.
    """
    call = Call(state, new, AsyncResult(new.id, state))
    error = _run(call)
    if error is not None and throw:
        raise error
    return call.handle


def dispatch_all(calls: Sequence[Call]) -> list[BaseException]:
    """Enqueue calls in few round trips, or run them; each handle learns of its own.

    :return: What eager jobs raised, where that is to be raised: all have run.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    errors: list[BaseException] = []
    for state, group in groupby(calls, itemgetter(0)):
        of_app = list(group)
        if state.eager:
            ended = [_run(call) for call in of_app]
            if state.eager_propagates:
                errors += [error for error in ended if error is not None]
            continue
        made = producer.send_many(state, [call.new for call in of_app])
        for call, created in zip(of_app, made, strict=True):
            call.handle.created = created
    return errors


def _run(call: Call) -> BaseException | None:
    # The worker's code is loaded by those who run it only.
    from . import eager

    call.handle.created, error = eager.run(call.state, call.new)
    return error
