"""How an execution can end: what the executor says and the store writes down."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Ran:
    """What every execution that called its function has.

    :param began: Epoch seconds.
    :param seconds: How long the function ran.
    :param children: Ids of the jobs it enqueued: a live list, hooks may add to it.
    """

    began: float
    seconds: float
    children: Sequence[str] = ()


@dataclass(slots=True, kw_only=True)
class Succeeded(Ran):
    """The function returned.

    :param value: What it returned.
    :param encoded: The same in the job's content type; ``None`` stores nothing.
    :param ignored: It raised ``Ignore``: the job's state is what it last said.
    """

    value: t.Any = None
    encoded: bytes | None = None
    ignored: bool = False


@dataclass(slots=True, kw_only=True)
class Failed(Ran):
    """It failed for good.

    :param error: The exception as :mod:`..stored_error` writes it.
    :param result_type: RQ's type of result: 2 failed, 5 too many returned retries.
    :param expected: The task listed it in ``throws``.
    """

    exception: BaseException
    error: bytes
    trace: str
    result_type: int = 2
    expected: bool = False


@dataclass(slots=True, kw_only=True)
class Retried(Ran):
    """It failed this time and is to run again.

    :param due: When, as the scripts read it.
    :param delay: Seconds until then, for the log.
    :param exception: What made it necessary, if anything.
    :param fields: What changes in the job's hash.
    :param result_type: RQ's type of a result to store, or ``None``.
    """

    due: str
    delay: float
    exception: BaseException | None
    error: bytes
    queue: str | None = None
    front: bool = False
    fields: Mapping[str, t.Any] = field(default_factory=dict)
    result_type: int | None = None


@dataclass(slots=True, kw_only=True)
class Halted(Ran):
    """It was ended from outside: at its hard limit, or because it was revoked.

    :param status: RQ's: ``failed``, or ``stopped`` where it was revoked.
    """

    exception: BaseException
    status: str


@dataclass(slots=True, kw_only=True)
class Parked:
    """Its task is not known here, or may not be imported."""

    task: str


@dataclass(slots=True, kw_only=True)
class Returned:
    """It raised ``Reject(requeue=True)``: back to the end of its queue."""

    reason: str


Outcome = Succeeded | Failed | Retried | Halted | Parked | Returned
