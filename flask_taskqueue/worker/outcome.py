"""Stores how an execution ended, and takes the next job. Decides nothing."""

from __future__ import annotations

import json
import logging
import typing as t
import zlib
from base64 import b64encode
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import ResponseError

from .. import signals, states
from ..appstate import AppState
from ..broker import scripts
from ..broker.trouble import is_unavailable
from ..broker.wire import Argument, Claim, Ended, Lease, NewJob, Next
from ..errors import TaskQueueError, TaskRevokedError
from ..job import StoredJob
from ..links import Link
from ..stored_error import MAX_TRACEBACK_CHARS, dump_error
from . import callbacks
from .endings import Failed, Halted, Outcome, Parked, Ran, Retried, Returned, Succeeded
from .plain import has_webhooks, repeats

logger: logging.Logger = logging.getLogger(__name__)


def store(
    client: Redis,
    state: AppState,
    stored: StoredJob,
    lease: Lease,
    outcome: Outcome,
    wanted: Claim | None,
    *,
    again: bool = False,
) -> tuple[bool, Next]:
    """Store an outcome and take the next job.

    One round trip for a job that ended, two for one that did not, that repeats, or
    whose links somebody wants to hear of. May be repeated.

    :param wanted: ``None`` takes no job.
    :param again: This repeats a call whose reply was lost.
    :return: Whether it was accepted (``False``: the lease was lost, somebody else
        runs the job), and the answer to the claim.
    """
    if isinstance(outcome, (Succeeded, Failed)):
        end = end_of(state, stored, lease, outcome)
        repeating = isinstance(outcome, Succeeded) and repeats(stored)
        if not (repeating or end.links and signals.job_enqueued.receivers):
            (code,), following = scripts.finish(client, [end], wanted, again=again)
            return code != scripts.REFUSED, following
        if repeating:
            code = scripts.finish_repeating(client, end)
        else:
            # No job is taken while receivers run: nobody would renew its lease.
            (code,), _ = scripts.finish(client, [end], None, again=again)
        if code != scripts.REFUSED:
            callbacks.announce_links(state, end.links)
    elif isinstance(outcome, Halted):
        end = end_of_halted(state, stored, lease, outcome)
        code = scripts.bury(client, end)
    else:
        code = _put_back(client, stored, lease, outcome)
        if code == scripts.REVOKED_MEANWHILE:
            revoked = (signals.job_revoked, stored, states.REVOKED)
            callbacks.announce(state, *revoked, TaskRevokedError("revoked"))
    accepted = code != scripts.REFUSED
    if wanted is None:
        return accepted, Next()
    return accepted, scripts.claim(client, wanted, again=again)


def row_of(
    state: AppState,
    stored: StoredJob,
    lease: Lease,
    outcome: Outcome,
) -> list[Argument] | None:
    """An outcome as a row for ``finish``, which may be stored with others; ``None``
    where it takes more than that: see :func:`store`."""
    if not isinstance(outcome, (Succeeded, Failed)):
        return None
    if not stored.fields.get(b"tq_task") and (repeats(stored) or has_webhooks(stored)):
        return None
    end = end_of(state, stored, lease, outcome)
    if end.links and signals.job_enqueued.receivers:
        return None
    return end.argv()


def store_rows(client: Redis, rows: Sequence[Sequence[Argument]]) -> None:
    """Store ends of a slot that cannot do so, or not in time. May be repeated."""
    try:
        if rows:
            scripts.finish_rows(client, rows, None)
    except ResponseError as error:
        if is_unavailable(error):
            raise
        # Something overwrote a job's keys: that must not keep another's result out.
        if len(rows) == 1:
            logger.exception("Job %s: its result cannot be stored", rows[0][0])
        else:
            for row in rows:
                store_rows(client, [row])


def _put_back(
    client: Redis, stored: StoredJob, lease: Lease, outcome: Retried | Parked | Returned
) -> int:
    if isinstance(outcome, Parked):
        parked = scripts.park(client, lease, outcome.task)
        return scripts.STORED if parked else scripts.REFUSED
    if isinstance(outcome, Returned):
        # To the end of its queue, and without an error no attempt is counted.
        return scripts.retry(client, lease, due="", error=b"")[0]
    fields = dict(outcome.fields)
    if outcome.children:
        fields["tq_children"] = json.dumps(outcome.children)
    entry = None
    if outcome.result_type is not None:
        entry = {"type": outcome.result_type, **_entry(lease, outcome)}
    code, _ = scripts.retry(
        client,
        lease,
        due=outcome.due,
        error=outcome.error,
        front=outcome.front or _at_front_on_retry(stored),
        queue=outcome.queue,
        fields=fields,
        entry=entry,
    )
    return code


