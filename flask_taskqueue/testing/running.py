"""Runs what a test has enqueued: in its own process, or by a worker."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from flask import Flask
from redis import Redis

from .. import keys
from ..appstate import AppState, state_of
from ..broker import scripts
from ..broker.wire import Claim, Claimed
from ..errors import TaskQueueError
from ..job import StoredJob
from ..patterns import check_queue_name
from ..worker import aftermath, callbacks, joblines, outcome, webhooks
from ..worker.endings import Failed, Parked
from ..worker.execution import Executor
from ..worker.limits import NoTimer
from ..worker.plain import has_webhooks
from ..worker.prefork import PreforkPool
from ..worker.reporter import JobReporter
from ..worker.startup import WorkerOptions
from ..worker.supervisor import Supervisor

LEASE = 3600.0
"""Seconds a job is the test's: a breakpoint in its task must not cost the lease."""

PROMOTED_MOST = 500
"""Due jobs of a queue moved in one call."""


def drain(
    app: Flask,
    queues: str | Iterable[str] | None = None,
    now: datetime | None = None,
    *,
    propagates: bool = False,
    most: int = 10_000,
) -> int:
    """Run what is due, by the worker's own code, in this process and thread.

    Links and retries that are due are run, too. A task's exception makes its job
    ``FAILURE``, as in a worker; time limits are not kept.

    :param queues: By priority; those of the configuration and all that exist by
        default.
    :param now: Run also what is due until then, in order, as if the time passed:
        nothing is waited for. A naive one is UTC.
    :param propagates: Raise the first exception that fails a job.
    :param most: Executions after which it is an error that still more is due.
    :return: The number of executions.
    :raises BrokerUnavailable: Redis cannot be reached.
    :raises TaskQueueError: Over ``most`` executions: a task seems to enqueue itself.
    """
    state = _loaded(app)
    client = state.broker.worker()
    try:
        with state.broker.errors():
            client.ping()
        drainage = _Drainage(state, client, _checked(queues), propagates, most)
        drainage.run(now)
    finally:
        # close() leaves it connected in redis-py 5.0.0.
        client.connection_pool.disconnect()
    return drainage.executions


def run_worker(
    app: Flask, queues: str | Iterable[str] | None = None, *, concurrency: int = 1
) -> None:
    """Run a worker until no job waits: ``flask worker --burst``, with this app.

    Its processes are forked from this one, so that tasks run in another process, as
    in production: what they change in memory is not seen here. Limits are kept, and
    signal handlers of this process are left as they are.

    :param queues: As in :func:`drain`.
    :param concurrency: Jobs that run at once.
    :raises BrokerUnavailable: Redis cannot be reached.
    :raises TaskQueueError: Its processes cannot start; the log says why.
    """
    state = _loaded(app)
    client = state.broker.producer
    with state.broker.errors():
        client.ping()
    options = WorkerOptions(
        name=_name("worker"),
        queues=_checked(queues) or _known_queues(state, client),
        concurrency=concurrency,
        burst=True,
    )
    supervisor = Supervisor(state, options)
    supervisor.use(PreforkPool(state, supervisor.disown))
    with _children_heard():
        code = supervisor.run()
    if code != 0:
        raise TaskQueueError(
            f"the worker ended with exit code {code}: its log says what happened"
        )


@contextmanager
def _children_heard() -> Iterator[None]:
    """Show the warnings and errors of forked processes on stderr: handlers that keep
    records in memory, as pytest's, keep those of their own process."""
    parent = os.getpid()
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    handler.addFilter(lambda record: record.process != parent)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _loaded(app: Flask) -> AppState:
    """The app's state, with the tasks a worker would import."""
    state = state_of(app)
    app.extensions["taskqueue"].load_tasks(app)
    return state


def _checked(queues: str | Iterable[str] | None) -> tuple[str, ...]:
    """Names of queues; none given is an empty tuple."""
    names = [queues] if isinstance(queues, str) else queues or ()
    return tuple(check_queue_name(name) for name in names)


