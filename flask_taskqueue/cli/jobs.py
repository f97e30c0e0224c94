"""``flask tasks`` on jobs that are there: list, show, wait, revoke, requeue."""

from __future__ import annotations

import sys
import typing as t
from dataclasses import asdict

import click
from flask import current_app

from .. import control, counts, listing, states
from ..appstate import AppState, current_state
from ..errors import JobNotFound
from ..inspector import Snapshot, snapshot
from ..listing import ListedJob
from ..places import ENDED, PLACES, held, place_of
from ..web.describe import describe, iso
from .following import follow, timeout_option
from .masking import shown_arguments
from .printing import (
    brief_time,
    cut,
    echo_json,
    echo_table,
    json_option,
    printable,
)
from .queues import note_unknown, queue_name

_id = click.argument("job_id", metavar="ID")


def _state(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Any text may be a state; that of a place was meant for another option."""
    if value in PLACES and value.upper() != states.REVOKED:
        raise click.BadParameter(f"{value!r} is a place: use --place {value}")
    return value


@click.command("list")
@click.option("--queue", callback=queue_name, help="Of this queue only.")
@click.option(
    "--place",
    type=click.Choice(PLACES, case_sensitive=False),
    help="In this place only.",
)
@click.option(
    "--state",
    callback=_state,
    help="In this state only, such as FAILURE, or one that a task says of itself.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, listing.MOST),
    default=50,
    show_default=True,
    help="Jobs to show at most.",
)
@click.option(
    "--offset",
    type=click.IntRange(0, 2**53),
    default=0,
    show_default=True,
    help="Entries to leave out in front.",
)
@json_option
def list_jobs(
    queue: str | None, place: str | None, state: str | None, json: bool, **page: int
) -> None:
    """List jobs, as they stand in their queues.

    Waiting jobs come in the order they will run; of those that ended the one that is
    kept longest comes first. Terminated jobs are among the failed, where RQ keeps
    them.
    """
    app_state = current_state()
    if queue is not None:
        note_unknown(app_state, queue)
    places = PLACES if place is None else (place,)
    found = listing.jobs(app_state, queue=queue, places=places, in_state=state, **page)
    if json:
        echo_json({"jobs": [_as_json(job) for job in found.jobs], "next": found.next})
        return
    heads = ("ID", "STATE", "PLACE", "QUEUE", "TASK", "TIME (UTC)", "MORE")
    echo_table(heads, [_as_row(job) for job in found.jobs])
    if found.next is not None:
        click.echo(f"There may be more: --offset {found.next}", err=True)


def _as_json(job: ListedJob) -> dict[str, t.Any]:
    times = ("enqueued_at", "eta", "started_at", "ended_at")
    found = asdict(job) | {name: iso(getattr(job, name)) for name in times}
    if job.error is not None:
        found["error"] = {"type": job.error[0], "message": job.error[1]}
    return found


def _as_row(job: ListedJob) -> tuple[object, ...]:
    if job.place in ENDED:
        at = job.ended_at
    else:
        times = {"scheduled": job.eta, "running": job.started_at}
        at = times.get(job.place, job.enqueued_at)
    more = "on " + job.worker if job.place == "running" and job.worker else None
    if job.error is not None:
        more = cut(": ".join(job.error))
    at_text, more = brief_time(at), job.held or more
    return job.id, job.state, job.place, job.queue, job.task, at_text, more


@click.command("show")
@_id
@click.option("--args", is_flag=True, help="Show its arguments, too.")
@json_option
def show(job_id: str, args: bool, json: bool) -> None:
    """Show all that is known of the job ID.

    Of its arguments the values named in TASKQUEUE_REDACT are hidden.
    """
    state = current_state()
    body = _described(state, _existing(snapshot(state, job_id)))
    if args:
        body["args"], body["kwargs"] = shown_arguments(state, job_id)
    if json:
        echo_json(body)
        return
    trace = body.pop("traceback")
    told = {name for name, value in body.items() if value is not None}
    if body["successful"] and "result_type" not in body:
        told.add("result")  # None is one, too.
    for name, value in body.items():
        if name in told:
            text = value if isinstance(value, str) else current_app.json.dumps(value)
            click.echo(f"{name + ':':13} {printable(text)}")
    if trace:
        click.echo("\n" + printable(trace, keep="\n").rstrip())


@click.command("wait")
@_id
@timeout_option
@json_option
def wait(job_id: str, timeout: float | None, json: bool) -> None:
    """Wait until the job ID has ended, and print its result.

    Exit code 0 if it succeeded; 1 if it failed or was revoked, if there is no such
    job, or if the time is up.
    """
    report_end(current_state(), job_id, timeout, json)


def report_end(state: AppState, job_id: str, timeout: float | None, json: bool) -> None:
    """Wait for a job, print its result and exit as ``wait`` does."""
    body = _described(state, _existing(follow(state, job_id, timeout)))
    if json:
        echo_json(body)
    elif body["successful"]:
        click.echo(_result(body))
    elif not body["ready"]:
        why = f": {body['held']}" if body["held"] else ""
        click.echo(f"{body['state']} after {timeout:g} s{why}", err=True)
    else:
        error = body["error"] or {"type": "", "message": ""}
        text = f"{body['state']} {error['type']}: {error['message']}"
        click.echo(printable(text.rstrip(": ")), err=True)
    if not body["successful"]:
        sys.exit(1)


def _result(body: t.Mapping[str, t.Any]) -> str:
    if "result_type" in body:
        return f"<{printable(body['result_type'])}>"
    if isinstance(body["result"], str):
        return printable(body["result"], keep="\n\t")
    return printable(current_app.json.dumps(body["result"]))


@click.command("revoke")
@_id
@click.option("--terminate", is_flag=True, help="Stop it if it runs.")
@json_option
def revoke(job_id: str, terminate: bool, json: bool) -> None:
    """See that the job ID does not run.

    One that runs goes on, unless it is terminated; its result counts.
    """
    done = control.revoke(current_state(), job_id, terminate=terminate)
    if json:
        echo_json({"id": job_id, "was": done, "terminate": terminate})
    elif done == "running":
        text = "is being terminated" if terminate else "runs: it will not run again"
        click.echo(f"{printable(job_id)} {text}.")
    elif done == "revoked":
        click.echo(f"{printable(job_id)} is revoked.")
    else:
        click.echo(f"{printable(job_id)} had ended before.", err=True)
    if done == "ended":
        sys.exit(1)


@click.command("requeue")
@click.argument("job_id", metavar="ID", required=False)
@click.option("--failed", is_flag=True, help="All failed jobs instead of one.")
@click.option("--queue", callback=queue_name, help="With --failed: of this queue only.")
@json_option
def requeue(job_id: str | None, failed: bool, queue: str | None, json: bool) -> None:
    """Let the job ID, which has ended, run again, at the end of its queue.

    Its attempts count from the beginning. With --failed all failed jobs do, except
    those that were terminated.
    """
    if (job_id is None) is not failed or (queue and not failed):
        raise click.UsageError("expected an ID, or --failed [--queue QUEUE]")
    state = current_state()
    if job_id is None:
        if queue:
            note_unknown(state, queue)
        names = [queue] if queue else counts.known(state)[0]
        number = control.requeue_failed(state, *names)
        if json:
            echo_json({"requeued": number})
        else:
            click.echo(f"Jobs that wait again: {number}")
        return
    if not control.requeue(state, job_id):
        raise click.ClickException(
            f"expected a job that has ended: {printable(job_id)} has not"
        )
    if json:
        echo_json({"id": job_id, "requeued": 1})
    else:
        click.echo(f"{printable(job_id)} waits again.")


def _existing(job: Snapshot) -> Snapshot:
    if not job.stored.exists:
        raise JobNotFound(f"there is no job {job.stored.id!r}")
    return job


def _described(state: AppState, job: Snapshot) -> dict[str, t.Any]:
    """A job as the endpoint has it, and what only the app's own people see."""
    body = describe(job, {}, traceback=True)
    del body["links"]
    place, queue = place_of(job.stored), job.stored.queue
    idle = counts.idle(state, [queue]) if place == "waiting" else {}
    where = {"place": place, "held": held(job.stored, place, queue, idle)}
    first = {name: body[name] for name in ("id", "task", "state")}
    return first | where | body | {
        "worker": _text(job, b"worker_name"),
        "parent": _text(job, b"tq_parent"),
        "traceback": body.get("traceback"),
    }  # fmt: skip


def _text(job: Snapshot, name: bytes) -> str | None:
    return job.stored.fields.get(name, b"").decode(errors="replace") or None
