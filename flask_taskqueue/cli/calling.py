"""``flask tasks call``: enqueue a call by the name of its task."""

from __future__ import annotations

import difflib
import json as jsonlib
import typing as t
from collections.abc import Collection
from datetime import datetime

import click

from ..appstate import current_state
from ..errors import TaskQueueError
from ..extension import TaskQueue
from ..result import AsyncResult
from .code import loaded_tasks
from .following import timeout_option
from .jobs import report_end
from .printing import echo_json, json_option, printable
from .queues import queue_name

_HINTS = 3
"""Tasks named where one is not known."""


def _json_of(kind: type, called: str) -> t.Callable[..., t.Any]:
    """A callback that reads an option's JSON."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> t.Any:
        if value is None:
            return kind()
        try:
            found = jsonlib.loads(value)
        except (ValueError, RecursionError) as error:
            raise click.BadParameter(f"expected JSON: {error}") from error
        if not isinstance(found, kind):
            raise click.BadParameter(f"expected a JSON {called}, got {value!r}")
        return found

    return read


def _instant(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"expected ISO 8601: {error}") from error


@click.command("call")
@click.argument("name")
@click.option(
    "--args",
    callback=_json_of(list, "list"),
    metavar="JSON",
    help="Positional arguments, such as '[1, 2]'.",
)
@click.option(
    "--kwargs",
    callback=_json_of(dict, "object"),
    metavar="JSON",
    help="Keyword arguments, such as '{\"x\": 1}'.",
)
@click.option("--queue", callback=queue_name, help="Instead of the task's own.")
@click.option("--countdown", type=float, help="Seconds until it may start.")
@click.option(
    "--eta",
    callback=_instant,
    metavar="ISO",
    help="Instant from which it may start; UTC where it has no offset.",
)
@click.option("--task-id", help="Id of the job; by default a new one.")
@click.option("--unregistered", is_flag=True, help="Though no such task is known here.")
@click.option("--wait", is_flag=True, help="Wait for the end, as 'wait' does.")
@timeout_option
@json_option
def call(
    name: str,
    unregistered: bool,
    wait: bool,
    timeout: float | None,
    json: bool,
    **given: t.Any,
) -> None:
    """Enqueue a call of the task NAME, and print the job's id.

    The arguments are held against the task's signature first. With --wait the id
    goes to stderr, before the waiting begins.
    """
    if timeout is not None and not wait:
        raise click.UsageError("expected --wait with --timeout")
    extension, tasks = loaded_tasks()
    if name not in tasks and not unregistered:
        raise click.ClickException(_unknown(name, tasks))
    job = _enqueue(extension, name, given)
    if not job.created:
        click.echo(f"{job.id} has not ended: nothing was enqueued.", err=True)
    if wait:
        click.echo(job.id, err=True)
        report_end(current_state(), job.id, timeout, json)
    elif json:
        fields = {"id": job.id, "task": name, "queue": job.queue}
        echo_json(fields | {"created": job.created})
    else:
        click.echo(job.id)


def _enqueue(
    extension: TaskQueue, name: str, given: dict[str, t.Any]
) -> AsyncResult[t.Any]:
    args, kwargs = given.pop("args"), given.pop("kwargs")
    options: t.Any = {key: value for key, value in given.items() if value is not None}
    try:
        return extension.send_task(name, args, kwargs, **options)
    except TaskQueueError:
        raise
    except Exception as error:
        if current_state().eager:  # It may be the task's own.
            raise click.ClickException(_line(error)) from error
        if isinstance(error, (TypeError, ValueError)):
            raise click.UsageError(printable(str(error))) from error
        raise


def _line(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}")


def _unknown(name: str, tasks: Collection[str]) -> str:
    near = [known for known in sorted(tasks) if known.endswith(f".{name}")]
    near = near or difflib.get_close_matches(name, tasks)
    hint = f" Did you mean {' or '.join(near[:_HINTS])}?" if near else ""
    return (
        f"no task {name!r} is registered here.{hint}"
        " --unregistered enqueues it all the same"
    )
