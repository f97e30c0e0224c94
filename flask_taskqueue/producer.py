"""Turns one call into a stored job: options, route, context, bytes, enqueue."""

from __future__ import annotations

import json
import os
import typing as t
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

from redis.exceptions import RedisError, ResponseError

from . import announcing, context, job, links, serializer
from .appstate import AppState
from .broker import scripts
from .broker.trouble import is_unavailable
from .broker.wire import Argument, NewJob
from .config import Config
from .errors import TaskQueueError
from .options import TaskOptions
from .request import parent_in
from .signature import Signature, Target

BATCH, BATCH_BYTES = 500, 1024 * 1024
"""Most jobs, and bytes of the arguments of several, written in one step: the server
does nothing else meanwhile."""


def prepare(
    state: AppState,
    target: Target,
    args: Sequence[t.Any],
    kwargs: Mapping[str, t.Any],
    given: Mapping[str, t.Any],
) -> NewJob:
    """The job that a call makes.

    :param given: Options of the call.
    :raises PayloadTooLarge: The arguments are over ``TASKQUEUE_MAX_ARGS_BYTES``.
    :raises TypeError: An argument cannot be encoded, or an option is unknown.
    """
    running = parent_in(state)
    parent, root = (running.id, running.root_id) if running else (None, None)
    carried = context.capture(state)
    return _prepare(state, target, args, kwargs, given, carried, parent, root)[0]


class _Plan(t.NamedTuple):
    """What is known of a call before its arguments are.

    :param queue: ``None`` where the router is to be asked.
    :param frame: See :func:`.job.frame`.
    """

    options: TaskOptions
    queue: str | None
    frame: Mapping[str, Argument]


def _plan(state: AppState, target: Target, given: Mapping[str, t.Any]) -> _Plan:
    """The plan of a call; that of calls without options is made once for each task."""
    plan: _Plan | None = state.plans.get(target)
    if plan is None:
        options, stored = state.options_of(target)
        queue = state.config.router.fixed_queue(
            target.name, options.queue, options.routing_key
        )
        frame = _frame(state.config, target.name, options, stored)
        plan = state.plans[target] = _Plan(options, queue, frame)
    if not given:
        return plan
    options = plan.options.called(**t.cast(t.Any, given))
    asks = given.get("queue") or given.get("routing_key")
    frame = _frame(state.config, target.name, options, options.stored())
    return _Plan(options, None if asks else plan.queue, frame)


def _frame(
    config: Config, task: str, options: TaskOptions, stored: bytes
) -> Mapping[str, Argument]:
    content = t.cast(str, options.serializer)
    if content not in config.accept_content:
        raise ValueError(
            "expected 'serializer' to be one of TASKQUEUE_ACCEPT_CONTENT"
            f" ({', '.join(config.accept_content)}), got {content!r}"
        )
    if content == "pickle" and not config.sign:
        raise ValueError("serializer 'pickle' needs TASKQUEUE_SIGN")
    return job.frame(task, options, stored)


def _prepare(
    state: AppState,
    target: Target,
    args: Sequence[t.Any],
    kwargs: Mapping[str, t.Any],
    given: Mapping[str, t.Any],
    carried: str,
    parent: str | None,
    root: str | None,
) -> tuple[NewJob, bytes]:
    config = state.config
    options, queue, frame = _plan(state, target, given)
    if queue is None:
        queue = _routed(state, target, args, kwargs, given)
    job_id = options.task_id or _new_id()
    nonce = os.urandom(8).hex() if options.task_id else ""
    content = t.cast(str, options.serializer)
    data = serializer.dump_call(
        target.name, args, kwargs, content, config.max_args_bytes
    )
    more: Mapping[str, Argument] = _NOTHING
    if carried or parent or given:
        more = _travelling(state, options, job_id, carried, parent, root)
    new = NewJob(
        id=job_id, queue=queue, front=options.priority > 0, due=options.due,
        expires=options.expires, nonce=nonce,
        fields=job.compose(job_id, frame, data, more, state.signer),
    )  # fmt: skip
    return new, data


_NOTHING: Mapping[str, Argument] = {}


def _new_id() -> str:
    """As ``str(uuid4())``, in half the time."""
    # RFC 9562: version 4 and variant binary 10 in their places.
    bits = int.from_bytes(os.urandom(16)) & ~(0xF000_C << 60) | 0x4000_8 << 60
    x = f"{bits:032x}"
    return f"{x[:8]}-{x[8:12]}-{x[12:16]}-{x[16:20]}-{x[20:]}"


