"""``flask worker``."""

from __future__ import annotations

import logging
import os
import threading
import typing as t

import click
from flask import Flask
from flask.cli import ScriptInfo

from .. import patterns
from ..appstate import AppState
from ..broker import embedded
from ..options import UNSET
from ..worker.prefork import PreforkPool
from ..worker.solo import SoloPool
from ..worker.supervisor import GAVE_BACK, Supervisor, WorkerOptions
from .code import load_tasks
from .terminal import (
    end,
    extension_of,
    level_option,
    process_name,
    set_up_logging,
    title,
)

if t.TYPE_CHECKING:
    from ..beat.entries import Entry
    from ..worker.embedded_beat import EmbeddedBeat

POOLS = ("prefork", "solo")
NOT_OFFERED = {
    "eventlet": "its authors advise against eventlet; use prefork or solo",
}


def _pool(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Check a pool's name, with a word on those people know from elsewhere."""
    if value not in POOLS:
        hint = NOT_OFFERED.get(value, f"choose from {', '.join(POOLS)}")
        raise click.BadParameter(f"there is no pool {value!r}: {hint}")
    return value


def _queues(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Split names at commas and check each."""
    if value is None:
        return None
    names = tuple(dict.fromkeys(n.strip() for n in value.split(",") if n.strip()))
    try:
        return tuple(patterns.check_queue_name(name) for name in names or ("",))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _slots(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """A number of slots; ``auto`` is left to the pool."""
    if value.lower() == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"expected a number >= 1 or auto, got {value!r}")
    return int(value)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@click.group("worker", invoke_without_command=True)
@click.option(
    "-Q", "--queues", callback=_queues, metavar="A,B", help="Queues, by priority."
)
@click.option(
    "-c",
    "--concurrency",
    callback=_slots,
    metavar="N|auto",
    default="auto",
    show_default=True,
    help="Jobs that run at once; auto: one for each CPU.",
)
@click.option(
    "-P",
    "--pool",
    callback=_pool,
    metavar="|".join(POOLS),
    default="prefork",
    show_default=True,
    help="How they run at once.",
)
@level_option
@click.option("-n", "--name", help="Begins the worker's name; %h is the host.")
@click.option("-B", "--beat", is_flag=True, help="Run a beat, too; any number may run.")
@click.option("--burst", is_flag=True, help="End when no job waits.")
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(min=0),
    default=25.0,
    show_default=True,
    help="Seconds running jobs may take after a request to stop.",
)
@click.pass_context
def group(ctx: click.Context, /, **given: t.Any) -> None:
    """Run a worker: take jobs from queues and run them.

    TERM or INT lets running jobs finish; QUIT, or INT again, gives them back at
    once. Exit codes: 0 every job finished, 75 jobs were given back, 70 the worker's
    processes cannot start.
    """
    if ctx.invoked_subcommand is None:
        app = ctx.ensure_object(ScriptInfo).load_app()
        end(ctx, run(app, **given))


def run(
    app: Flask,
    *,
    queues: tuple[str, ...] | None,
    concurrency: int | None,
    pool: str,
    loglevel: str,
    name: str | None,
    beat: bool,
    burst: bool,
    shutdown_timeout: float,
) -> int:
    """Run a worker in this process; its exit code."""
    if beat and burst:
        raise click.UsageError("--burst ends when no job waits: -B would not let it")
    extension = extension_of(app)
    set_up_logging(loglevel)
    # In a context of their own: nothing of it is left when the children are forked.
    load_tasks(extension, app)
    state = extension.state_of(app)
    if pool == "solo":
        _refuse_for_solo(state, concurrency)
    options = WorkerOptions(
        name=process_name(name),
        queues=queues or state.config.router.queue_names,
        concurrency=concurrency or (1 if pool == "solo" else _cpus()),
        burst=burst,
        shutdown_timeout=shutdown_timeout,
    )
    entries = _declared(state) if beat else []
    # What is missing is told now: a key not at the first job, a server not below a
    # banner that names it.
    _ = state.signer
    if state.url.startswith("embedded://"):
        embedded.binary()
    click.echo(banner(state, options, f"{pool}, with a beat" if beat else pool))
    supervisor = Supervisor(state, options)
    if beat:
        supervisor.beat = _beat(supervisor, entries, pool)
    supervisor.install_signals()
    if pool == "solo":
        return _run_solo(state, supervisor)
    supervisor.use(PreforkPool(state, supervisor.disown))
    return supervisor.run()


def _declared(state: AppState) -> list[Entry]:
    # Not loaded by workers without a beat.
    from .beat import declared_or_refused

    return declared_or_refused(state)


def _beat(supervisor: Supervisor, entries: list[Entry], pool: str) -> EmbeddedBeat:
    from ..worker.embedded_beat import BeatProcess, BeatThread, EmbeddedBeat

    state, name = supervisor.state, supervisor.options.name
    if pool == "solo":
        return EmbeddedBeat(lambda: BeatThread(state, name, entries))
    disown = supervisor.disown
    return EmbeddedBeat(lambda: BeatProcess(state, name, entries, disown))


def _refuse_for_solo(state: AppState, concurrency: int | None) -> None:
    """What the solo pool cannot do is wrong usage, not a surprise later."""
    if concurrency not in (None, 1):
        raise click.UsageError(f"-P solo runs one job at a time, got -c {concurrency}")
    limits = [
        f"the time_limit of {name}"
        for name, task in sorted(state.tasks.items())
        if task.options.time_limit not in (UNSET, None)
    ]
    if state.config.time_limit is not None:
        limits.insert(0, "TASKQUEUE_TIME_LIMIT")
    if limits:
        raise click.UsageError(
            "-P solo cannot stop a running job, so it cannot keep " + ", ".join(limits)
        )


def _run_solo(state: AppState, supervisor: Supervisor) -> int:
    """The slot needs the main thread for its soft limits, so the supervisor is the
    one that gets a thread."""
    pool = SoloPool(state)
    supervisor.use(pool)
    codes: list[int] = []
    failures: list[Exception] = []
    started = threading.Event()

    def supervise() -> None:
        try:
            codes.append(supervisor.run(on_staffed=started.set))
        except Exception as error:  # noqa: BLE001 - raised below, in the main thread
            failures.append(error)
        if GAVE_BACK in codes:
            # The job that was given back still runs in the main thread.
            logging.shutdown()
            os._exit(GAVE_BACK)

    thread = threading.Thread(target=supervise, name="supervisor")
    thread.start()
    started.wait()
    pool.run()
    thread.join()
    if failures:
        raise failures[0]
    return codes[0]


def banner(state: AppState, options: WorkerOptions, kind: str) -> str:
    """What a worker says first.

    :param kind: Its pool, and what else it runs.
    """
    rows = [
        title(options.name),
        "",
        f"- app:         {state.app.name}",
        f"- broker:      {state.broker.masked_url}",
        f"- concurrency: {options.concurrency} ({kind})",
        f"- queues:      {', '.join(options.queues)}",
        "",
        "[tasks]",
        *(f"  . {name}" for name in sorted(state.tasks)),
    ]
    return "\n".join(rows) + "\n"
