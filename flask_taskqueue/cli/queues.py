"""``flask tasks`` on queues: how full they are, pause, resume, purge."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

import click

from .. import control, counts
from ..appstate import AppState, current_state
from ..patterns import check_queue_name
from ..places import PLACES
from .printing import echo_json, echo_table, json_option


def queue_name(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> str | None:
    """Check the name of a queue; wrong usage if it can be none."""
    if value is None:
        return None
    try:
        return check_queue_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def note_unknown(state: AppState, queue: str) -> None:
    """Say so where nobody has heard of a queue: its name may be mistyped."""
    if queue not in counts.known(state)[0]:
        click.echo(f"No queue named {queue} is known.", err=True)


_queue = click.argument("queue", callback=queue_name)


@click.command("queues")
@json_option
def queues(json: bool) -> None:
    """Show every queue, and how many jobs are where.

    Entries of revoked jobs are counted as waiting until a worker comes to them.
    """
    found = counts.queues(current_state())
    if json:
        rows: list[dict[str, t.Any]] = [asdict(row) for row in found.queues]
        echo_json({"queues": rows, "suspended": found.suspended})
        return
    heads = ("QUEUE", *(place.upper() for place in PLACES), "PAUSED", "WORKERS")
    echo_table(
        heads,
        [
            (q.name, *(getattr(q, p) for p in PLACES), q.paused, q.workers)
            for q in found.queues
        ],
    )
    if found.suspended:
        click.echo("All queues are suspended: 'rq resume' ends that.", err=True)


@click.command("pause")
@_queue
@json_option
def pause(queue: str, json: bool) -> None:
    """Let workers take no more jobs from QUEUE; what runs goes on.

    At once, and until resumed: a restart of workers or Redis changes nothing.
    """
    state = current_state()
    note_unknown(state, queue)
    is_new = control.pause(state, queue)
    if json:
        echo_json({"queue": queue, "paused": True, "changed": is_new})
    else:
        click.echo(f"{queue} is paused." if is_new else f"{queue} was paused already.")


@click.command("resume")
@_queue
@json_option
def resume(queue: str, json: bool) -> None:
    """Let workers take jobs from QUEUE again; they begin within 2 s."""
    state = current_state()
    note_unknown(state, queue)
    is_new = control.resume(state, queue)
    if json:
        echo_json({"queue": queue, "paused": False, "changed": is_new})
    else:
        click.echo(f"{queue} is resumed." if is_new else f"{queue} was not paused.")


@click.command("purge")
@_queue
@click.option(
    "--scheduled", is_flag=True, help="Those that wait for their time, or a retry, too."
)
@click.option(
    "--deferred",
    is_flag=True,
    help="Those that wait for another job, or for a worker that knows their task, too.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(queue: str, yes: bool, json: bool, **too: bool) -> None:
    """Revoke the jobs that wait in QUEUE.

    They answer REVOKED for ten minutes, then they are gone. Jobs that run are left
    alone, and so is what is enqueued meanwhile.
    """
    state = current_state()
    note_unknown(state, queue)
    if not yes:
        click.confirm(f"Revoke all jobs that wait in {queue}?", abort=True, err=True)
    revoked = control.purge(state, queue, **too)
    if json:
        echo_json({"queue": queue, "revoked": revoked})
    else:
        click.echo(f"Jobs of {queue} revoked: {revoked}")