def _routed(
    state: AppState,
    target: Target,
    args: Sequence[t.Any],
    kwargs: Mapping[str, t.Any],
    given: Mapping[str, t.Any],
) -> str:
    task = state.options_of(target)[0]
    queue, _ = state.config.router.queue_for(
        target.name,
        args,
        kwargs,
        given,
        call_queue=given.get("queue"),
        call_routing_key=given.get("routing_key"),
        task_queue=task.queue,
        task_routing_key=task.routing_key,
    )
    return queue


def _travelling(
    state: AppState,
    options: TaskOptions,
    job_id: str,
    carried: str,
    parent: str | None,
    root: str | None,
) -> dict[str, Argument]:
    """Fields that only some jobs have."""
    more: dict[str, Argument] = {}
    if options.headers:
        more["tq_headers"] = serializer.dumps(options.headers)
    if carried:
        more["tq_carried"] = carried
    if parent:
        more["tq_parent"] = parent
        more["tq_root"] = root or parent
    for field, signatures in (
        ("tq_links", options.link),
        ("tq_errlinks", options.link_error),
    ):
        if signatures:
            above = (carried, job_id, root or job_id)
            rows = [_link(state, signature, *above) for signature in signatures]
            more[field] = json.dumps(rows)
    return more


def _link(
    state: AppState, signature: object, carried: str, parent: str, root: str
) -> dict[str, t.Any]:
    if not isinstance(signature, Signature):
        raise TypeError(
            f"expected links to be signatures such as add.s(3), got {signature!r}"
        )
    new, call = _prepare(
        state,
        signature.target,
        signature.args,
        signature.kwargs,
        signature.options,
        carried,
        parent,
        root,
    )
    for field in ("data", "tq_sig"):
        new.fields.pop(field, None)
    return links.pack_link(new, signature.task, call, signature.immutable)


def send(state: AppState, new: NewJob) -> bool:
    """Enqueue a prepared job.

    :return: ``False`` where a job with its id has not ended: nothing was written.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    if state.outbox is not None:
        code = state.outbox(new)
    else:
        try:
            code = scripts.enqueue(state.broker.exchange, new, new.nonce)
        except (OSError, RedisError):
            with state.broker.errors(), _refusals():
                raise
    _check(new, code)
    _note(state, new, code)
    return code != scripts.EXISTS


def send_many(state: AppState, jobs: Sequence[NewJob]) -> list[bool]:
    """Enqueue prepared jobs in few round trips; see :func:`send`."""
    if state.outbox is not None:
        return [send(state, new) for new in jobs]
    codes: list[int] = []
    for batch in _batches(jobs):
        nonced = [(new, new.nonce) for new in batch]
        with state.broker.errors(), _refusals():
            answers = scripts.enqueue_many(state.broker.exchange, nonced)
        # Each batch at once: the next may not get through.
        for new, code in zip(batch, answers, strict=True):
            _note(state, new, code)
        codes += answers
    for new, code in zip(jobs, codes, strict=True):
        _check(new, code)
    return [code != scripts.EXISTS for code in codes]


def _batches(jobs: Sequence[NewJob]) -> t.Iterator[list[NewJob]]:
    """The jobs in order, so many at a time as one step may write."""
    batch: list[NewJob] = []
    size = 0
    for new in jobs:
        size += len(t.cast(bytes, new.fields["data"]))
        if batch and (len(batch) == BATCH or size > BATCH_BYTES):
            yield batch
            batch, size = [], len(t.cast(bytes, new.fields["data"]))
        batch.append(new)
    if batch:
        yield batch


@contextmanager
def _refusals() -> t.Iterator[None]:
    """Raise what the server says against a call as an error of ours."""
    try:
        yield
    except ResponseError as error:
        if is_unavailable(error):
            raise
        raise TaskQueueError(f"nothing was enqueued: {error}") from error


def _check(new: NewJob, code: int) -> None:
    if code == scripts.NOT_A_JOB:
        raise TaskQueueError(
            f"the key of job {new.id} holds something that is not a job;"
            " nothing was enqueued"
        )


def _note(state: AppState, new: NewJob, code: int) -> None:
    """Keep an accepted job as the running one's child, and tell of it."""
    if code in (scripts.EXISTS, scripts.NOT_A_JOB):
        return
    parent = parent_in(state)
    if parent is not None:
        parent.children.append(new.id)
    announcing.enqueued(state, new)
