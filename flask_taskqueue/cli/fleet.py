"""``flask worker`` on workers that run: list, stop, quiet, ping."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Sequence
from dataclasses import asdict

import click
from flask.cli import with_appcontext

from .. import control, fleet
from ..appstate import AppState, current_state
from ..fleet import SeenWorker
from ..nearest import hint
from ..web.describe import iso
from .printing import brief_time, echo_json, echo_table, json_option, printable

_HEADS = (
    "NAME", "STATE", "POOL", "RUNNING", "DONE", "FAILED", "QUEUES", "SINCE (UTC)",
    "SEEN (UTC)",
)  # fmt: skip

_name = click.argument("name")


@click.command("list")
@json_option
@with_appcontext
def list_workers(json: bool) -> None:
    """List the workers that are up, on every machine.

    STATE is idle, busy, or why a worker takes no jobs: quiet, reloading, stopping.
    RUNNING counts its jobs, of as many as it runs at once. SEEN is when Redis heard of
    it last: a worker that was killed is shown for 90 s after that.
    """
    found = fleet.workers(current_state())
    if json:
        echo_json({"workers": [_as_json(worker) for worker in found]})
        return
    echo_table(_HEADS, [_as_row(worker) for worker in found])


@click.command("stop")
@_name
@json_option
@with_appcontext
def stop(name: str, json: bool) -> None:
    """Let the worker NAME finish what runs, and end.

    NAME may be the beginning of one worker's name. The exit code is 1 if there is no
    such worker, or if it does not listen.
    """
    _tell(name, control.stop_worker, "stops", json)


@click.command("quiet")
@_name
@json_option
@with_appcontext
def quiet(name: str, json: bool) -> None:
    """Let the worker NAME take no more jobs; what runs goes on, and the worker stays.

    NAME may be the beginning of one worker's name. The exit code is 1 if there is no
    such worker, or if it does not listen.
    """
    _tell(name, control.quiet_worker, "takes no more jobs", json)


@click.command("ping")
@click.argument("name", required=False)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Seconds to wait for answers.",
)
@json_option
@with_appcontext
def ping(name: str | None, timeout: float, json: bool) -> None:
    """Ask all workers, or the worker NAME, to answer.

    The exit code is 1 if none does.
    """
    state = current_state()
    if name is None:
        names = [worker.name for worker in fleet.workers(state)]
    else:
        names = [_find(state, name)]
    answered = fleet.ping(state, names, timeout)
    if json:
        echo_json({"answers": {name: answered.get(name) for name in names}})
    else:
        _echo_answers(names, answered)
    if not answered:
        raise click.exceptions.Exit(1)


def _echo_answers(names: Sequence[str], answered: dict[str, float]) -> None:
    for name in names:
        after = answered.get(name)
        said = "no answer" if after is None else f"answered in {after * 1000:.0f} ms"
        click.echo(f"{printable(name)}: {said}")
    if not names:
        click.echo("No worker is up.", err=True)


def _tell(
    name: str, order: Callable[[AppState, str], bool], does: str, json: bool
) -> None:
    state = current_state()
    whole = _find(state, name)
    if not order(state, whole):
        raise click.ClickException(
            f"{printable(whole)} does not listen: it is gone, or has no connection"
        )
    if json:
        echo_json({"worker": whole})
    else:
        click.echo(f"{printable(whole)} {does}.")


def _find(state: AppState, name: str) -> str:
    """The one worker of this name, or whose name begins like this."""
    names = [worker.name for worker in fleet.workers(state)]
    if name in names:
        return name
    found = [other for other in names if other.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise click.ClickException(
            f"{len(found)} workers begin with {name!r}: {printable(', '.join(found))}"
        )
    # The end of a name is made up: whoever mistyped one wrote its beginning.
    near = hint(name, (other[: len(name)] for other in names))
    raise click.ClickException(printable(f"no worker is named {name!r}{near}"))


def _as_row(worker: SeenWorker) -> tuple[object, ...]:
    return (
        worker.name,
        worker.state,
        worker.pool,
        f"{len(worker.jobs)}/{worker.concurrency or '?'}",
        worker.done,
        worker.failed,
        ",".join(worker.queues),
        brief_time(worker.since),
        brief_time(worker.seen_at),
    )


def _as_json(worker: SeenWorker) -> dict[str, t.Any]:
    instants = {"since": iso(worker.since), "seen_at": iso(worker.seen_at)}
    return asdict(worker) | instants


COMMANDS = (list_workers, stop, quiet, ping)
