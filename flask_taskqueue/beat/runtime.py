"""Entries that are made, changed and triggered at run time: ``tq.schedules``."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from secrets import token_hex

from redis import Redis

from .. import announcing
from ..appstate import AppState
from ..errors import EntryNotFound, TaskQueueError
from ..option_values import Seconds
from ..options import CallOptions
from ..registry import AnyTask
from ..request import parent_in
from ..result import AsyncResult
from ..task import Owner
from . import firing, listing, scripts, writing
from .declared import AnySchedule, Rules
from .entries import (
    Entry,
    Misfire,
    Overlap,
    check_against,
    entry_id,
    read_entry,
    trigger_id,
)
from .epoch import epoch_text
from .records import Record
from .schedules import Every, Schedule, crontab
from .zones import read_zone

_MILLISECOND = timedelta(milliseconds=1)


class Changes(Rules, total=False):
    """Parts of an entry that may change."""

    task: str | AnyTask
    schedule: AnySchedule
    args: Sequence[t.Any]
    kwargs: Mapping[str, t.Any] | None
    options: CallOptions | None


class Schedules:
    """The current app's entries in Redis.

    They need Redis, also where calls are eager or captured. A running beat fires them,
    and learns of changes at once. Every method raises
    :class:`.errors.BrokerUnavailable` if Redis does not answer within 2 s.

    :param owner: Finds the state of the current app.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def add(
        self,
        name: str,
        task: str | AnyTask,
        schedule: AnySchedule,
        args: Sequence[t.Any] = (),
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        options: CallOptions | None = None,
        tz: str | tzinfo | None = None,
        enabled: bool = True,
        overlap: Overlap = "allow",
        misfire: Misfire = "once",
        grace: Seconds = 60,
        replace: bool = False,
    ) -> Record:
        """Make an entry, which is kept until it is removed.

        An interval is first due one interval from now.

        :param name: At most 255 characters; each entry of the app has its own.
        :param task: A task of this app, or its name.
        :param schedule: Seconds, a ``timedelta``, a ``datetime`` (once), a cron text,
            ``every(…)`` or ``crontab(…)``.
        :param args: Positional arguments of each call.
        :param kwargs: Keyword arguments of each call.
        :param options: Options of ``apply_async``, without ``task_id``, ``eta`` and
            ``countdown``.
        :param tz: Time zone of a cron schedule that names none; ``None`` is
            ``TASKQUEUE_TIMEZONE``.
        :param enabled: ``False`` keeps and shows the entry, but does not fire it.
        :param overlap: ``"skip"`` leaves a due time out while the last firing's job has
            not ended; ``"allow"`` does not look.
        :param misfire: What happens to due times missed by ``grace`` or more:
            ``"once"`` fires the latest, ``"skip"`` none, ``"all"`` the newest 1,000.
        :param grace: Seconds, at least 1, or a ``timedelta``. A due time missed by less
            is fired late.
        :param replace: Change the entry of this name, where there is one. With the
            same schedule it keeps its next due time.
        :return: What Redis has of it now.
        :raises ValueError: There is an entry of this name, the task is unknown, the
            schedule will never be due, or a value cannot be used.
        :raises TypeError: The arguments do not fit the task, or a value is of the
            wrong type.
        :raises PayloadTooLarge: The arguments are over ``TASKQUEUE_MAX_ARGS_BYTES``.
        :raises TaskQueueError: Redis holds something else under a key of the entry.
        """
        state = self._owner.state
        parts = {
            "task": task, "schedule": schedule, "args": args, "kwargs": kwargs,
            "options": options, "tz": tz, "enabled": enabled, "overlap": overlap,
            "misfire": misfire, "grace": grace,
        }  # fmt: skip
        entry = read_entry(name, parts, read_zone(state.config.timezone))
        known = listing.record(state, name)
        if known is not None:
            _refuse_declared(known)
        is_taken = known is not None and not replace
        expected = scripts.ANY if replace else scripts.NEW
        if is_taken or not self._put(state, entry, expected):
            raise ValueError(
                f"there is an entry {name!r} already: change it with"
                " tq.schedules.update(…), or pass replace=True"
            )
        return self.get(name)

    def update(self, name: str, **changes: t.Unpack[Changes]) -> Record:
        """Change parts of an entry: those of :meth:`add`. The others stay.

        With the same schedule it keeps its next due time, and a paused one stays
        paused. A new schedule is in the time zone of the old one, unless it or ``tz``
        names another.

        :return: What Redis has of it now.
        :raises EntryNotFound: There is no entry of this name.
        :raises ValueError: It stands in the code; or as :meth:`add`.
        :raises TypeError: As :meth:`add`.
        """
        state = self._owner.state
        given = t.cast("Mapping[str, t.Any]", changes)
        for _ in range(writing.TRIES):
            known = self.get(name)
            _refuse_declared(known)
            entry = _changed(state, _readable(known), given)
            if self._put(state, entry, known.fingerprint):
                return self.get(name)
        raise TaskQueueError(
            f"the entry {name!r} was not changed: somebody else changed it each of the"
            f" {writing.TRIES} times it was read before; try again"
        )

    def pause(self, name: str) -> bool:
        """Let an entry fire no more until it is resumed; whether that is new.

        It stays paused over restarts, and over a deploy where it stands in the code.

        :raises EntryNotFound: There is no entry of this name.
        """
        state = self._owner.state
        with state.broker.errors():
            code = scripts.pause(
                state.broker.producer, state.app.name, _id(state, name)
            )
        return _done(name, code)

    def resume(self, name: str) -> bool:
        """Let an entry fire again that was paused; whether that is new.

        Also one that rq-scheduler's API cancelled. Due times that passed meanwhile do
        not fire: an interval keeps its grid, a one-off is over then.

        :raises EntryNotFound: There is no entry of this name.
        """
        state = self._owner.state
        entry = _readable(self.get(name))
        client, id = state.broker.producer, _id(state, name)
        with state.broker.errors():
            times = writing.read_times(client, id)
            following = _next_of(entry, times) if entry.enabled else None
            at = "" if following is None else epoch_text(following)
            code = scripts.resume(client, state.app.name, id, at, enabled=entry.enabled)
        return _done(name, code)

    def remove(self, name: str) -> None:
        """Remove an entry with its history. Its jobs stay.

        :raises EntryNotFound: There is no entry of this name; also where this call
            removed it and the connection was lost before the answer came.
        :raises ValueError: It stands in the code.
        """
        state = self._owner.state
        _refuse_declared(self.get(name))
        with state.broker.errors():
            removed = scripts.remove(
                state.broker.producer, state.app.name, _id(state, name)
            )
        if not removed:
            raise _not_found(name)

    def trigger(self, name: str) -> AsyncResult[t.Any]:
        """Enqueue a job of an entry now, also of a paused one. Its due times stay.

        Unlike a firing it carries what a call from here carries, such as the locale.

        :return: The job's handle.
        :raises EntryNotFound: There is no entry of this name.
        """
        state = self._owner.state
        known = self.get(name)
        entry, client = _readable(known), state.broker.producer
        with state.broker.errors():
            at = writing.read_times(client, known.id).now
        code = scripts.DONE_BEFORE
        while code == scripts.DONE_BEFORE:
            # Somebody else may have triggered it in the same millisecond.
            job_id = trigger_id(known.id, at)
            new = firing.prepare_here(state, entry, known.queue, job_id)
            with state.broker.errors():
                code = scripts.trigger(client, known.id, new, token_hex(8))
            at += _MILLISECOND
        _done(name, code)
        parent = parent_in(state)
        if parent is not None:
            parent.children.append(new.id)
        announcing.enqueued(state, new)
        handle: AsyncResult[t.Any] = AsyncResult(new.id, state)
        handle.created = True
        return handle

    def get(self, name: str) -> Record:
        """An entry, and what became of it.

        :raises EntryNotFound: There is no entry of this name.
        """
        record = listing.record(self._owner.state, name)
        if record is None:
            raise _not_found(name)
        return record

    def list(self) -> list[Record]:
        """All entries by name, those that stand in the code included."""
        return listing.records(self._owner.state)

    def _put(self, state: AppState, entry: Entry, known: str) -> bool:
        """Write an entry, unless its definition is not the known one any more."""
        check_against(entry, state.tasks)
        client: Redis = state.broker.producer
        new = writing.draft(state, entry, "run")
        with state.broker.errors():
            code = writing.put_draft(state, client, entry, new, known)
        return code != scripts.STALE


