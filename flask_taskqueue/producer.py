"""Turns one call into a stored job: options, route, context, bytes, enqueue."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from uuid import uuid4

from redis.exceptions import ResponseError

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

BATCH = 500
"""Jobs written in one round trip."""


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
    base, stored = state.options_of(target)
    options = base
    if given:
        options = base.called(**t.cast(t.Any, given))
        stored = options.stored()
    job_id = options.task_id or str(uuid4())
    queue, _ = config.router.queue_for(
        target.name,
        args,
        kwargs,
        given,
        call_queue=given.get("queue"),
        call_routing_key=given.get("routing_key"),
        task_queue=base.queue,
        task_routing_key=base.routing_key,
    )
    content = _checked_content(config, t.cast(str, options.serializer))
    data = serializer.dump_call(
        target.name, args, kwargs, content, config.max_args_bytes
    )
    fields = job.compose(
        job_id,
        target.name,
        options,
        data=data,
        stored_options=stored,
        more=_travelling(state, options, job_id, carried, parent, root),
        signer=state.signer,
    )
    new = NewJob(
        id=job_id, queue=queue, fields=fields, front=options.priority > 0,
        due=options.due, expires=options.expires,
    )  # fmt: skip
    return new, data


def _checked_content(config: Config, content: str) -> str:
    """The serializer of a call, which its decorator or its caller may have chosen."""
    if content not in config.accept_content:
        raise ValueError(
            "expected 'serializer' to be one of TASKQUEUE_ACCEPT_CONTENT"
            f" ({', '.join(config.accept_content)}), got {content!r}"
        )
    if content == "pickle" and not config.sign:
        raise ValueError("serializer 'pickle' needs TASKQUEUE_SIGN")
    return content


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
        with state.broker.errors(), _refusals():
            code = scripts.enqueue(state.broker.producer, new, token_hex(8))
    _check(new, code)
    _note(state, new, code)
    return code != scripts.EXISTS


def send_many(state: AppState, jobs: Sequence[NewJob]) -> list[bool]:
    """Enqueue prepared jobs in few round trips; see :func:`send`."""
    if state.outbox is not None:
        return [send(state, new) for new in jobs]
    codes: list[int] = []
    for start in range(0, len(jobs), BATCH):
        batch = jobs[start : start + BATCH]
        nonced = [(new, token_hex(8)) for new in batch]
        with state.broker.errors(), _refusals():
            answers = scripts.enqueue_many(state.broker.producer, nonced)
        # Each batch at once: the next may not get through.
        for new, code in zip(batch, answers, strict=True):
            _note(state, new, code)
        codes += answers
    for new, code in zip(jobs, codes, strict=True):
        _check(new, code)
    return [code != scripts.EXISTS for code in codes]


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
