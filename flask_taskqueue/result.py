"""The handle of a job: its state and its result, now or when it ends."""

from __future__ import annotations

import time
import typing as t
from contextlib import suppress
from datetime import datetime

from redis.exceptions import RedisError

from . import control, keys, serializer, states
from .appstate import AppState, current_state
from .broker import scripts
from .broker.connection import Backoff, is_connection_trouble
from .errors import (
    BrokerUnavailable,
    JobNotFound,
    ResultTimeout,
    TaskQueueError,
    TaskRevokedError,
)
from .inspector import Snapshot, local_fields, snapshot, snapshot_after, whole
from .request import current
from .stored_error import rebuild_error

R_co = t.TypeVar("R_co", covariant=True)

PATIENCE = 0.5
"""Seconds a reply to a blocking read may be late."""

FIRST_MOST = 0.5
"""Seconds of the first blocking read of a new job, which nobody has looked at: it may
be gone."""

BLOCK_MOST = 5.0
"""Seconds one blocking read waits before it looks at the job again."""


class AsyncResult(t.Generic[R_co]):
    """A job by its id. Every field is read when it is asked for.

    :param id: The job's.
    :param state: What app it belongs to; the current one's by default.
    :raises TypeError: The id is no ``str``.
    """

    _is_new: bool = False

    def __init__(
        self, id: str, state: AppState | None = None, *, created: bool = True
    ) -> None:
        if not isinstance(id, str):
            raise TypeError(f"expected the id of a job, a str, got {id!r}")
        self.id = id
        self.created: bool = created
        """``False`` when a call with this id found a job that had not ended."""
        self._state_ = state

    def _enqueued(self, created: bool) -> None:
        """The call that made the handle was stored, or found its job."""
        self.created = created
        self._is_new = created

    @property
    def _app(self) -> AppState:
        if self._state_ is None:
            self._state_ = current_state()
        return self._state_

    @property
    def _now(self) -> Snapshot:
        return snapshot(self._app, self.id)

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return bool(other.id == self.id)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @property
    def state(self) -> str:
        """One of :mod:`.states`, or what the running task says of itself."""
        return self._now.state

    @property
    def status(self) -> str:
        """The same as ``state``."""
        return self.state

    def ready(self) -> bool:
        """Whether nothing more will come."""
        return self._now.ready

    def successful(self) -> bool:
        """Whether it ended well."""
        now = self._now
        return now.ready and now.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether it ended with an exception."""
        now = self._now
        return now.ready and now.state == states.FAILURE

    def exists(self) -> bool:
        """Whether there is such a job."""
        return self._now.stored.exists

    @property
    def result(self) -> t.Any:
        """What it returned, the exception it failed with, or ``None``."""
        now = self._now
        if now.stored.status == "finished":
            return now.value
        return now.error

    @property
    def info(self) -> t.Any:
        """The result, the exception, or what the state has to say of itself."""
        now = self._now
        status, state = now.stored.status, now.state
        if status == "started":
            if state != states.STARTED:
                return now.said
            name = now.stored.text("worker_name")
            return {"pid": _pid_of(name), "hostname": name}
        if status == "finished":
            # Before Ignore: what it said of itself, under whatever name.
            said = now.said if b"tq_ignored" in now.stored.fields else None
            return said or now.value
        return now.error or {}

    @property
    def progress(self) -> t.Any:
        """What the task last said of itself, or ``None``."""
        return self._now.said or None

    @property
    def traceback(self) -> str | None:
        """Of the exception, as text."""
        return self._now.traceback

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        allow_join: bool = False,
    ) -> R_co:
        """Wait for the end and return the result.

        :param timeout: Seconds to wait at most; ``None`` is for ever.
        :param propagate: Raise the task's exception instead of returning it.
        :param allow_join: Wait inside a task, too: a worker whose slots all wait
            for each other never goes on.
        :raises ResultTimeout: It has not ended in time.
        :raises JobNotFound: There is no such job.
        :raises TaskRevokedError: It was revoked, or had expired.
        :raises TaskFailed: It failed with an exception that cannot be rebuilt here.
        :raises RuntimeError: It is called inside a task.
        """
        running = current.get()
        if running is not None and not allow_join and not running.is_eager:
            raise RuntimeError(
                "get() inside a task makes a slot wait for other slots. Use link=…"
                " to go on with a result, or get(allow_join=True)"
            )
        now = self._wait(timeout)
        status = now.stored.status
        if status not in states.ENDED:
            raise JobNotFound(f"there is no job {self.id!r}")
        if status == "finished":
            return t.cast(R_co, now.value)
        error = now.error or TaskRevokedError("revoked")
        if propagate:
            raise error
        return t.cast(R_co, error)

    wait = get

    def _wait(self, timeout: float | None) -> Snapshot:
        deadline = None if timeout is None else time.monotonic() + timeout
        backoff = Backoff()
        now: Snapshot | None = None
        while True:
            try:
                now = now or self._look(deadline)
                if now.ready:
                    return now
                left = _left(deadline)
                if left <= 0:
                    raise ResultTimeout(
                        f"job {self.id} is {now.state} after {timeout:g} s"
                    )
                now = self._block(now.last_id, min(left, BLOCK_MOST))
                backoff.reset()
            except (RedisError, OSError) as error:
                if isinstance(error, ResultTimeout):
                    raise
                now = None
                trouble = isinstance(error, BrokerUnavailable)
                if not trouble and not is_connection_trouble(error):
                    raise
                if _left(deadline) <= 0:
                    raise ResultTimeout(
                        f"Redis was away and job {self.id} is not known to have"
                        f" ended after {timeout:g} s"
                    ) from error
                time.sleep(max(min(backoff.next(), _left(deadline)), 0))

    def _look(self, deadline: float | None) -> Snapshot:
        """What it is now. One that was enqueued just now can hardly have ended: for a
        moment its end is waited for first, not asked for."""
        is_new, self._is_new = self._is_new, False
        left = min(_left(deadline), FIRST_MOST)
        if is_new and left > 0 and local_fields(self._app, self.id) is None:
            return self._block(b"0-0", left)
        return self._now

    def _block(self, last_id: bytes, seconds: float) -> Snapshot:
        """Wait for an entry behind this one; what the job is then."""
        if local_fields(self._app, self.id) is not None:
            raise ResultTimeout(f"job {self.id} is not in Redis: nothing will run it")
        milliseconds = max(int(seconds * 1000), 1)
        stream = keys.results(self.id)
        wait = ("XREAD", "BLOCK", milliseconds, "STREAMS", stream, last_id)
        # A server that hangs must not make the caller wait longer than it said.
        return snapshot_after(self._app, self.id, wait, seconds + PATIENCE)

    @property
    def name(self) -> str | None:
        """Name of the task."""
        return self._now.stored.name or None

    def _call(self) -> tuple[str, t.Any, list[t.Any], dict[str, t.Any]] | None:
        stored = whole(self._app, self.id)
        if not stored.exists:
            return None
        data = stored.data(2**31)
        if (signer := self._app.signer) is not None:
            stored.verify(signer, data)
        accept = self._app.config.accept_content
        return serializer.load_call(data, stored.content_type(data), accept, 2**31)

    @property
    def args(self) -> list[t.Any] | None:
        """Positional arguments of the call; ``None`` where there is no job."""
        call = self._call()
        return None if call is None else call[2]

    @property
    def kwargs(self) -> dict[str, t.Any] | None:
        """Keyword arguments of the call; ``None`` where there is no job."""
        call = self._call()
        return None if call is None else call[3]

    @property
    def queue(self) -> str | None:
        """The queue it was put into."""
        return self._now.stored.text("origin") or None

    @property
    def worker(self) -> str | None:
        """Name of the worker that runs it, or ran it last."""
        return self._now.stored.text("worker_name") or None

    @property
    def retries(self) -> int:
        """Retries done."""
        return self._now.stored.retries

    @property
    def date_done(self) -> datetime | None:
        """When it ended."""
        return self._now.stored.instant("ended_at")

    @property
    def runtime(self) -> float | None:
        """Seconds its function ran, the last time."""
        return self._now.stored.number("tq_runtime")

    @property
    def children(self) -> list[AsyncResult[t.Any]]:
        """The jobs it enqueued, links included; complete when it has ended."""
        ids = self._now.stored.children
        return [AsyncResult(child, self._app) for child in ids]

    @property
    def parent(self) -> AsyncResult[t.Any] | None:
        """The job that enqueued it."""
        parent = self._now.stored.text("tq_parent")
        return AsyncResult(parent, self._app) if parent else None

    @property
    def errors(self) -> list[Exception]:
        """The exception of every failed attempt, oldest first (the last 100)."""
        stored = whole(self._app, self.id)
        first = max(stored.retries - 100, 0)
        names = [f"tq_error_{n}".encode() for n in range(first, stored.retries)]
        if stored.status == "failed":
            names.append(b"tq_error")
        raws = [stored.fields[name] for name in names if name in stored.fields]
        accept = self._app.config.accept_content
        return [rebuild_error(raw, accept) for raw in raws]

    def forget(self) -> None:
        """Make it unknown. If it has not ended it still runs.

        :raises TaskQueueError: The job's key holds something that is not a job.
        """
        if local_fields(self._app, self.id) is not None:
            self._app.eager_jobs.pop(self.id, None)
            return
        self._is_new = False
        with self._app.broker.errors():
            code = scripts.forget(self._app.broker.producer, self.id)
        _refuse_other(self.id, code)

    def revoke(self, terminate: bool = False) -> None:
        """See that it does not run.

        :param terminate: If it runs, stop it within a second; else it ends, and its
            result counts.
        :raises TaskQueueError: The job's key holds something that is not a job.
        """
        with suppress(JobNotFound):
            control.revoke(self._app, self.id, terminate=terminate)


def _left(deadline: float | None) -> float:
    return float("inf") if deadline is None else deadline - time.monotonic()


def _refuse_other(job_id: str, code: int) -> None:
    if code == scripts.NOT_A_JOB:
        raise TaskQueueError(f"the key of job {job_id} holds something that is no job")


def _pid_of(worker: str) -> int | None:
    """Names of workers end in ``.PID.RANDOM``."""
    parts = worker.split(".")
    return int(parts[-2]) if len(parts) > 2 and parts[-2].isdecimal() else None
