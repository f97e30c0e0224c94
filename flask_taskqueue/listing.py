"""Lists jobs page by page, as they stand in their queues. Changes nothing.

A page is read from where it begins: a long queue takes no longer than a short one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from . import keys
from .appstate import AppState
from .broker import scripts
from .counts import Source, executed, idle, known, sources
from .job import StoredJob
from .places import ENDED, PLACES, held, place_of, places_of_state
from .readable import readable
from .stored_error import load_error

MOST = 1000
"""Jobs of a page."""

LOOK_MOST = 10_000
"""Entries looked at for a page of jobs in one state."""

_FIELDS = (
    b"status", b"worker_name", b"enqueued_at", b"started_at", b"ended_at",
    b"description", b"tq_task", b"tq_retries", b"tq_state", b"tq_ignored", b"tq_ended",
    b"tq_eta", b"tq_error", b"tq_forgotten", b"tq_parked", b"tq_entry",
)  # fmt: skip

_Found = tuple[Source, StoredJob]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job in a list. What cannot be read of it is ``None``.

    :param place: One of :data:`.places.PLACES`.
    :param held: Why it does not run though it waits; ``None`` where it only has others
        before it.
    :param error: Class and text of the exception it ended with, or of its last
        attempt.
    """

    id: str
    task: str | None
    queue: str
    state: str | None
    place: str
    held: str | None
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
        short, or empty, though there is a next one: doubles, and entries whose job is
        gone or elsewhere by now, are left out.
    """

    jobs: tuple[ListedJob, ...]
    next: int | None


def jobs(
    state: AppState,
    *,
    queue: str | None = None,
    places: Sequence[str] = PLACES,
    in_state: str | None = None,
    offset: int = 0,
    limit: int = 50,
) -> Page:
    """A page of jobs: of one queue or of all.

    By place; waiting jobs in the order they will run, those that ended with the one
    kept longest first. Offsets count entries, and move while jobs come and go.

    :param places: Some of :data:`.places.PLACES`.
    :param in_state: In this state only, given in any case. At most :data:`LOOK_MOST`
        entries are looked at, where such a job can be.
    :param limit: At most :data:`MOST`.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    limit = min(limit, MOST)
    if in_state is not None:
        places = [place for place in places if place in places_of_state(in_state)]
    client: scripts.Client = state.broker.monitor
    with state.broker.errors():
        names = known(state)[0] if queue is None else [queue]
        counted = _counted(client, names, places)
        total = sum(length for _, length in counted)
        last = min(offset + (limit if in_state is None else LOOK_MOST), total)
        found: dict[tuple[str, str], _Found] = {}
        while offset < last and len(found) < limit:
            page = _window(client, counted, offset, min(offset + MOST, last))
            end = offset + MOST
            for number, (source, stored) in enumerate(_read(client, page), offset + 1):
                if _is_there(source, stored) and _is_in(stored, in_state):
                    found.setdefault((source.place, stored.id), (source, stored))
                if len(found) == limit:
                    end = number
                    break
            offset = min(end, last)
    rows = _rows(state, found.values())
    return Page(jobs=rows, next=offset if offset < total else None)


def _counted(
    client: scripts.Client, names: Iterable[str], places: Iterable[str]
) -> list[tuple[Source, int]]:
    """The keys with jobs in these places, and their lengths."""
    names = tuple(names)
    asked = [s for place in places for n in names for s in sources(n, (place,))]
    pipeline = client.pipeline(transaction=False)
    for source in asked:
        source.length(pipeline)
    return list(zip(asked, executed(pipeline, 0), strict=True))


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
) -> Iterator[_Found]:
    pipeline = client.pipeline(transaction=False)
    for _, job_id in entries:
        pipeline.hmget(keys.PREFIXES["job"].encode() + job_id, _FIELDS)
    nothing: list[bytes | None] = []
    rows = executed(pipeline, nothing)
    for (source, job_id), values in zip(entries, rows, strict=True):
        found = zip(_FIELDS, values, strict=False)
        fields = {name: value for name, value in found if value is not None}
        yield source, StoredJob(job_id.decode(errors="surrogateescape"), fields)


def _is_there(source: Source, stored: StoredJob) -> bool:
    """Entries of revoked jobs, and doubles, stay until a worker comes to them."""
    return place_of(stored) == source.place


def _is_in(stored: StoredJob, state: str | None) -> bool:
    if state is None:
        return True
    return readable(lambda: stored.state, "").upper() == state.upper()


def _rows(state: AppState, found: Collection[_Found]) -> tuple[ListedJob, ...]:
    waiting = {source.queue for source, _ in found if source.place == "waiting"}
    stopped = idle(state, sorted(waiting)) if waiting else {}
    return tuple(_listed(source, stored, stopped) for source, stored in found)


def _listed(source: Source, stored: StoredJob, stopped: Mapping[str, str]) -> ListedJob:
    return ListedJob(
        id=stored.id,
        task=readable(lambda: stored.name or None),
        queue=source.queue,
        state=readable(lambda: stored.state),
        place=source.place,
        held=held(stored, source.place, source.queue, stopped),
        retries=readable(lambda: stored.retries),
        worker=readable(lambda: stored.text("worker_name") or None),
        enqueued_at=readable(lambda: stored.instant("enqueued_at")),
        eta=readable(lambda: stored.instant("tq_eta")),
        started_at=readable(lambda: stored.instant("started_at")),
        ended_at=readable(lambda: stored.instant("ended_at")),
        error=readable(lambda: _error(stored)),
    )


def _error(stored: StoredJob) -> tuple[str, str] | None:
    raw = stored.fields.get(b"tq_error")
    if not raw or stored.status == "finished" or stored.is_requeued:
        return None
    error = load_error(raw)
    return error["type"], error["message"]
