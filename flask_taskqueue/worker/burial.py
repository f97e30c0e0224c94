"""What becomes of the jobs a dead child held. Decided by how it died."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Sequence

from redis import Redis

from .. import errors, keys
from ..appstate import AppState
from ..broker import scripts
from ..broker.wire import Ended, Lease
from ..job import StoredJob
from ..stored_error import dump_error
from .endings import Failed
from .outcome import end_of
from .pools import Child

logger = logging.getLogger(__name__)


def _silence(client: Redis, child: Child) -> None:
    """Close the child's connection, so that nothing it sent runs after this."""
    untyped: scripts.Client = client
    if child.board.client_id:
        untyped.client_kill_filter(_id=child.board.client_id)


def recover(client: Redis, child: Child, death: str, queues: Sequence[str]) -> None:
    """It died by itself: what it ran is charged a recovery and runs again."""
    _silence(client, child)
    seen = child.board.read()
    ran = seen.lease.execution if seen.lease else ""
    for job in scripts.abandon(
        client, child.prefix, ran=ran, reason=death, queues=queues
    ):
        logger.warning(
            "Job %s of queue %s was with a child that died: %s",
            job.id, job.queue, job.what,
        )  # fmt: skip


def release_rest(client: Redis, child: Child, queues: Sequence[str]) -> None:
    """It was killed and what it ran is dealt with: give back the rest."""
    scripts.abandon(client, child.prefix, ran="", reason="", queues=queues)


def release_running(client: Redis, child: Child, queues: Sequence[str]) -> bool:
    """It was killed because the worker stops; whether it ran something."""
    _silence(client, child)
    lease = child.board.read().lease
    if lease is not None:
        scripts.release(client, [lease], started=True)
        logger.warning("Job %s was given back", lease.id)
    release_rest(client, child, queues)
    return lease is not None


def end_overdue(
    state: AppState, client: Redis, child: Child, queues: Sequence[str]
) -> None:
    """It was killed at its job's hard limit: the job ends as a failure."""
    _silence(client, child)
    seen = child.board.read()
    if seen.lease is not None:
        seconds = seen.deadline - seen.started
        error = errors.TimeLimitExceeded(f"the time limit of {seconds:g} s is over")
        _end(state, client, seen.lease, error, seconds, "failed")
        logger.error("Job %s failed: %s", seen.lease.id, error)
    release_rest(client, child, queues)


def end_terminated(
    state: AppState, client: Redis, child: Child, queues: Sequence[str]
) -> None:
    """It was killed because its job was revoked with ``terminate``."""
    _silence(client, child)
    lease = child.board.read().lease
    if lease is not None:
        error = errors.TaskRevokedError("terminated")
        _end(state, client, lease, error, 0.0, "stopped")
    release_rest(client, child, queues)


def _end(
    state: AppState,
    client: Redis,
    lease: Lease,
    error: BaseException,
    seconds: float,
    status: str,
) -> None:
    untyped: scripts.Client = client
    fields: dict[bytes, bytes] = untyped.hgetall(keys.job(lease.id))
    stored = StoredJob(lease.id, fields, lease.queue)
    trace = f"{type(error).__name__}: {error}\n"
    failed = Failed(
        began=0.0, seconds=seconds, exception=error, trace=trace,
        error=dump_error(error, trace), result_type=2 if status == "failed" else 3,
    )  # fmt: skip
    end = end_of(state, stored, lease, failed)
    links = end.links if status == "failed" else ()
    ended = Ended(
        lease=lease, status=status, fields=end.fields, entry=end.entry, links=links
    )
    scripts.finish(client, [ended], None)


def return_unknown(
    client: Redis, unknown: t.Iterable[Lease], children: Sequence[Child]
) -> None:
    """Give back leases no child of ours holds, and none will come to hold.

    One that waits for the answer to its claim may hold it in a moment: such a
    child has not counted that call yet.
    """
    boards = {child.label: child.board for child in children}
    lost = []
    for lease in unknown:
        head, _, call = lease.execution.rpartition(".")
        board = boards.get(head.rpartition(".")[2])
        if board is None:
            lost.append(lease)
            continue
        seen = board.read()
        if call.isdecimal() and seen.calls >= int(call) and seen.lease != lease:
            lost.append(lease)
    if lost:
        scripts.release(client, lost, started=False)
