"""``flask beat`` on entries: list, trigger, pause, resume."""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from ..appstate import AppState
from ..beat import listing
from ..beat.declared import declared
from ..beat.entries import Entry
from ..beat.listing import Fired
from ..beat.records import Record
from ..beat.zones import read_zone
from ..errors import EntryNotFound
from ..nearest import hint
from ..web.describe import iso
from .code import loaded_tasks
from .importing import import_entries
from .printing import cut, echo_json, echo_table, json_option, printable, zoned_time

FIRINGS = 20
"""Firings of an entry that are shown."""

_name = click.argument("name", metavar="ENTRY")


@click.command("list")
@click.argument("name", metavar="[ENTRY]", required=False)
@json_option
def list_entries(name: str | None, json: bool) -> None:
    """List the entries of this app, or show one with its last 20 firings.

    NEXT and LAST are in the entry's time zone. STATE is on, or why it does not fire:
    paused, disabled where it is defined, over (it was to fire once, and that time has
    passed), cancelled by rq-scheduler's own means, or what is wrong with its record.
    """
    state = loaded_tasks()[0].state
    if name is not None:
        _show(state, name, json)
        return
    found = listing.records(state)
    unknown = _unknown_to_redis(state, found)
    if json:
        rows = [_as_json(record) for record in found]
        echo_json({"entries": rows, "not_in_redis": unknown})
        return
    heads = ("NAME", "TASK", "SCHEDULE", "NEXT", "LAST", "COUNT", "STATE", "SOURCE")
    echo_table(heads, [_as_row(state, record) for record in found])
    if unknown:
        names = printable(", ".join(unknown))
        click.echo(f"Known to the code only, until a beat starts: {names}", err=True)


@click.command("trigger")
@_name
@json_option
def trigger(name: str, json: bool) -> None:
    """Enqueue a job of ENTRY now, and print the job's id.

    This works for a paused entry, too, and changes none of its due times.
    """
    extension = loaded_tasks()[0]
    with _nearest(extension.state, name):
        try:
            job = extension.schedules.trigger(name)
        except (TypeError, ValueError) as error:
            # The task has changed: its arguments no longer fit.
            raise click.ClickException(printable(str(error))) from error
    if json:
        echo_json({"entry": name, "id": job.id})
    else:
        click.echo(job.id)


@click.command("pause")
@_name
@json_option
def pause(name: str, json: bool) -> None:
    """Let ENTRY fire no more until it is resumed.

    Beats obey at once. It stays paused over restarts and deploys.
    """
    extension = loaded_tasks()[0]
    with _nearest(extension.state, name):
        is_new = extension.schedules.pause(name)
    if json:
        echo_json({"entry": name, "paused": True, "changed": is_new, "next": None})
    else:
        said = "is paused" if is_new else "was paused already"
        click.echo(f"{printable(name)} {said}: it fires no more until it is resumed.")


@click.command("resume")
@_name
@json_option
def resume(name: str, json: bool) -> None:
    """Let ENTRY fire again from its next due time on.

    This works for one that rq-scheduler's API cancelled, too. Due times that passed
    meanwhile do not fire: one that was to fire once is over then.
    """
    extension = loaded_tasks()[0]
    state = extension.state
    with _nearest(state, name):
        is_new = extension.schedules.resume(name)
        record = extension.schedules.get(name)
    if json:
        answer = {"entry": name, "paused": record.paused, "changed": is_new}
        echo_json(answer | {"next": iso(record.next)})
        return
    said = "is resumed" if is_new else "was not paused"
    due = in_zone(state, record.entry, record.next)
    then = f"next {due}" if due else f"it is {_state_of(record)}"
    click.echo(f"{printable(name)} {said}: {then}.")


COMMANDS: tuple[click.Command, ...] = (
    *(list_entries, trigger, pause, resume),
    import_entries,
)
"""Commands of ``flask beat`` on entries."""


def _show(state: AppState, name: str, json: bool) -> None:
    record = listing.record(state, name)
    if record is None:
        raise _not_found(state, name)
    fired = listing.firings(state, name, FIRINGS)
    if json:
        echo_json(_as_json(record) | {"firings": [_fired_as_json(f) for f in fired]})
        return
    for label, value in _details(state, record).items():
        if value is not None:
            click.echo(f"{label + ':':13} {printable(str(value))}")
    click.echo()
    heads = ("JOB", "DUE", "LATE", "STATE")
    echo_table(heads, [_fired_as_row(state, record, f) for f in fired])


