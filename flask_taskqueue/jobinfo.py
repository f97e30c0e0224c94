"""What signals and authorisers are told of a job."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from . import states
from .readable import readable

if t.TYPE_CHECKING:
    from .job import StoredJob


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """What signals and authorisers are told of a job. Never its arguments.

    :param task: Name of its task; the dotted name of a plain ``rq`` job's function.
    :param state: As ``AsyncResult.state``; in a signal the state it is about to have.
    :param headers: What ``apply_async(headers=…)`` was given.
    :param carried: Request headers that travelled, by name.
    :param created_at: When it was enqueued.
    :param exception: What it raised, in ``job_failed`` and ``job_retried``; in
        ``job_revoked`` a :class:`.errors.TaskRevokedError` that says why.
    """

    id: str
    task: str
    queue: str
    state: str
    headers: Mapping[str, t.Any] = field(default_factory=dict)
    carried: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    exception: BaseException | None = None

    @classmethod
    def of(
        cls,
        stored: StoredJob,
        state: str | None = None,
        *,
        task: str | None = None,
        created_at: datetime | None = None,
        exception: BaseException | None = None,
    ) -> JobInfo:
        """What can be read of a job: a field that cannot is empty.

        :param state: The one it is in, by default.
        :param task: Its name where it is known better than stored.
        :param created_at: Where it is not stored yet.
        """
        if state is None:
            state = readable(lambda: stored.state, states.UNKNOWN)
        return cls(
            id=stored.id,
            task=readable(lambda: stored.name, "") if task is None else task,
            queue=stored.queue,
            state=state,
            headers=readable(lambda: stored.headers, {}),
            carried=readable(lambda: stored.carried, {}),
            created_at=created_at
            or readable(lambda: stored.instant("created_at"), None),
            exception=exception,
        )
