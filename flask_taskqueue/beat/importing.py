"""Turns entries of plain rq-scheduler into entries of beat, each in one step.

One that has no counterpart stays where it is; the reason is told.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from secrets import token_hex

from .. import keys
from ..appstate import AppState
from ..broker.loading import Client
from ..broker.wire import text
from ..counts import executed
from ..errors import BrokerUnavailable, ConfigError
from ..job import StoredJob
from . import foreign, scripts, writing
from .entries import Entry, check_against, read_entry, told
from .epoch import epoch_text, from_epoch
from .foreign import Foreign
from .schedules import crontab

PAGE = 100
"""Entries read in one round trip: the arguments of each may have some ten kilobytes."""

_UNCHOSEN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An id that RQ made: a UUID."""

_UNSIGNED = (
    "nothing signed it, and TASKQUEUE_SIGN is on: if you know who made it, allow"
    " unsigned ones (--unsigned)"
)
_MEANWHILE = "it fired, or was changed, at this moment: try again"
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry of plain rq-scheduler, and what became of it.

    :param id: Of its job.
    :param refused: Why it stays where it is; ``""`` where it is an entry now, or would
        be one.
    :param entry: What it became; ``None`` where it was refused.
    :param next: When that is due next. An instant that has passed is dealt with as any
        missed one.
    :param notes: What is different from now on.
    """

    id: str
    refused: str = ""
    entry: Entry | None = None
    next: datetime | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """How entries are imported.

    :param zone: Of cron texts.
    :param dry_run: Only say what would be done.
    :param unsigned: Take them though ``TASKQUEUE_SIGN`` is on: they are signed then.
    """

    zone: tzinfo
    dry_run: bool = False
    unsigned: bool = False


def import_entries(state: AppState, terms: Terms) -> Iterator[Found]:
    """Turn all entries of plain rq-scheduler into entries of this app.

    Each in one step, so that it fires here or there. The app's tasks have to be
    loaded. Those that are entries of beat, of whichever app, are left out.

    :return: One after the other, as they are done.
    :raises BrokerUnavailable: Redis did not answer within 2 s. What was told is done.
    """
    for stored, score in _members(state):
        yield _imported(state, terms, stored, score)


def _members(state: AppState) -> Iterator[tuple[StoredJob, float]]:
    """What is in rq-scheduler's set and not beat's: the job, and its due time.

    A scan names a member twice at times.
    """
    client: Client = state.broker.monitor
    cursor, seen = -1, set()
    while cursor != 0:
        with state.broker.errors():
            cursor, page = client.zscan(
                keys.NAMES["scheduler_set"], max(cursor, 0), count=PAGE
            )
        ids = [text(member) for member, _ in sorted(page, key=lambda row: row[1])]
        new = [id for id in ids if id not in seen]
        seen.update(new)
        for start in range(0, len(new), PAGE):
            yield from _read(state, client, new[start : start + PAGE])


def _read(
    state: AppState, client: Client, ids: list[str]
) -> Iterator[tuple[StoredJob, float]]:
    names = ("tq_entry", *foreign.FIELDS)
    pipeline = client.pipeline(transaction=False)
    for id in ids:
        pipeline.hmget(keys.job(id), names)
        pipeline.zscore(keys.NAMES["scheduler_set"], id)
    with state.broker.errors():
        # Of a key that holds something else there is nothing to read.
        replies: list[t.Any] = executed(pipeline, None)
    for id, row, score in zip(ids, replies[::2], replies[1::2], strict=True):
        values = zip(names, row or (), strict=False)
        fields = {name.encode(): value for name, value in values if value is not None}
        if score is not None and b"tq_entry" not in fields:
            yield StoredJob(id, fields), score


def _imported(state: AppState, terms: Terms, stored: StoredJob, score: float) -> Found:
    try:
        read = _read_foreign(state, terms, stored, score)
        task = read.parts["task"]
        if task not in state.tasks:
            raise ValueError(
                f"no task {task!r} is registered here: decorate the function with"
                " @tq.task, or import its module"
            )
        name = stored.id
        if _UNCHOSEN.fullmatch(name):
            name = f"{task} {name[:8]}"
        entry = read_entry(name, read.parts, terms.zone)
        check_against(entry, state.tasks)
        draft = writing.draft(state, entry, "run")
    except (BrokerUnavailable, ConfigError):
        raise
    except Exception as error:  # noqa: BLE001 - unpickling, a task's own apply_async
        return Found(id=stored.id, refused=told(error))
    with state.broker.errors():
        times = writing.read_times(state.broker.producer, draft.id)
    first = _first(entry, read.due, times.now)
    refused = _taken(state, times, name)
    if not (refused or terms.dry_run):
        refused = _put(state, draft, first, stored.id, score)
    if refused:
        return Found(id=stored.id, refused=refused)
    notes = tuple(_notes(read, entry, terms.zone))
    return Found(id=stored.id, entry=entry, next=first, notes=notes)


def _read_foreign(
    state: AppState, terms: Terms, stored: StoredJob, score: float
) -> Foreign:
    config = state.config
    if config.sign and not terms.unsigned:
        raise ValueError(_UNSIGNED)
    if b"data" not in stored.fields:
        raise ValueError("its job is gone: it expired, or was deleted")
    return foreign.read(
        stored,
        from_epoch(score),
        terms.zone,
        accept=config.accept_content,
        max_bytes=config.max_args_bytes,
    )


def _first(entry: Entry, due: datetime, now: datetime) -> datetime:
    """When it is due first.

    A due time that has passed stays: it is fired or given up as any missed one. One of
    a cron text that is to come is computed anew: rq-scheduler may have counted in
    another zone.
    """
    if due <= now or not isinstance(entry.schedule, crontab):
        return due
    return entry.schedule.next_run(now) or due


def _notes(read: Foreign, entry: Entry, zone: tzinfo) -> Iterator[str]:
    if isinstance(entry.schedule, crontab):
        if entry.schedule.next_run(read.due - _MOMENT) != read.due:
            yield (
                f"rq-scheduler had it next at {read.due:%Y-%m-%d %H:%M:%S} UTC, which"
                f" is none of its times in {zone}: it counted in the zone of its host"
            )
    if read.left_out:
        yield f"left out of its meta: {', '.join(read.left_out)}"


def _taken(state: AppState, times: writing.Times, name: str) -> str:
    """Why the name cannot be that of a new entry; ``""`` where it can."""
    if name in state.config.beat_schedule or name in state.provided.entries:
        return f"the code declares an entry {name!r}: cancel this one, or rename that"
    if times.rhythm:
        return f"there is an entry {name!r} already: cancel this one, or remove that"
    return ""


def _put(
    state: AppState, draft: writing.Draft, first: datetime, id: str, score: float
) -> str:
    """Write it, and take it away there. Why that failed; ``""`` where it did not."""
    with state.broker.errors():
        code = scripts.put(
            state.broker.producer,
            state.app.name,
            draft.id,
            draft.fields,
            draft.mirror,
            known=scripts.NEW,
            nonce=token_hex(8),
            first=epoch_text(first),
            last_due="",
            enabled=True,
            replaces=id,
            replaced_due=repr(score),
        )
    if code == scripts.NOT_A_JOB:
        return "a key of it holds something else"
    return _MEANWHILE if code == scripts.STALE else ""
