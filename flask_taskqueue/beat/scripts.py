"""Calls the scripts of beat: each change of an entry is one step.

A key that all entries share, such as rq-scheduler's set, and that holds something else
makes every call here raise :class:`redis.ResponseError`, with nothing changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from redis.exceptions import NoScriptError

from ..broker.loading import Client, call, load
from ..broker.wire import Argument, NewJob, counted, pairs, text
from .epoch import from_epoch

FIRED, MOVED_ON, OVERLAPPED = 1, 2, 3
REFUSED, NOT_A_JOB, FUTURE, CANCELLED = 0, -1, -2, -3
"""Codes of ``tick``, in two lines: it did something, it refused. ``NOT_A_JOB`` is one
of the others, too: a key holds something else."""

CREATED, CHANGED, SAME, STALE = 1, 2, 3, 0
"""Codes of ``put``."""

NEW, ANY = "", "*"
"""In place of the fingerprint that ``put`` expects: there is no such entry, and
whatever there is."""

DONE, DONE_BEFORE, NO_ENTRY = 1, 2, 0
"""Codes of ``pause``, ``resume``, ``trigger`` and ``set_back``."""


@dataclass(frozen=True, slots=True)
class Due:
    """An entry that is due.

    :param score: Its next time in epoch seconds, as the server gave it.
    :param fingerprint: Of its definition.
    """

    id: str
    score: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at an app's entries found.

    :param leads: The beat that asked looks after the entries.
    :param lapse: Seconds until another's lead ends; 0 where this one leads.
    :param now: The server's time.
    :param due: Entries that are due, the longest first; none unless it leads.
    :param next_due: Seconds until the next one is due, 0 where more are due than were
        asked for; ``None`` where there is none.
    :param known: Number of the app's entries.
    :param foreign: A plain ``rqscheduler`` had its lock, which was taken from it.
    :param cancelled: Ids of entries that somebody took out with rq-scheduler's API.
    :param synced: The entries of the code were written, and nothing was lost since.
    """

    leads: bool
    lapse: float
    now: datetime
    due: tuple[Due, ...] = ()
    next_due: float | None = None
    known: int = 0
    foreign: bool = False
    cancelled: tuple[str, ...] = ()
    synced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """An entry to be fired for one due time. Times are epoch seconds as text.

    :param fingerprint: Of the definition the job was made from.
    :param expected: The entry's next time as it was read.
    :param due: Time to fire for; ``""`` sets the next time only.
    :param next: The time after it; ``""`` where there is none.
    :param skip_overlap: Skip it while the last job that it fired, or that was
        triggered, has not ended.
    :param job: ``None`` only where there is nothing to fire for.
    """

    id: str
    fingerprint: str
    expected: str
    due: str
    next: str
    skip_overlap: bool
    job: NewJob | None

    def argv(self, app: str) -> list[Argument]:
        """The tick as ``tick.lua`` reads it."""
        out: list[Argument] = [app, self.id, self.fingerprint, self.expected, self.due]
        out += [self.next, int(self.skip_overlap)]
        return [*out, 0] if self.job is None else [*out, 1, *self.job.argv()]


def lead(client: Redis, app: str, beat: str, *, lease: float, most: int) -> Look:
    """Look after an app's entries unless another beat does. May be repeated.

    :param beat: Name of the one that asks; no other has it.
    :param lease: Seconds it leads for, unless it asks again.
    :param most: Entries that are named at most.
    """
    leads, lapse, now, due, after, known, foreign, cancelled, synced = call(
        client, "lead", [app, beat, lease, most]
    )
    return Look(
        leads=bool(leads),
        lapse=lapse / 1000,
        now=from_epoch(text(now)),
        due=tuple(Due(*(text(part) for part in row)) for row in due),
        next_due=float(after) if after else None,
        known=known,
        foreign=bool(foreign),
        cancelled=tuple(map(text, cancelled)),
        synced=bool(synced),
    )


def step_down(client: Redis, app: str, beat: str) -> None:
    """Let another beat look after an app's entries at once. May be repeated."""
    call(client, "step_down", [app, beat])


def tick_many(client: Client, app: str, ticks: Sequence[Tick]) -> list[int]:
    """Fire entries in one round trip, in order. May be repeated: what was fired is
    refused then.

    Of several ticks of an entry each expects what the one before it sets: where one is
    refused, all after it are.

    :return: A code for each.
    :raises redis.ResponseError: The server refused one, as a full one does; others may
        have been fired.
    """
    script = load("tick")
    codes: dict[int, int] = {}
    for repeats in (False, True):
        left = [number for number in range(len(ticks)) if number not in codes]
        pipeline = client.pipeline(transaction=False)
        for number in left:
            argv = ticks[number].argv(app)
            if repeats:
                # With its source: what was loaded may be forgotten by then, too.
                pipeline.eval(script.source, 0, *argv)
            else:
                pipeline.evalsha(script.sha, 0, *argv)
        replies = pipeline.execute(raise_on_error=False) if left else []
        for number, reply in zip(left, replies, strict=True):
            if not isinstance(reply, Exception):
                codes[number] = int(reply)
            elif repeats or not isinstance(reply, NoScriptError):
                raise reply
    return [codes[number] for number in range(len(ticks))]


