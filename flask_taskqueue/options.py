"""Decorator, app and call options as one frozen, checked value."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum

from .config import Config
from .option_values import CALL, SHARED, TASK, Check, Instant, Seconds
from .retry import RetryPolicy

if t.TYPE_CHECKING:
    from .signature import Signature


class Unset(Enum):
    """Marks an option nobody has set, where ``None`` has a meaning of its own."""

    UNSET = "unset"


UNSET = Unset.UNSET

LIMITS = ("time_limit", "soft_time_limit")


class RetryOptions(t.TypedDict, total=False):
    """Options about retries, of a task and of a call."""

    max_retries: int | None
    default_retry_delay: Seconds
    retry_backoff: float | bool
    retry_backoff_max: Seconds
    retry_jitter: bool


class SharedOptions(RetryOptions, total=False):
    """Options of a task that a call may override."""

    queue: str
    routing_key: str
    priority: int
    time_limit: Seconds | None
    soft_time_limit: Seconds | None
    expires: Instant | None
    result_ttl: int | timedelta
    failure_ttl: int | timedelta
    ignore_result: bool
    serializer: str


class DecoratorOptions(SharedOptions, total=False):
    """Options of ``@tq.task``. ``name``, ``bind`` and ``base`` come beside them."""

    autoretry_for: t.Sequence[type[BaseException]]
    dont_autoretry_for: t.Sequence[type[BaseException]]
    throws: t.Sequence[type[BaseException]]
    request_context: bool
    on_worker_lost: t.Literal["requeue", "fail"]
    max_recoveries: int


class CallOptions(SharedOptions, total=False):
    """Options of ``apply_async``."""

    countdown: Seconds | None
    eta: datetime | None
    task_id: str | None
    headers: t.Mapping[str, t.Any] | None
    link: Signature | t.Sequence[Signature] | None
    link_error: Signature | t.Sequence[Signature] | None


class ChangeOptions(t.TypedDict, total=False):
    """Options of ``retry()`` that change the job from its next execution on.

    What it says about the retry itself (``countdown``, ``max_retries``, …) comes
    beside them.
    """

    queue: str
    routing_key: str
    priority: int
    time_limit: Seconds | None
    soft_time_limit: Seconds | None
    expires: Instant | None
    ignore_result: bool


_CHANGE = {name: SHARED[name] for name in ChangeOptions.__optional_keys__}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What is known about how a task is to be called and run.

    One value travels: made by the decorator, completed from the app's
    configuration, changed by a call. Instants and due times are text as the scripts
    read it: ``""`` none, ``"+SECONDS"`` from now, epoch seconds.
    """

    queue: str | None = None
    routing_key: str | None = None
    priority: int = 0
    max_retries: int | None | Unset = UNSET
    default_retry_delay: float | Unset = UNSET
    retry_backoff: float = 0.0
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True
    time_limit: float | None | Unset = UNSET
    soft_time_limit: float | None | Unset = UNSET
    expires: str = ""
    result_ttl: int | Unset = UNSET
    failure_ttl: int | Unset = UNSET
    ignore_result: bool | Unset = UNSET
    serializer: str | Unset = UNSET

    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    throws: tuple[type[BaseException], ...] = ()
    request_context: bool = False
    on_worker_lost: str = "requeue"
    max_recoveries: int = 3

    countdown: str = ""
    eta: str = ""
    task_id: str | None = None
    headers: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    link: tuple[t.Any, ...] = ()
    link_error: tuple[t.Any, ...] = ()

    app_limits: frozenset[str] = frozenset()
    """Names of the time limits that nobody set: the app's, if it has any."""

    @classmethod
    def of_task(cls, **given: t.Unpack[DecoratorOptions]) -> TaskOptions:
        """Options of a decorator.

        :raises TypeError: An option is unknown, or a value has the wrong type.
        :raises ValueError: A value is out of range.
        """
        return cls(**_checked(given, SHARED | TASK, "task option"))

    def completed(self, config: Config) -> TaskOptions:
        """The same with the app's defaults where nothing was set."""
        unset = [row.name for row in fields(self) if getattr(self, row.name) is UNSET]
        defaults: dict[str, t.Any] = {name: getattr(config, name) for name in unset}
        return dataclasses.replace(
            self, **defaults, app_limits=self.app_limits.union(unset) & set(LIMITS)
        )

    def called(self, **given: t.Unpack[CallOptions]) -> TaskOptions:
        """The same with the options of a call.

        :raises TypeError: An option is unknown, or a value has the wrong type.
        :raises ValueError: A value is out of range.
        """
        changes = _checked(given, SHARED | CALL, "option of apply_async")
        if given.get("eta") is not None and given.get("countdown") is not None:
            raise ValueError("expected 'eta' or 'countdown', got both")
        app_limits = self.app_limits.difference(changes)
        return dataclasses.replace(self, **changes, app_limits=app_limits)

    def changed(self, **given: t.Unpack[ChangeOptions]) -> TaskOptions:
        """The same with the options of a ``retry()``.

        :raises TypeError: An option is unknown, or a value has the wrong type.
        :raises ValueError: A value is out of range.
        """
        return dataclasses.replace(self, **_checked(given, _CHANGE, "option of retry"))

    @property
    def due(self) -> str:
        """When it may start, as the scripts read it."""
        return self.eta or self.countdown

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy of completed options."""
        return RetryPolicy(
            max_retries=t.cast("int | None", self.max_retries),
            delay=t.cast(float, self.default_retry_delay),
            backoff=self.retry_backoff,
            backoff_max=self.retry_backoff_max,
            jitter=self.retry_jitter,
        )

    def stored(self) -> bytes:
        """What a worker needs of completed options, as compact JSON.

        A limit of the app has a name of its own: one given to a worker goes before it,
        but not before the task's or the call's, which may be ``None``.
        """
        out: dict[str, t.Any] = {"retry": self.policy.to_dict()}
        for name in LIMITS:
            seconds = getattr(self, name)
            if name not in self.app_limits:
                out[name] = seconds
            elif seconds is not None:
                out[f"app_{name}"] = seconds
        if self.ignore_result:
            out["ignore_result"] = True
        return json.dumps(out, separators=(",", ":")).encode()


def _checked(
    given: t.Mapping[str, t.Any], known: t.Mapping[str, Check], what: str
) -> dict[str, t.Any]:
    """Values by name, each checked and in the form the dataclass keeps."""
    for name in given:
        if name not in known:
            raise TypeError(
                f"expected a known {what}, got {name!r}; known are "
                + ", ".join(sorted(known))
            )
    checked = {name: known[name](name, value) for name, value in given.items()}
    # Only limits given together: one of a call may well undercut the task's other.
    hard, soft = checked.get("time_limit"), checked.get("soft_time_limit")
    if hard is not None and soft is not None and soft > hard:
        raise ValueError(
            f"expected 'soft_time_limit' to be at most 'time_limit' ({hard!r}),"
            f" got {soft!r}"
        )
    return checked