def _id(state: AppState, name: str) -> str:
    return entry_id(state.app.name, name)


def _changed(state: AppState, entry: Entry, changes: Mapping[str, t.Any]) -> Entry:
    schedule = entry.schedule
    zone = schedule.zone
    if "tz" in changes or zone is None:
        zone = read_zone(state.config.timezone)
        if isinstance(schedule, crontab):
            # Without the zone it was bound to when it was made.
            schedule = schedule.unbound()
    parts = {
        "task": entry.task, "schedule": schedule, "args": entry.args,
        "kwargs": entry.kwargs, "options": entry.options, "enabled": entry.enabled,
        "overlap": entry.overlap, "misfire": entry.misfire, "grace": entry.grace,
    }  # fmt: skip
    return read_entry(entry.name, {**parts, **changes}, zone)


def _next_of(entry: Entry, times: writing.Times) -> datetime | None:
    """When an entry is due next, from the server's time on."""
    schedule: Schedule = entry.schedule
    if isinstance(schedule, Every) and times.due is not None:
        if times.due > times.start:
            return times.due
        return schedule.next_run(schedule.last_run(times.due, times.start))
    return schedule.next_run(times.start)


def _readable(record: Record) -> Entry:
    if record.entry is None:
        raise TaskQueueError(
            f"the entry {record.name!r} cannot be read: {record.problem}; remove it,"
            " or make it anew with tq.schedules.add(…, replace=True)"
        )
    return record.entry


def _refuse_declared(record: Record) -> None:
    if record.source == "code":
        raise ValueError(
            f"the entry {record.name!r} stands in the code: change it there;"
            " tq.schedules.pause() keeps it from firing"
        )


def _not_found(name: str) -> EntryNotFound:
    return EntryNotFound(f"there is no entry {name!r}")


def _done(name: str, code: int) -> bool:
    """Whether a script changed something."""
    if writing.checked(name, code) == scripts.NO_ENTRY:
        raise _not_found(name)
    return code == scripts.DONE
