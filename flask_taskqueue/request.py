"""What a running task knows about the job it runs."""

from __future__ import annotations

import typing as t
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from .errors import MaxRetriesExceededError, Retry
from .retry import RetryPolicy

if t.TYPE_CHECKING:
    from .appstate import AppState


class Reporter(t.Protocol):
    """Where a running task's word about itself goes."""

    def report(self, state: str, info: bytes) -> None:
        """Keep a state and its JSON value."""


@dataclass(slots=True, kw_only=True)
class TaskRequest:
    """The job that runs: ``self.request``, ``current_task.request``.

    :param args: Positional arguments; a list when they came as JSON.
    :param retries: Retries done so far; 0 in the first execution.
    :param hostname: Name of the worker.
    :param is_eager: It runs in the caller, without Redis.
    :param headers: What ``apply_async(headers=…)`` was given.
    :param carried: Request headers that travelled, by name.
    :param called_directly: It is a plain call of the function: there is no job.
    """

    id: str | None = None
    task: str = ""
    args: t.Sequence[t.Any] = ()
    kwargs: t.Mapping[str, t.Any] = field(default_factory=dict)
    retries: int = 0
    recoveries: int = 0
    eta: datetime | None = None
    expires: datetime | None = None
    queue: str | None = None
    hostname: str | None = None
    is_eager: bool = False
    parent_id: str | None = None
    root_id: str | None = None
    headers: t.Mapping[str, t.Any] = field(default_factory=dict)
    carried: t.Mapping[str, str] = field(default_factory=dict)
    time_limit: float | None = None
    soft_time_limit: float | None = None
    called_directly: bool = False

    state: AppState | None = field(default=None, repr=False)
    runner: object = field(default=None, repr=False)
    entered: bool = field(default=False, repr=False)
    policy: RetryPolicy = field(default_factory=RetryPolicy, repr=False)
    reporter: Reporter | None = field(default=None, repr=False)
    children: list[str] = field(default_factory=list, repr=False)
    said: str = field(default="", repr=False)
    postponed: Retry | None = field(default=None, repr=False)

    @property
    def max_retries(self) -> int | None:
        """Retries after the first execution; ``None`` is for ever."""
        return self.policy.max_retries

    def given_up(self) -> MaxRetriesExceededError | None:
        """What another retry is answered with; ``None`` while one is left."""
        most = self.policy.max_retries
        if most is None or self.retries < most:
            return None
        return MaxRetriesExceededError(
            f"{self.task}[{self.id}] was retried {self.retries} times"
        )


current: ContextVar[TaskRequest | None] = ContextVar("taskqueue_request", default=None)
"""The job that runs in this context."""

apart: ContextVar[bool] = ContextVar("taskqueue_apart", default=False)
"""What runs is a plain call of the running job's own task."""


def parent_in(state: AppState) -> TaskRequest | None:
    """The running job, if what is enqueued for an app now is its child: other apps
    may have another Redis, where nobody knows it."""
    running = current.get()
    return running if running is not None and running.state is state else None