def put(
    client: Redis,
    app: str,
    entry_id: str,
    record: Mapping[str, Argument],
    mirror: NewJob,
    *,
    known: str = ANY,
    nonce: str = "",
    first: str,
    last_due: str,
    enabled: bool,
    replaces: str = "",
    replaced_due: str = "",
) -> int:
    """Write an entry. May be repeated, with the same nonce.

    One of the same rhythm keeps its next time, a paused one stays paused, a one-off
    that is over stays over.

    :param record: Its definition, ``name``, ``fingerprint`` and ``rhythm`` included.
    :param mirror: The job that rq-scheduler shows for it, with the entry's id.
    :param known: Fingerprint of the definition that is there, as it was read;
        ``NEW`` or ``ANY``.
    :param nonce: Of a call with ``NEW``: tells its repetition from the call of
        somebody else, who makes the same entry.
    :param first: Its next time, in epoch seconds, where it has none or another rhythm
        now; ``""``: it is over then.
    :param last_due: The time it was last due as it was read; ``""`` is never.
    :param enabled: Otherwise it gets no next time.
    :param replaces: Id of an entry of plain rq-scheduler, removed in the same step; its
        job stays where that has been enqueued.
    :param replaced_due: When that one was due as it was read; ``""`` is any time.
    :return: ``CREATED``; ``CHANGED``, also where it had been cancelled and has a next
        time again; ``SAME``, also where only its bytes or its signature differed;
        ``STALE``: it changed or fired since it was read, or what it replaces is gone,
        or fired; ``NOT_A_JOB``, also where another entry has this id.
    """
    argv: list[Argument] = [app, entry_id, known, first, last_due, int(enabled)]
    if nonce:
        record = {**record, "made": nonce}
    argv += [replaces, replaced_due, *pairs(record), *mirror.argv()]
    return int(call(client, "put_entry", argv))


def remove(client: Redis, app: str, entry_id: str) -> bool:
    """Remove an entry with its history; whether there was one. Its jobs stay."""
    return bool(call(client, "remove_entry", [app, entry_id]))


def pause(client: Redis, app: str, entry_id: str) -> int:
    """Let an entry fire no more until it is resumed. May be repeated.

    :return: ``DONE``, ``DONE_BEFORE``, ``NO_ENTRY`` or ``NOT_A_JOB``.
    """
    return int(call(client, "pause_entry", [app, entry_id]))


def resume(
    client: Redis, app: str, entry_id: str, next: str, *, enabled: bool = True
) -> int:
    """Let an entry fire again that was paused or cancelled. May be repeated.

    :param next: Its next time in epoch seconds; ``""`` where it has none: it is over,
        unless it is disabled.
    :return: ``DONE``; ``DONE_BEFORE``: it waits for its time, which stays, or has none;
        ``NO_ENTRY`` or ``NOT_A_JOB``.
    """
    return int(call(client, "resume_entry", [app, entry_id, next, int(enabled)]))


def reindex(client: Redis, app: str, entry_ids: Sequence[str]) -> int:
    """Put entries back into the index of those that wait. May be repeated.

    :return: How many were missing there, or stood there with another time.
    """
    return int(call(client, "reindex", [app, *counted(entry_ids)]))


def set_back(
    client: Redis,
    app: str,
    entry_id: str,
    fingerprint: str,
    *,
    last_due: str,
    next: str,
) -> int:
    """Let an entry go on by a clock that was set back. May be repeated.

    :param fingerprint: Of its definition as it was read.
    :param last_due: The time it was last due as it was read, in epoch seconds.
    :param next: Its next time by the clock as it is.
    :return: ``DONE``; ``NO_ENTRY``: it changed since, is over, or the clock was not set
        back; ``NOT_A_JOB``.
    """
    argv = [app, entry_id, fingerprint, last_due, next]
    return int(call(client, "set_back", argv))


def trigger(client: Redis, entry_id: str, job: NewJob, nonce: str) -> int:
    """Enqueue a job of an entry now; its next time stays. May be repeated with the same
    nonce.

    :return: ``DONE``; ``DONE_BEFORE``: another call made a job of this id; ``NO_ENTRY``
        or ``NOT_A_JOB``.
    """
    return int(call(client, "trigger_entry", [entry_id, nonce, *job.argv()]))
