"""Lists jobs page by page, as they stand in their queues. Changes nothing.

A page is read from where it begins: a long queue takes no longer than a short one.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from . import keys
from .appstate import AppState
from .broker import scripts
from .counts import ENDED, PLACES, Source, executed, known, sources
from .errors import DecodeError
from .job import StoredJob
from .stored_error import load_error

MOST = 1000
"""Jobs of a page."""

_STATUSES = {
    "running": {"started"},
    "waiting": {"queued", "created"},
    "scheduled": {"scheduled"},
    "deferred": {"deferred"},
    # A terminated job is REVOKED, and RQ keeps it among the failed.
    "failed": {"failed", "stopped"},
    "finished": {"finished"},
    "revoked": {"canceled"},
}

_FIELDS = (
    b"status", b"worker_name", b"enqueued_at", b"started_at", b"ended_at",
    b"description", b"tq_task", b"tq_retries", b"tq_state", b"tq_ignored", b"tq_ended",
    b"tq_eta", b"tq_error", b"tq_forgotten",
)  # fmt: skip

T = t.TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job in a list. What cannot be read of it is ``None``.

    :param place: One of :data:`.counts.PLACES`.
    :param error: Class and text of the exception it ended with, or of its last
        attempt.
    """

    id: str
    task: str | None
    queue: str
    state: str | None
    place: str
    retries: int | None
    worker: str | None
    enqueued_at: datetime | None
    eta: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    error: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of the jobs.

    :param next: Offset of the next page, ``None`` after the last. A page may be
        short, or empty, though there is a next one: entries whose job is gone or
        elsewhere by now are left out.
    """

    jobs: tuple[ListedJob, ...]
    next: int | None


def jobs(
    state: AppState,
    *,
    queue: str | None = None,
    places: Sequence[str] = PLACES,
    offset: int = 0,
    limit: int = 50,
) -> Page:
    """A page of jobs: of one queue or of all.

    By place; waiting jobs in the order they will run, those that ended newest
    first. Offsets move while jobs come and go.

    :param places: Some of :data:`.counts.PLACES`.
    :param limit: At most :data:`MOST`.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    end = offset + min(limit, MOST)
    client: scripts.Client = state.broker.monitor
    with state.broker.errors():
        names = known(state)[0] if queue is None else [queue]
        asked = [s for place in places for n in names for s in sources(n, (place,))]
        pipeline = client.pipeline(transaction=False)
        for source in asked:
            source.length(pipeline)
        lengths = executed(pipeline, 0)
        entries = _window(client, zip(asked, lengths, strict=True), offset, end)
        rows = tuple(_read(client, entries))
    return Page(jobs=rows, next=end if sum(lengths) > end else None)


def _window(
    client: scripts.Client,
    counted: Iterable[tuple[Source, int]],
    first: int,
    end: int,
) -> list[tuple[Source, bytes]]:
    """Sources and ids from ``first`` up to ``end``, as if all were in one list."""
    pipeline = client.pipeline(transaction=False)
    chosen = []
    before = 0
    for source, length in counted:
        low, high = max(first - before, 0), min(end - before, length)
        if low < high:
            _ask(pipeline, source, low, high - 1)
            chosen.append(source)
        before += length
    nothing: list[bytes] = []
    pages = zip(chosen, executed(pipeline, nothing), strict=True)
    return [(source, _id_of(source, x)) for source, page in pages for x in page]


def _ask(pipeline: scripts.Client, source: Source, first: int, last: int) -> None:
    if source.is_list:
        # Walked from its nearer end, in nodes of many ids each.
        pipeline.lrange(source.key, first, last)
    else:
        pipeline.zrange(source.key, first, last, desc=source.place in ENDED)


def _id_of(source: Source, entry: bytes) -> bytes:
    """A job that runs is kept as ``<id>:<execution>``."""
    return entry.rpartition(b":")[0] if source.place == "running" else entry


def _read(
    client: scripts.Client, entries: Sequence[tuple[Source, bytes]]
) -> Iterator[ListedJob]:
    pipeline = client.pipeline(transaction=False)
    for _, job_id in entries:
        pipeline.hmget(keys.PREFIXES["job"].encode() + job_id, _FIELDS)
    nothing: list[bytes | None] = []
    rows = executed(pipeline, nothing)
    for (source, job_id), values in zip(entries, rows, strict=True):
        found = zip(_FIELDS, values, strict=False)
        fields = {name: value for name, value in found if value is not None}
        stored = StoredJob(job_id.decode(errors="surrogateescape"), fields)
        if _is_there(source, stored):
            yield _listed(source, stored)


def _is_there(source: Source, stored: StoredJob) -> bool:
    """Entries of revoked jobs, and doubles, stay until a worker comes to them."""
    status = _told(lambda: stored.status)
    return status is not None and status in _STATUSES[source.place]


def _listed(source: Source, stored: StoredJob) -> ListedJob:
    return ListedJob(
        id=stored.id,
        task=_told(lambda: stored.name or None),
        queue=source.queue,
        state=_told(lambda: stored.state),
        place=source.place,
        retries=_told(lambda: stored.retries),
        worker=_told(lambda: stored.text("worker_name") or None),
        enqueued_at=_told(lambda: stored.instant("enqueued_at")),
        eta=_told(lambda: stored.instant("tq_eta")),
        started_at=_told(lambda: stored.instant("started_at")),
        ended_at=_told(lambda: stored.instant("ended_at")),
        error=_told(lambda: _error(stored)),
    )


def _error(stored: StoredJob) -> tuple[str, str] | None:
    raw = stored.fields.get(b"tq_error")
    if not raw or stored.status == "finished" or stored.is_requeued:
        return None
    error = load_error(raw)
    return error["type"], error["message"]


def _told(read: Callable[[], T]) -> T | None:
    """What a job says; ``None`` where that cannot be read: the rest still can."""
    try:
        return read()
    except DecodeError:
        return None
