"""``flask tasks`` on queues: how full they are, pause, resume, purge."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

import click

from .. import control, counts
from ..appstate import current_state
from ..patterns import check_queue_name
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


_queue = click.argument("queue", callback=queue_name)


@click.command("queues")
@json_option
def queues(json: bool) -> None:
    """Show every queue, and how many jobs are where.

    Revoked jobs are counted as waiting until a worker comes to them.
    """
    found = counts.queues(current_state())
    if json:
        rows: list[dict[str, t.Any]] = [asdict(row) for row in found.queues]
        echo_json({"queues": rows, "suspended": found.suspended})
        return
    heads = ("QUEUE", *(place.upper() for place in counts.PLACES), "PAUSED", "WORKERS")
    echo_table(
        heads,
        [
            (q.name, *(getattr(q, p) for p in counts.PLACES), q.paused, q.workers)
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
    is_new = control.pause(current_state(), queue)
    if json:
        echo_json({"queue": queue, "paused": True, "changed": is_new})
    else:
        click.echo(f"{queue} is paused." if is_new else f"{queue} was paused already.")


@click.command("resume")
@_queue
@json_option
def resume(queue: str, json: bool) -> None:
    """Let workers take jobs from QUEUE again; they begin within 2 s."""
    is_new = control.resume(current_state(), queue)
    if json:
        echo_json({"queue": queue, "paused": False, "changed": is_new})
    else:
        click.echo(f"{queue} is resumed." if is_new else f"{queue} was not paused.")


@click.command("purge")
@_queue
@click.option("--scheduled", is_flag=True, help="Those that wait for their time, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(queue: str, scheduled: bool, yes: bool, json: bool) -> None:
    """Revoke the jobs that wait in QUEUE.

    They answer REVOKED for ten minutes, then they are gone. Jobs that run are left
    alone, and so is what is enqueued meanwhile.
    """
    if not yes:
        click.confirm(f"Revoke all jobs that wait in {queue}?", abort=True, err=True)
    revoked = control.purge(current_state(), queue, scheduled=scheduled)
    if json:
        echo_json({"queue": queue, "revoked": revoked})
    else:
        click.echo(f"Jobs of {queue} revoked: {revoked}")
