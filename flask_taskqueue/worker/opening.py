"""From stored bytes to a call: everything is checked before anything runs."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis import Redis

from .. import serializer
from ..appstate import AppState, Runnable
from ..carried import NOTHING, Carried
from ..errors import DecodeError
from ..job import StoredJob
from ..request import Reporter, TaskRequest
from ..retry import RetryPolicy
from ..stored_error import rebuild_error
from .endings import Parked
from .plain import PlainFunction, PlainJob, resolve

NAME_MOST = 1000
"""Characters no function's name exceeds."""

_RARE = frozenset(
    b"tq_eta tq_expires tq_parent tq_root tq_headers tq_carried tq_children"
    b" tq_retries tq_recoveries".split()
)
"""Fields of a request that most jobs do not have."""


@dataclass(slots=True, kw_only=True)
class Call:
    """A job, decoded."""

    stored: StoredJob
    task: Runnable
    args: Sequence[t.Any]
    kwargs: Mapping[str, t.Any]
    content: str
    request: TaskRequest
    carried: Carried
    plain: PlainJob | None = None


class Opener:
    """Decodes jobs of one app.

    :param hostname: Name of the worker.
    :param client: For callbacks of plain ``rq`` jobs.
    :param eager: They run in the caller.
    """

    def __init__(
        self, state: AppState, hostname: str, client: Redis | None, eager: bool
    ) -> None:
        self.state = state
        self.hostname = hostname
        self.client = client
        self.eager = eager

    def open(self, stored: StoredJob, reporter: Reporter) -> Call | Parked:
        """Check a job and find what it calls.

        :raises Exception: What is wrong with it, or what an import raised.
        """
        config = self.state.config
        name = stored.task
        task = self.state.tasks.get(name) if name else None
        if name and task is None:
            return Parked(task=_checked_name(name))
        data = stored.data(config.max_args_bytes)
        if (signer := self.state.signer) is not None:
            stored.verify(signer, data)
        # A plain rq job says nothing of its content type: what says so is not its own.
        content = (
            stored.content_type(data) if name else serializer.content_type_of(data)
        )
        args: Sequence[t.Any]
        function, instance, args, kwargs = serializer.load_call(
            data, content, config.accept_content, config.max_args_bytes
        )
        plain = None
        if task is None:
            dotted = _dotted_name(function, instance)
            task = self.state.tasks.get(dotted) if instance is None else None
            if task is None:
                task = self._plain_function(dotted, instance)
            if task is None:
                return Parked(task=_checked_name(dotted))
            plain = PlainJob(
                stored, self.client, config.importable, data=data, content=content
            )
        request = self._request(stored, task, args, kwargs, reporter)
        carried = NOTHING
        if b"tq_carried" in stored.fields:
            row = stored.mapping("tq_carried")
            carried = Carried.of_stored(row, request.carried)
        if b"tq_cause" in stored.fields:
            cause = stored.mapping("tq_cause")
            args = self._errback_args(task, cause, args, kwargs) if cause else args
        return Call(
            stored=stored, task=task, args=args, kwargs=kwargs,
            content=content, request=request, carried=carried, plain=plain,
        )  # fmt: skip

    def _plain_function(self, name: str, instance: object) -> Runnable | None:
        function = resolve(name, self.state.config.importable)
        if function is None:
            return None
        if instance is not None:
            function = getattr(instance, name.rpartition(".")[2])
        return PlainFunction(name, function)

    def _request(
        self,
        stored: StoredJob,
        task: Runnable,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        reporter: Reporter,
    ) -> TaskRequest:
        time_limit, soft_time_limit = stored.limits
        request = TaskRequest(
            id=stored.id, task=task.name, args=args, kwargs=kwargs,
            queue=stored.queue, hostname=self.hostname, is_eager=self.eager,
            root_id=stored.id, state=self.state,
            time_limit=time_limit, soft_time_limit=soft_time_limit,
            runner=task, policy=self._policy(stored, task), reporter=reporter,
        )  # fmt: skip
        if not _RARE.isdisjoint(stored.fields):
            request.retries = stored.retries
            request.recoveries = stored.recoveries
            request.eta = stored.instant("tq_eta")
            request.expires = stored.instant("tq_expires")
            request.parent_id = stored.text("tq_parent") or None
            request.root_id = stored.text("tq_root") or stored.id
            request.headers = stored.headers
            request.carried = stored.carried
            request.children = stored.children
        return request

    def _policy(self, stored: StoredJob, task: Runnable) -> RetryPolicy:
        """A plain ``rq`` job that runs as a task and has no ``Retry`` of its own has
        the task's."""
        asked = stored.task or b"retries_left" in stored.fields
        if asked or isinstance(task, PlainFunction):
            return stored.policy
        return self.state.options_of(task)[0].policy

    def _errback_args(
        self,
        task: Runnable,
        cause: Mapping[str, t.Any],
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
    ) -> Sequence[t.Any]:
        """``(request, exc, traceback)`` where the errback takes them, as in
        Celery; else the id of the job that failed, which ``args`` begins with."""
        error = cause.get("error")
        if not isinstance(error, dict):
            raise DecodeError("the job's cause has no error")
        exc = rebuild_error(error, self.state.config.accept_content)
        failed = TaskRequest(
            id=str(cause.get("id")), task=str(cause.get("task", "")),
            root_id=cause.get("root"), parent_id=cause.get("parent"),
        )  # fmt: skip
        full = [failed, exc, error.get("traceback", ""), *args[1:]]
        try:
            task.check_args(full, kwargs)
        except TypeError:
            return args
        return full


def _dotted_name(name: str, instance: object) -> str:
    """RQ pickles an object and names its method alone."""
    if instance is None:
        return name
    kind = type(instance)
    return f"{kind.__module__}.{kind.__qualname__}.{name}"


def _checked_name(name: str) -> str:
    """A function's name as part of a key: of any producer, so of any form."""
    if len(name) <= NAME_MOST and name.isprintable():
        return name
    raise DecodeError(f"the job calls a function of an impossible name: {name!a:.100}")
