"""``flask worker``."""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import socket
import sys
import threading
import typing as t
from importlib.metadata import version

import click
from flask import Flask
from flask.cli import ScriptInfo

from .. import joblog, patterns
from ..appstate import AppState
from ..broker import embedded
from ..extension import TaskQueue
from ..options import UNSET
from ..worker.pools import PreforkPool, SoloPool
from ..worker.supervisor import GAVE_BACK, Supervisor, WorkerOptions
from .code import load_tasks

logger: logging.Logger = logging.getLogger(__name__)

POOLS = ("prefork", "solo")
NOT_OFFERED = {
    "eventlet": "its authors advise against eventlet; use prefork or solo",
}
LEVELS = ("debug", "info", "warning", "error", "critical")


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
@click.option(
    "-l",
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged.",
)
@click.option("-n", "--name", help="Begins the worker's name; %h is the host.")
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
        code = run(app, **given)
        try:
            # The flask command has an app context around this one: what its teardown
            # functions raise must not take the place of the exit code.
            ctx.find_root().close()
        except Exception:
            logger.exception("Teardown after the worker raised")
        sys.exit(code)


def run(
    app: Flask,
    *,
    queues: tuple[str, ...] | None,
    concurrency: int | None,
    pool: str,
    loglevel: str,
    name: str | None,
    burst: bool,
    shutdown_timeout: float,
) -> int:
    """Run a worker in this process; its exit code."""
    extension = app.extensions.get("taskqueue")
    if not isinstance(extension, TaskQueue):
        raise click.ClickException(f"the app {app.name!r} has no TaskQueue")
    set_up_logging(loglevel)
    # In a context of their own: nothing of it is left when the children are forked.
    load_tasks(extension, app)
    state = extension.state_of(app)
    if pool == "solo":
        _refuse_for_solo(state, concurrency)
    options = WorkerOptions(
        name=worker_name(name),
        queues=queues or state.config.router.queue_names,
        concurrency=concurrency or (1 if pool == "solo" else _cpus()),
        burst=burst,
        shutdown_timeout=shutdown_timeout,
    )
    # What is missing is told now: a key not at the first job, a server not below a
    # banner that names it.
    _ = state.signer
    if state.url.startswith("embedded://"):
        embedded.binary()
    click.echo(banner(state, options, pool, extension))
    supervisor = Supervisor(state, options)
    supervisor.install_signals()
    if pool == "solo":
        return _run_solo(state, supervisor)
    supervisor.use(PreforkPool(state, supervisor.disown))
    return supervisor.run()


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


def worker_name(given: str | None) -> str:
    """A name no other worker has, now or later."""
    host = socket.gethostname()
    stem = re.sub(r"[^A-Za-z0-9_.@-]", "_", (given or "%h").replace("%h", host))[:100]
    return f"{stem}.{os.getpid()}.{secrets.token_hex(3)}"


def set_up_logging(level: str) -> None:
    """Let records name their job, and set our level.

    If the app gave the root logger no handler, it gets one, for all that no handler
    of the app shows on the terminal already.
    """
    joblog.name_jobs_in_records()
    number = getattr(logging, level.upper())
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(
            level=number, format="%(asctime)s %(levelname)s %(process)d %(message)s"
        )
        root.handlers[0].addFilter(_not_shown_yet)
    logging.getLogger("flask_taskqueue").setLevel(number)


def _not_shown_yet(record: logging.LogRecord) -> bool:
    """Whether no handler on the record's way to the root writes to the terminal.

    Flask gives ``app.logger`` such a handler as long as the root has none: ours
    would show each line again.
    """
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        for handler in logger.handlers:
            stream = getattr(handler, "stream", None)
            if stream in (sys.stdout, sys.stderr) and record.levelno >= handler.level:
                return False
        logger = logger.parent
    return True


def banner(
    state: AppState, options: WorkerOptions, pool: str, extension: TaskQueue
) -> str:
    """What a worker says first."""
    rows = [
        f"{options.name}  Flask-TaskQueue {version('Flask-TaskQueue')},"
        f" Python {platform.python_version()}, {platform.platform()}",
        "",
        f"- app:         {state.app.name}",
        f"- broker:      {state.broker.masked_url}",
        f"- concurrency: {options.concurrency} ({pool})",
        f"- queues:      {', '.join(options.queues)}",
        "",
        "[tasks]",
        *(f"  . {name}" for name in sorted(extension.tasks)),
    ]
    return "\n".join(rows) + "\n"
