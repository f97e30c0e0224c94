"""Writes an entry to Redis: its record, its next due time, and its mirror, the job
that rq-scheduler shows for it."""

from __future__ import annotations

import sys
import typing as t
from dataclasses import dataclass, replace
from datetime import datetime
from secrets import token_hex

from redis import Redis

from .. import keys
from ..appstate import AppState
from ..broker.loading import Client
from ..broker.wire import Argument, NewJob, text
from ..counts import executed
from ..errors import TaskQueueError
from ..serializer import compress, dump_call
from . import firing, planning, records, scripts
from .entries import Entry, entry_id
from .epoch import epoch_text, from_epoch
from .records import Source

TRIES = 5
"""Times an entry is written at most, where it fires between reading and writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is written of an entry.

    :param fields: The definition part of its record.
    :param mirror: The job that rq-scheduler's reading API shows for it.
    """

    id: str
    fields: dict[str, Argument]
    mirror: NewJob


@dataclass(frozen=True, slots=True)
class Times:
    """The server's time, and the times in an entry's record, read together.

    :param last_due: As stored; ``""`` where it never fired.
    :param due: Its next due time, or the one it had when it was paused.
    :param fingerprint: Of its definition; ``""`` where there is no such entry.
    :param rhythm: Of its schedule alone.
    """

    now: datetime
    last_due: str
    due: datetime | None
    fingerprint: str
    rhythm: str

    @property
    def fired(self) -> datetime | None:
        """When it was last due; ``None`` where it never was."""
        return _instant(self.last_due)

    @property
    def start(self) -> datetime:
        """The instant after which it may be due next. Later than now where the clock
        was set back: a time that fired does not fire again."""
        return self.now if self.fired is None else max(self.now, self.fired)


def draft(state: AppState, entry: Entry, source: Source, queue: str = "") -> Draft:
    """What would be written of an entry. Needs no Redis.

    :param queue: Of a task whose code is not here; ``""`` leaves it to the routes.
    :raises TypeError: Its arguments do not fit the task, or cannot be encoded.
    :raises PayloadTooLarge: They are over ``TASKQUEUE_MAX_ARGS_BYTES``.
    :raises TaskQueueError: Its task's ``apply_async`` did not enqueue it.
    """
    app = state.app.name
    id = entry_id(app, entry.name)
    job = firing.prepare(state, entry, queue, id)
    fields = records.dump(
        entry,
        app,
        source,
        job.queue,
        str(job.fields["tq_content"]),
        state.signer,
        state.config.max_args_bytes,
    )
    return Draft(id=id, fields=fields, mirror=_mirror(entry, job))


def _mirror(entry: Entry, job: NewJob) -> NewJob:
    """The job that rq-scheduler shows. Its call is always JSON: a plain ``rqscheduler``
    expects a pickle and fails to read it before it has changed anything, so it cannot
    fire the entry."""
    try:
        call = dump_call(entry.task, entry.args, entry.kwargs, "json", sys.maxsize)
    except TypeError:
        call = dump_call(entry.task, (), {}, "json", sys.maxsize)
    names = ("description", "timeout", "result_ttl", "failure_ttl")
    fields: dict[str, Argument] = {name: job.fields[name] for name in names}
    return replace(job, fields={**fields, "data": compress(call)})


def put_entry(state: AppState, client: Redis, entry: Entry, source: Source) -> int:
    """Draft an entry and write it, as :func:`draft` and :func:`put_draft` do."""
    return put_draft(state, client, entry, draft(state, entry, source))


def put_draft(
    state: AppState, client: Redis, entry: Entry, new: Draft, known: str = scripts.ANY
) -> int:
    """Write an entry, new or changed, in one step. May be repeated.

    One whose rhythm is the same keeps its next due time; otherwise it is due next
    after the server's time, and after all that it was due at before. A one-off of the
    code that is past is due by the rules of a missed one, or over.

    :param client: Its errors are the caller's.
    :param known: Fingerprint of the definition that the draft was made from;
        ``scripts.NEW`` or ``scripts.ANY``.
    :return: ``CREATED``, ``CHANGED`` or ``SAME`` of :mod:`.scripts`; ``STALE``: another
        definition is there than the known one, and nothing was written.
    :raises ValueError: It is made at run time and will never be due.
    :raises TaskQueueError: It cannot be written.
    """
    for _ in range(TRIES):
        times = read_times(client, new.id)
        if known not in (scripts.ANY, times.fingerprint):
            return scripts.STALE
        same_rhythm = times.rhythm == new.fields["rhythm"]
        if new.fields["source"] == "run" and not same_rhythm:
            _refuse_past(entry, times)
        first = planning.first_due(
            entry.schedule, times.now, fired=times.fired, grace=entry.grace
        )
        code = scripts.put(
            client,
            state.app.name,
            new.id,
            new.fields,
            new.mirror,
            known=known,
            nonce=token_hex(8) if known == scripts.NEW else "",
            first="" if first is None else epoch_text(first),
            last_due=times.last_due,
            enabled=entry.enabled,
        )
        if code != scripts.STALE:
            return checked(entry.name, code)
    raise TaskQueueError(
        f"the entry {entry.name!r} was not written: it fired each of the {TRIES} times"
        " it was read before; try again"
    )


def _refuse_past(entry: Entry, times: Times) -> None:
    if entry.schedule.next_run(times.start) is None:
        raise ValueError(
            f"expected the schedule of entry {entry.name!r} to be due in the future,"
            f" got {entry.schedule}"
        )


def read_times(client: Client, id: str) -> Times:
    """The server's time, and when an entry was and is due. One round trip."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hmget(keys.entry(id), "last_due", "due", "fingerprint", "rhythm")
    # A key that holds something else reads as nothing here; the scripts refuse it.
    nothing: tuple[t.Any, ...] = (None,) * 4
    (seconds, microseconds), row = executed(pipeline, nothing)
    last_due, due, fingerprint, rhythm = (text(value or b"") for value in row)
    now = from_epoch(f"{seconds}.{microseconds:06d}")
    return Times(now, last_due, _instant(due), fingerprint, rhythm)


def checked(name: str, code: int) -> int:
    """Return a script's code.

    :raises TaskQueueError: The code says that a key of the entry holds something else.
    """
    if code == scripts.NOT_A_JOB:
        raise TaskQueueError(
            f"a key of the entry {name!r} holds something else; nothing was changed"
        )
    return code


def _instant(stored: str) -> datetime | None:
    try:
        return from_epoch(stored) if stored else None
    except (ValueError, OverflowError):
        return None
