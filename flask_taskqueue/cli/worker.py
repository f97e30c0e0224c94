"""``flask worker``."""

from __future__ import annotations

import logging
import typing as t

import click
from flask import Flask
from flask.cli import ScriptInfo

from .. import patterns
from ..appstate import AppState
from ..broker import embedded
from ..worker import cpus, handover
from ..worker.pace import MOST
from ..worker.startup import WorkerOptions
from ..worker.supervisor import Supervisor
from . import anew, fleet, pools
from .bounds import bounds_of, bounds_options
from .code import load_tasks
from .printing import Group
from .terminal import (
    end,
    extension_of,
    level_option,
    log_format_option,
    process_name,
    set_up_logging,
    title,
)

if t.TYPE_CHECKING:
    from ..beat.entries import Entry
    from ..worker.embedded_beat import EmbeddedBeat
    from ..worker.handover import Heritage
    from ..worker.health import Health
    from ..worker.watching import Watch

logger: logging.Logger = logging.getLogger(__name__)


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


def _address(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    """Host and port of ``8080``, ``localhost:8080`` or ``[::1]:8080``."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise click.BadParameter(f"expected an IPv6 address in brackets, got {value!r}")
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise click.BadParameter(f"expected a port from 0 to 65535, got {value!r}")
    return host, int(port)


@click.group("worker", cls=Group, invoke_without_command=True)
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
    help="Jobs that run at once; auto: one for each CPU, 8 threads, 100 greenlets.",
)
@click.option(
    "-P",
    "--pool",
    callback=pools.checked,
    metavar="|".join(pools.KINDS),
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
@click.option(
    "--reload",
    is_flag=True,
    help="Load the app anew when one of its files changes; for development.",
)
@click.option(
    "--health-port",
    callback=_address,
    metavar="[HOST:]PORT",
    help="Answer GET /live and /ready there; without a HOST on every interface.",
)
@click.option(
    "--claim-ahead",
    type=click.IntRange(1, MOST),
    default=MOST,
    hidden=True,
    help="Short jobs that one call may claim. For measurements.",
)
@bounds_options
@log_format_option
@click.pass_context
def group(ctx: click.Context, /, **given: t.Any) -> None:
    """Run a worker: take jobs from queues and run them.

    TERM or INT lets running jobs finish; QUIT, or INT again, gives them back at
    once. TSTP lets it take no more jobs, and stay; HUP goes on with the app's code as
    it is now. Exit codes: 0 every job finished, 75 jobs were given back, 70 the
    worker's processes cannot start.
    """
    if ctx.invoked_subcommand is None:
        if given["pool"] == "gevent":
            anew.ensure_gevent(ctx)
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
    reload: bool,
    health_port: tuple[str, int] | None,
    log_format: str,
    claim_ahead: int,
    **bounds: t.Any,
) -> int:
    """Run a worker in this process; its exit code.

    :param bounds: Options of :mod:`.bounds`.
    """
    heritage = handover.received()
    if beat and burst:
        raise click.UsageError("--burst ends when no job waits: -B would not let it")
    extension = extension_of(app)
    set_up_logging(loglevel, log_format)
    # In a context of their own: nothing of it is left when the children are forked.
    load_tasks(extension, app)
    state = extension.state_of(app)
    slots = concurrency or pools.KINDS[pool].auto or cpus.usable()
    pools.refuse_the_impossible(pool, state, slots)
    lifetime, limits = bounds_of(state, pool, bounds)
    options = WorkerOptions(
        name=process_name(name) if heritage is None else heritage.name,
        queues=queues or state.config.router.queue_names,
        concurrency=slots,
        burst=burst,
        shutdown_timeout=shutdown_timeout,
        lifetime=lifetime,
        limits=limits,
        claim_ahead=claim_ahead,
    )
    entries = _declared(state) if beat else []
    # What is missing is told now: a key not at the first job, a server not below a
    # banner that names it.
    _ = state.signer
    if state.url.startswith("embedded://"):
        embedded.binary()
    if (code := handover.trial_code()) is not None:
        return code
    health = None if health_port is None else _health(*health_port)
    click.echo(banner(state, options, f"{pool}, with a beat" if beat else pool))
    supervisor = Supervisor(state, options)
    if health is not None:
        supervisor.health = health
        logger.info("Health is told on http://%s/ready", health.address)
    if beat:
        supervisor.beat = _beat(supervisor, entries, pool)
    if reload:
        supervisor.reload.watch = _watch(heritage)
    if heritage is not None:
        supervisor.adopt(heritage)
    supervisor.signals.install()
    handover.unblock()
    code = pools.run(pool, state, supervisor)
    supervisor.reload.finish(supervisor.signals)
    return code


def _watch(heritage: Heritage | None) -> Watch:
    # Not loaded by workers without it.
    from ..worker.watching import Watch

    return Watch({} if heritage is None else heritage.watched)


def _health(host: str, port: int) -> Health:
    # Not loaded by workers without it.
    from ..worker.health import Health

    try:
        return Health(host, port)
    except OSError as error:
        where = f"{host or '*'}:{port}"
        reason = error.strerror or error
        raise click.ClickException(f"cannot listen on {where}: {reason}") from error


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


for _command in fleet.COMMANDS:
    group.add_command(_command)
