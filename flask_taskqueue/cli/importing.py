"""``flask beat import``: plain rq-scheduler's entries as ours."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterator
from datetime import tzinfo

import click

from ..beat import importing
from ..beat.importing import Found, Terms
from ..beat.zones import read_zone
from ..web.describe import iso
from .code import loaded_tasks
from .printing import echo_json, json_option, printable, zoned_time


def _zone(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tzinfo | None:
    """The zone of a name; wrong usage if there is none."""
    if value is None:
        return None
    try:
        return read_zone(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("import")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--tz",
    callback=_zone,
    metavar="ZONE",
    help="Zone of cron texts, such as Europe/Paris; by default TASKQUEUE_TIMEZONE.",
)
@click.option(
    "--unsigned",
    is_flag=True,
    help="Take them though TASKQUEUE_SIGN is on, and sign them.",
)
@json_option
def import_entries(
    tz: tzinfo | None, dry_run: bool, unsigned: bool, json: bool
) -> None:
    """Turn the entries of plain rq-scheduler into entries of this app.

    An interval and a one-off keep their next time. rq-scheduler counted cron texts in
    the time zone of its host: name that with --tz. Stop rqscheduler first. It pickles
    entries by default, and they are read only while TASKQUEUE_ACCEPT_CONTENT names
    pickle, too.

    What cannot be turned stays where it is, with the reason; the exit code is 1 then.
    It does not fire while a beat runs.
    """
    state = loaded_tasks()[0].state
    zone = read_zone(state.config.timezone) if tz is None else tz
    terms = Terms(zone, dry_run=dry_run, unsigned=unsigned)
    found = importing.import_entries(state, terms)
    if json:
        rows = list(found)
        body = [_as_json(row) for row in rows]
        echo_json({"zone": str(zone), "dry_run": dry_run, "entries": body})
        refused = sum(row.entry is None for row in rows)
    else:
        refused = _tell(found, terms)
    if refused:
        sys.exit(1)


def _as_json(row: Found) -> dict[str, t.Any]:
    entry = row.entry
    return {
        "id": row.id,
        "imported": entry is not None,
        "reason": row.refused or None,
        "entry": entry and entry.name,
        "task": entry and entry.task,
        "schedule": entry and str(entry.schedule),
        "next": iso(row.next),
        "notes": row.notes,
    }


def _tell(found: Iterator[Found], terms: Terms) -> int:
    """Print a line for each when it is done; how many were refused."""
    counts = {True: 0, False: 0}
    for row in found:
        counts[row.entry is None] += 1
        click.echo(printable(_line(row, terms.zone)))
    done = "would be imported" if terms.dry_run else "imported"
    click.echo(
        f"{counts[False]} {done}, cron texts in {terms.zone}; {counts[True]} left where"
        " they are",
        err=True,
    )
    return counts[True]


def _line(row: Found, zone: tzinfo) -> str:
    entry = row.entry
    if entry is None:
        return f"{row.id} is left: {row.refused}"
    notes = "".join(f"; {note}" for note in row.notes)
    due = zoned_time(row.next, entry.schedule.zone or zone)
    return (
        f"{row.id} becomes {entry.name!r}: {entry.task}, {entry.schedule}, next {due}"
        f"{notes}"
    )