@contextmanager
def _nearest(state: AppState, name: str) -> Iterator[None]:
    """Name the nearest entry where there is none of this name."""
    try:
        yield
    except EntryNotFound as error:
        raise _not_found(state, name) from error


def _not_found(state: AppState, name: str) -> EntryNotFound:
    found = listing.records(state)
    unknown = _unknown_to_redis(state, found)
    if name in unknown:
        return EntryNotFound(
            f"the entry {name!r} is known to the code only, until a beat starts"
        )
    known = [record.name for record in found] + unknown
    return EntryNotFound(f"there is no entry {name!r}{hint(name, known, 0.5)}")


def _unknown_to_redis(state: AppState, found: Collection[Record]) -> list[str]:
    """Names of entries that the code declares and no beat has written yet."""
    known = {record.name for record in found}
    return [entry.name for entry in declared(state)[0] if entry.name not in known]


def _state_of(record: Record) -> str:
    """Whether an entry fires; else why not, in a word."""
    if record.entry is None:
        return "unreadable"
    states = {
        "over": record.ended,
        "disabled": not record.entry.enabled,
        "paused": record.paused,
        "cancelled": record.cancelled,
    }
    known = next((name for name, holds in states.items() if holds), None)
    if known or record.next is not None:
        return known or "on"
    # It is in no set, and no beat may have seen that yet.
    is_past = record.entry.schedule.next_run(datetime.now(UTC)) is None
    return "over" if is_past else "cancelled"


def in_zone(state: AppState, entry: Entry | None, at: datetime | None) -> str | None:
    """An instant in an entry's time zone, or the app's where it has none.

    :param entry: ``None`` where it cannot be read.
    :return: ``None`` of no instant.
    """
    zone = entry and entry.schedule.zone
    return zoned_time(at, zone or read_zone(state.config.timezone))


def _as_row(state: AppState, record: Record) -> tuple[object, ...]:
    entry = record.entry
    return (
        cut(record.name),
        entry and entry.task,
        entry and entry.schedule,
        in_zone(state, entry, record.next),
        in_zone(state, entry, record.last_at),
        record.count,
        _state_of(record) if entry else cut(record.problem),
        record.source,
    )


def _details(state: AppState, record: Record) -> dict[str, object]:
    """What is shown of one entry, in order. Never its arguments."""
    entry = record.entry
    rules = {}
    if entry is not None:
        rules = {
            "task": entry.task,
            "schedule": entry.schedule,
            "overlap": entry.overlap,
            "misfire": entry.misfire,
            "grace": f"{entry.grace:g} s",
        }
    return {
        "name": record.name,
        "state": _state_of(record),
        "problem": record.problem or None,
        **rules,
        "queue": record.queue,
        "source": record.source,
        "next": in_zone(state, entry, record.next),
        "last": in_zone(state, entry, record.last_at),
        "count": record.count,
        "id": record.id,
    }


def _as_json(record: Record) -> dict[str, t.Any]:
    entry = record.entry
    return {
        "name": record.name,
        "id": record.id,
        "task": entry and entry.task,
        "queue": record.queue,
        "schedule": entry and str(entry.schedule),
        "next": iso(record.next),
        "last_due": iso(record.last_due),
        "last_at": iso(record.last_at),
        "last_job": record.last_job,
        "count": record.count,
        "state": _state_of(record),
        "problem": record.problem or None,
        "source": record.source,
        "overlap": entry and entry.overlap,
        "misfire": entry and entry.misfire,
        "grace": entry and entry.grace,
    }


def _lateness(fired: Fired) -> timedelta | None:
    """How late it was; a trigger is never late."""
    return None if fired.what == "triggered" else fired.at - fired.due


def _fired_as_json(fired: Fired) -> dict[str, t.Any]:
    late = _lateness(fired)
    times = {"due": iso(fired.due), "at": iso(fired.at)}
    seconds = None if late is None else late.total_seconds()
    return asdict(fired) | times | {"late": seconds}


def _fired_as_row(state: AppState, record: Record, fired: Fired) -> tuple[object, ...]:
    due = in_zone(state, record.entry, fired.due)
    late = _lateness(fired)
    said = fired.state if fired.what == "fired" else fired.what
    if fired.what == "triggered" and fired.state:
        said = f"{fired.state} (triggered)"
    return fired.job_id, due, None if late is None else _brief(late), said


def _brief(time: timedelta) -> str:
    """A time as people read it: ``12 ms``, ``3.4 s``."""
    seconds = time.total_seconds()
    return f"{seconds * 1000:.0f} ms" if abs(seconds) < 1 else f"{seconds:.1f} s"
