"""``flask beat``."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from flask import Flask
from flask.cli import ScriptInfo, with_appcontext

from .. import context
from ..appstate import AppState
from ..beat import listing
from ..beat.declared import declared
from ..beat.entries import Entry
from ..beat.planning import first_due
from ..beat.service import Beat
from ..broker import embedded
from ..errors import BrokerUnavailable
from ..web.describe import iso
from .code import load_tasks, loaded_tasks
from .entries import COMMANDS, in_zone
from .printing import (
    Group,
    echo_json,
    echo_table,
    json_option,
    printable,
)
from .terminal import (
    end,
    extension_of,
    level_option,
    log_format_option,
    process_name,
    set_up_logging,
    title,
)

_HEADS = ("NAME", "TASK", "SCHEDULE", "NEXT")


@click.group("beat", cls=Group, invoke_without_command=True)
@level_option
@log_format_option
@with_appcontext
def group(loglevel: str, log_format: str) -> None:
    """Run a beat: enqueue the app's entries when they are due.

    Any number may run: one looks after the entries, the others stand by. TERM or INT
    ends it after what it is doing; a second INT at once. Exit codes: 0 stopped, 1 an
    entry or a setting is wrong, 2 wrong usage; commands below also 69: Redis cannot
    be reached, or refuses.
    """
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        app = ctx.ensure_object(ScriptInfo).load_app()
        # In an empty context: entries' jobs must not carry anything of this command's.
        end(ctx, context.run_apart(lambda: run(app, loglevel, log_format)))


def run(app: Flask, loglevel: str, log_format: str) -> int:
    """Run a beat in this process until it is stopped; its exit code."""
    extension = extension_of(app)
    set_up_logging(loglevel, log_format)
    load_tasks(extension, app)
    state = extension.state_of(app)
    found = declared_or_refused(state)
    # Reads the key, and raises now if there is none: not below the banner.
    _ = state.signer
    if state.url.startswith("embedded://"):
        embedded.binary()
    name = process_name(None)
    click.echo(banner(state, name))
    beat = Beat(state, name, found, on_ready=lambda: echo_schedule(state))
    beat.install_signals()
    beat.run()
    return 0


def declared_or_refused(state: AppState) -> list[Entry]:
    """The entries that the code declares.

    :raises SystemExit: Something is wrong with some. All problems have been printed.
    """
    found, problems = declared(state)
    for problem in problems:
        click.echo(f"Error: {printable(problem)}", err=True)
    if problems:
        sys.exit(1)
    return found


def banner(state: AppState, name: str) -> str:
    """What a beat says first."""
    rows = [
        title(name),
        "",
        f"- app:       {state.app.name}",
        f"- broker:    {state.broker.masked_url}",
        f"- time zone: {state.config.timezone}",
    ]
    return "\n".join(rows) + "\n"


def echo_schedule(state: AppState) -> None:
    """Print the app's entries as Redis has them; nothing while that is away."""
    try:
        found = listing.records(state)
    except BrokerUnavailable:
        return
    rows: list[tuple[object, ...]] = []
    for record in found:
        if record.entry is None:
            rows.append((record.name, "", "cannot be read", None))
            continue
        entry = record.entry
        fires = "paused" if record.paused else in_zone(state, entry, record.next)
        rows.append((record.name, entry.task, str(entry.schedule), fires))
    echo_table(_HEADS, rows)
    click.echo()


@click.command("check")
@json_option
def check(json: bool) -> None:
    """Check the entries that the code declares: all problems are shown.

    The exit code is 1 if there are any. Redis is not needed.
    """
    extension, _ = loaded_tasks()
    found, problems = declared(extension.state)
    now = datetime.now(UTC)
    if json:
        echo_json({"problems": problems, "entries": _documents(found, now)})
    else:
        _echo_checked(extension.state, found, problems, now)
    if problems:
        sys.exit(1)


def _next(entry: Entry, now: datetime) -> datetime | None:
    """When an entry would fire first if it was written now."""
    if not entry.enabled:
        return None
    return first_due(entry.schedule, now, fired=None, grace=entry.grace)


def _fires(state: AppState, entry: Entry, now: datetime) -> str | None:
    """The same for people; ``None`` where it is disabled."""
    over = "over" if entry.enabled else None
    return in_zone(state, entry, _next(entry, now)) or over


def _documents(found: Sequence[Entry], now: datetime) -> list[dict[str, t.Any]]:
    return [
        {
            "name": entry.name,
            "task": entry.task,
            "schedule": str(entry.schedule),
            "enabled": entry.enabled,
            "next": iso(_next(entry, now)),
        }
        for entry in found
    ]


def _echo_checked(
    state: AppState, found: Sequence[Entry], problems: Sequence[str], now: datetime
) -> None:
    for problem in problems:
        click.echo(printable(problem))
    if problems:
        click.echo(f"Problems: {len(problems)}. Entries that are fine: {len(found)}.")
        return
    click.echo(f"{len(found)} entries, no problems.")
    if found:
        rows = [(e.name, e.task, e.schedule, _fires(state, e, now)) for e in found]
        echo_table(_HEADS, rows)


for _command in (check, *COMMANDS):
    group.add_command(_command)