def _known_queues(state: AppState, client: Redis) -> tuple[str, ...]:
    """Those of the configuration in their order, then all others that exist."""
    untyped: scripts.Client = client
    prefix = keys.PREFIXES["queue"]
    found = [key.decode() for key in untyped.smembers(keys.NAMES["queues"])]
    others = sorted(key.removeprefix(prefix) for key in found)
    return tuple(dict.fromkeys([*state.config.router.queue_names, *others]))


def _name(what: str) -> str:
    return f"{what}.{os.getpid()}.{secrets.token_hex(3)}"


class _Drainage:
    """One call of :func:`drain`."""

    def __init__(
        self,
        state: AppState,
        client: Redis,
        queues: tuple[str, ...],
        propagates: bool,
        most: int,
    ) -> None:
        self._state = state
        self._client: scripts.Client = client
        self._only = queues
        self._propagates = propagates
        self._most = most
        self._worker = _name("drain")
        self._calls = itertools.count(1)
        self._executor = Executor(state, self._worker, NoTimer(), client)
        self.executions = 0

    @property
    def _queues(self) -> tuple[str, ...]:
        return self._only or _known_queues(self._state, self._client)

    def run(self, until: datetime | None) -> None:
        """Run what is due, and what is due until then.

        Time passes by pulling what is scheduled nearer. At the end all that is left
        is put back where it was.
        """
        passed = 0.0
        try:
            pause = self._run_due()
            while until is not None:
                if pause is None or self._time + passed + pause > _epoch(until):
                    return
                self._pass_time(pause)
                passed += pause
                pause = self._run_due()
        finally:
            if passed:
                self._pass_time(-passed)

    @property
    def _time(self) -> float:
        seconds, microseconds = self._client.time()
        return float(seconds + microseconds / 1e6)

    def _pass_time(self, seconds: float) -> None:
        for queue in self._queues:
            scheduled = keys.PREFIXES["scheduled"] + queue
            for job_id, due in self._client.zrange(scheduled, 0, -1, withscores=True):
                self._client.zadd(scheduled, {job_id: due - seconds}, xx=True)
                key = keys.PREFIXES["job"].encode() + job_id
                expires = self._client.hget(key, "tq_expires")
                if expires:
                    text = f"{float(expires) - seconds:.6f}"
                    self._client.hset(key, "tq_expires", text)

    def _run_due(self) -> float | None:
        """Seconds from its last look on until the next is due, or None."""
        while True:
            queues = self._queues
            pause = scripts.promote(self._client, queues, most=PROMOTED_MOST)
            prefix, number = f"{self._worker}.1.", next(self._calls)
            wanted = Claim(self._worker, prefix, number, LEASE, queues)
            following = scripts.claim(self._client, wanted)
            for note in following.notes:
                if note.kind == "aftermath":
                    aftermath.settle(self._executor, self._client, note)
                else:
                    callbacks.dropped(self._state, self._client, note)
            if following.job is not None:
                self._execute(following.job)
            elif not following.again:
                return pause

    def _execute(self, claimed: Claimed) -> None:
        lease = claimed.lease
        if self.executions == self._most:
            scripts.release(self._client, [lease], started=False)
            raise TaskQueueError(
                f"drain() ran {self._most} jobs and still more are due: a task seems"
                " to enqueue itself, or to retry without a delay and without an end."
                " If all of them are wanted, pass a larger most="
            )
        stored = StoredJob(lease.id, claimed.fields, lease.queue)
        reporter = JobReporter(self._client, self._state, lease, _raise)
        ended = self._executor.run(stored, reporter)
        joblines.log(self._state.config, stored, ended)
        client, state = self._client, self._state
        accepted, _ = outcome.store(client, state, stored, lease, ended, None)
        if accepted and has_webhooks(stored):
            told = webhooks.as_ended(client, stored)
            webhooks.send_after(self._executor, told, ended)
        self.executions += not isinstance(ended, Parked)
        if isinstance(ended, Failed) and (
            self._propagates or _is_of_the_test(ended.exception)
        ):
            raise ended.exception


def _is_of_the_test(error: BaseException) -> bool:
    """It is meant for the test: an interrupt, a time-out, ``pytest.fail()``."""
    return not isinstance(error, (Exception, SystemExit))


def _raise(error: BaseException) -> None:
    raise error


def _epoch(instant: datetime) -> float:
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return aware.timestamp()
