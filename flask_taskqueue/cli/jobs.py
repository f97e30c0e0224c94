"""``flask tasks`` on jobs that are there: list, show, wait, revoke, requeue."""

from __future__ import annotations

import sys
import typing as t
from dataclasses import asdict

import click

from .. import control, counts, listing
from ..appstate import AppState, current_state
from ..errors import JobNotFound
from ..inspector import Snapshot, snapshot
from ..listing import ListedJob
from ..web.describe import describe, json_text
from .following import follow
from .masking import shown_arguments
from .printing import (
    brief_time,
    cut,
    echo_json,
    echo_table,
    iso,
    json_option,
    printable,
)
from .queues import queue_name

_id = click.argument("job_id", metavar="ID")


@click.command("list")
@click.option("--queue", callback=queue_name, help="Of this queue only.")
@click.option(
    "--state",
    type=click.Choice(counts.PLACES, case_sensitive=False),
    help="In this state only.",
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
    help="Jobs to leave out in front.",
)
@json_option
def list_jobs(
    queue: str | None, state: str | None, limit: int, offset: int, json: bool
) -> None:
    """List jobs, as they stand in their queues.

    Waiting jobs come in the order they will run, those that ended newest first.
    Terminated jobs are among the failed, where RQ keeps them.
    """
    places = counts.PLACES if state is None else (state,)
    page = listing.jobs(
        current_state(), queue=queue, places=places, offset=offset, limit=limit
    )
    if json:
        echo_json({"jobs": [_as_json(job) for job in page.jobs], "next": page.next})
        return
    heads = ("ID", "STATE", "QUEUE", "TASK", "TIME (UTC)", "MORE")
    echo_table(heads, [_as_row(job) for job in page.jobs])
    if page.next is not None:
        click.echo(f"There are more: --offset {page.next}", err=True)


def _as_json(job: ListedJob) -> dict[str, t.Any]:
    times = ("enqueued_at", "eta", "started_at", "ended_at")
    found = asdict(job) | {name: iso(getattr(job, name)) for name in times}
    if job.error is not None:
        found["error"] = {"type": job.error[0], "message": job.error[1]}
    return found


def _as_row(job: ListedJob) -> tuple[object, ...]:
    if job.place in counts.ENDED:
        at = job.ended_at
    else:
        times = {"scheduled": job.eta, "running": job.started_at}
        at = times.get(job.place, job.enqueued_at)
    more = "on " + job.worker if job.place == "running" and job.worker else None
    if job.error is not None:
        more = cut(": ".join(job.error))
    return job.id, job.state, job.queue, job.task, brief_time(at), more


@click.command("show")
@_id
@click.option("--args", is_flag=True, help="Show its arguments, too.")
@json_option
def show(job_id: str, args: bool, json: bool) -> None:
    """Show all that is known of the job ID.

    Of its arguments the values named in TASKQUEUE_REDACT are hidden.
    """
    state = current_state()
    body = _described(_existing(state, job_id))
    if args:
        body["args"], body["kwargs"] = shown_arguments(state, job_id)
    if json:
        echo_json(body)
        return
    trace = body.pop("traceback")
    for name, value in body.items():
        if value is not None:
            text = value if isinstance(value, str) else json_text(value)
            click.echo(f"{name + ':':13} {printable(text)}")
    if trace:
        click.echo("\n" + printable(trace, keep="\n").rstrip())


@click.command("wait")
@_id
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait.")
@json_option
def wait(job_id: str, timeout: float | None, json: bool) -> None:
    """Wait until the job ID has ended, and print its result.

    Exit code 0 if it succeeded; 1 if it failed or was revoked, if there is no such
    job, or if the time is up.
    """
    report_end(current_state(), job_id, timeout, json)


def report_end(state: AppState, job_id: str, timeout: float | None, json: bool) -> None:
    """Wait for a job, print its result and exit as ``wait`` does."""
    job = follow(state, job_id, timeout)
    if not job.stored.exists:
        raise JobNotFound(f"there is no job {job_id!r}")
    body = _described(job)
    if json:
        echo_json(body)
    elif body["successful"]:
        click.echo(_result(body))
    elif not body["ready"]:
        click.echo(f"{body['state']} after {timeout:g} s", err=True)
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
    return printable(json_text(body["result"]))


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
        names = [queue] if queue else counts.known(state)[0]
        number = sum(control.requeue_failed(state, name) for name in names)
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


def _existing(state: AppState, job_id: str) -> Snapshot:
    job = snapshot(state, job_id)
    if not job.stored.exists:
        raise JobNotFound(f"there is no job {job_id!r}")
    return job


def _described(job: Snapshot) -> dict[str, t.Any]:
    """A job as the endpoint has it, and what only the app's own people see."""
    body = describe(job, {}, traceback=True)
    del body["links"]
    return body | {
        "worker": _text(job, b"worker_name"),
        "parent": _text(job, b"tq_parent"),
        "traceback": body.get("traceback"),
    }


def _text(job: Snapshot, name: bytes) -> str | None:
    return job.stored.fields.get(name, b"").decode(errors="replace") or None