def _at_front_on_retry(stored: StoredJob) -> bool:
    return stored.fields.get(b"enqueue_at_front_on_retry") == b"1"


def end_of(
    state: AppState,
    stored: StoredJob,
    lease: Lease,
    outcome: Succeeded | Failed,
) -> Ended:
    """The end of a job as the script takes it."""
    fields: dict[str, Argument] = {}
    entry: dict[str, Argument] = {}
    links: list[NewJob] = []
    kind: Argument
    if isinstance(outcome, Succeeded):
        status, kind = "finished", 1
        if outcome.ignored:
            fields["tq_ignored"] = "1"
        elif b"tq_links" in stored.fields:
            links = _links(state, stored, b"tq_links", [outcome.value])
        if outcome.encoded is not None:
            entry["return_value"] = b64encode(outcome.encoded)
            if (signer := state.signer) is not None:
                signature = signer.sign(stored.id.encode(), b"result", outcome.encoded)
                entry["tq_sig"] = signature
    else:
        status, kind = "failed", outcome.result_type
        if b"tq_errlinks" in stored.fields:
            links = _links(state, stored, b"tq_errlinks", [stored.id], outcome.error)
        fields["tq_error"] = outcome.error
        # A lone surrogate, in the message of anybody's exception, has no bytes.
        trace = outcome.trace[-MAX_TRACEBACK_CHARS:].encode("utf-8", "backslashreplace")
        entry["exc_string"] = b64encode(zlib.compress(trace))
    if outcome.children or links:
        children = [*outcome.children, *(link.id for link in links)]
        fields["tq_children"] = json.dumps(children)
    return Ended(
        lease, status, _worker_of(lease), kind, *_times(outcome), fields, entry, links
    )  # fmt: skip


def _worker_of(lease: Lease) -> str:
    return lease.execution.rsplit(".", 2)[0]


def _times(ran: Ran) -> tuple[str, str, str]:
    """How long it ran, when it began and when it ended."""
    began, seconds = ran.began, ran.seconds
    return f"{seconds:.6f}", f"{began:.6f}", f"{began + seconds:.6f}"


def end_of_halted(
    state: AppState, stored: StoredJob, lease: Lease, outcome: Halted
) -> Ended:
    """The end of a job that was ended from outside, as the script takes it."""
    error, status = outcome.exception, outcome.status
    trace = f"{type(error).__name__}: {error}\n"
    failed = Failed(
        began=outcome.began, seconds=outcome.seconds, children=outcome.children,
        exception=error, error=dump_error(error, trace), trace=trace,
        result_type=2 if status == "failed" else 3,
    )  # fmt: skip
    end = end_of(state, stored, lease, failed)
    return end._replace(status=status, links=end.links if status == "failed" else ())


def _entry(lease: Lease, outcome: Ran) -> dict[str, Argument]:
    """RQ's fields of a result (rq 2.12, Result.serialize)."""
    _, began, ended = _times(outcome)
    return {
        "worker_name": _worker_of(lease), "execution_id": lease.execution,
        "execution_started_at": began, "execution_ended_at": ended,
    }  # fmt: skip


def _links(
    state: AppState,
    stored: StoredJob,
    field: bytes,
    before: Sequence[t.Any],
    error: bytes | None = None,
) -> list[NewJob]:
    """The jobs to enqueue with an end, their arguments filled in."""
    out: list[NewJob] = []
    config, signer = state.config, state.signer
    try:
        if signer is not None:
            # A job may have failed because it was altered: do not sign its links.
            stored.verify(signer, stored.data(config.max_args_bytes))
        for row in stored.rows(field.decode()):
            link = Link(row)
            if error is not None and not link.immutable:
                link.job.fields["tq_cause"] = _cause(stored, error)
            out.append(link.with_args(before, config.accept_content, signer))
    except (TaskQueueError, TypeError) as problem:
        # The job itself ended as it did: only what was to follow is not possible.
        logger.error("Job %s: its links were not enqueued: %s", stored.id, problem)
    return out


def _cause(stored: StoredJob, error: bytes) -> str:
    return json.dumps(
        {
            "id": stored.id,
            "task": stored.task,
            "parent": stored.text("tq_parent") or None,
            "root": stored.text("tq_root") or stored.id,
            "error": json.loads(error),
        }
    )
