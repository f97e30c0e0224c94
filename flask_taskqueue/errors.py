"""Every exception the package raises on purpose, under one root."""

from __future__ import annotations

import typing as t
from datetime import datetime

from click import ClickException


class TaskQueueError(Exception):
    """Root of the package's exceptions."""


class ConfigError(TaskQueueError, ClickException, ValueError):
    """A configuration value cannot be used. The message names its key."""

    # Click's, because it is raised where an app is made: no code of ours is between
    # that and the ``flask`` command, which shows no other exception in one line.


class BrokerUnavailable(TaskQueueError, ConnectionError):
    """Redis did not answer in time. Nothing is known to have been stored."""


class JobNotFound(TaskQueueError, LookupError):
    """No job has this id: never enqueued, forgotten, or past its TTL."""


class EntryNotFound(TaskQueueError, LookupError):
    """No entry of this name is in Redis."""


class TaskNotRegistered(TaskQueueError, LookupError):
    """No task of this name is registered here."""


class TaskFailed(TaskQueueError):
    """A task failed with an exception this process cannot rebuild.

    :param type_name: Dotted class name of the original exception.
    :param text: Its text.
    """

    def __init__(self, type_name: str, text: str = "") -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class TaskRevokedError(TaskQueueError):
    """The job was cancelled, terminated, or expired before it could start."""


class ResultTimeout(TaskQueueError, TimeoutError):
    """The job did not end within the time given to ``get()``."""


class Retry(TaskQueueError):
    """Raised by ``task.retry()``: the job runs again later.

    :param exc: The exception that made the retry necessary.
    :param countdown: Seconds until the next execution; ``None`` leaves it to the
        task's retry policy.
    :param eta: Instant of the next execution, instead of ``countdown``.
    :param args: Positional arguments of the next execution; ``None`` keeps them.
    :param kwargs: Keyword arguments of the next execution; ``None`` keeps them.
    :param options: Options that differ from now on.
    """

    def __init__(
        self,
        message: str = "",
        exc: BaseException | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        args: t.Sequence[t.Any] | None = None,
        kwargs: t.Mapping[str, t.Any] | None = None,
        options: t.Mapping[str, t.Any] | None = None,
    ) -> None:
        super().__init__(message or (f"Retry: {exc!r}" if exc else "Retry"))
        self.exc = exc
        self.countdown = countdown
        self.eta = eta
        given = None if args is None else tuple(args)
        self.args_: tuple[t.Any, ...] | None = given
        self.kwargs_: dict[str, t.Any] | None = None if kwargs is None else dict(kwargs)
        self.options: dict[str, t.Any] = dict(options or {})


class Ignore(TaskQueueError):
    """Raised in a task: it ends here, its state is what it last said."""


class Reject(TaskQueueError):
    """Raised in a task: this execution refuses the job.

    :param reason: Why, kept with the job.
    :param requeue: Put it back at the end of its queue instead of failing it.
    """

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class MaxRetriesExceededError(TaskQueueError):
    """``retry()`` was called without an exception and no retry is left."""


class SoftTimeLimitExceeded(TaskQueueError):
    """Raised inside a task when its soft time limit is over."""


class TimeLimitExceeded(TaskQueueError):
    """The task ran past its hard time limit and its process was killed."""


class WorkerLostError(TaskQueueError):
    """The process that ran the job died, more often than the task allows."""


class PayloadTooLarge(TaskQueueError, ValueError):
    """Arguments, or a result, are larger than the configured limit."""


class BadSignature(TaskQueueError):
    """Signed data was altered, or came unsigned where signing is on."""


class ContentDisallowed(TaskQueueError):
    """The content type is not in ``TASKQUEUE_ACCEPT_CONTENT``: not decoded."""


class DecodeError(TaskQueueError, ValueError):
    """Stored bytes are not what their content type says."""
