"""When, and how often, a failed job is tried again."""

from __future__ import annotations

import random
import sys
import typing as t
from dataclasses import dataclass, fields

from .errors import Ignore, Reject, Retry

ExceptionClasses = tuple[type[BaseException], ...]


def _is_number(value: object) -> t.TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_seconds(value: object) -> t.TypeGuard[float]:
    # Why not isfinite(): it raises for an int that no float can hold. NaN fails both.
    return _is_number(value) and 0 <= value <= sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How many more times to try, and how long to wait before each.

    Merged from app, task and call once, at enqueue, and stored with the job. It
    keeps no count: the retries done so far are an argument.

    :param max_retries: Retries after the first execution. ``None`` means for ever.
    :param delay: Seconds before a retry, when ``backoff`` is 0.
    :param backoff: Seconds before the first retry, doubled for each later one.
    :param backoff_max: Seconds that no backoff exceeds.
    :param jitter: Draw each backoff between 0 and its value, so that jobs which
        failed together do not come back together.
    :raises ValueError: A value has the wrong type or range; the message names it.
    """

    max_retries: int | None = 3
    delay: float = 180.0
    backoff: float = 0.0
    backoff_max: float = 600.0
    jitter: bool = True

    def __post_init__(self) -> None:
        retries = self.max_retries
        if retries is not None and not (type(retries) is int and retries >= 0):
            raise ValueError(
                f"expected 'max_retries' to be an integer >= 0 or None, got {retries!r}"
            )
        for name in ("delay", "backoff", "backoff_max"):
            value = getattr(self, name)
            if not _is_seconds(value):
                raise ValueError(f"expected {name!r} to be seconds >= 0, got {value!r}")
        if not isinstance(self.jitter, bool):
            raise ValueError(
                f"expected 'jitter' to be True or False, got {self.jitter!r}"
            )

    def next_delay(
        self,
        retries: int,
        *,
        draw: t.Callable[[float, float], float] = random.uniform,
    ) -> float | None:
        """Seconds until the next execution, or ``None`` when there is none.

        The backoff is that of Celery's ``get_exponential_backoff_interval`` with
        full jitter: between 0 and ``min(backoff_max, backoff * 2 ** retries)``.
        The jitter is a fraction of a second here, not whole seconds.

        :param retries: Retries done so far; 0 after the first execution.
        :param draw: Source of the jitter, called with the lower and upper bound.
        """
        if self.max_retries is not None and retries >= self.max_retries:
            return None
        if not self.backoff:
            return self.delay
        # Why: 2.0**retries overflows near 1024 retries, which max_retries=None allows.
        ceiling = min(self.backoff * 2.0 ** min(retries, 64), self.backoff_max)
        return draw(0, ceiling) if self.jitter else ceiling

    def to_dict(self) -> dict[str, object]:
        """What differs from the defaults, for storage; ``{}`` for most jobs."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v for name, v in values.items() if v != _DEFAULTS[name]}

    @classmethod
    def from_dict(cls, data: object) -> RetryPolicy:
        """The policy that :meth:`to_dict` wrote; the data may come from anyone.

        :raises ValueError: It is not a dict, has an unknown key, or a value has
            the wrong type or range.
        """
        if not isinstance(data, dict):
            raise ValueError(
                f"expected a retry policy to be a dict, got {type(data).__name__}"
            )
        unknown = [key for key in data if key not in _DEFAULTS]
        if unknown:
            raise ValueError(
                f"expected a retry policy to have only {', '.join(_DEFAULTS)},"
                f" got {unknown[0]!r}"
            )
        return cls(**data)


_DEFAULTS = {field.name: field.default for field in fields(RetryPolicy)}


def covers(
    exc: BaseException,
    autoretry_for: ExceptionClasses,
    dont_autoretry_for: ExceptionClasses = (),
) -> bool:
    """Whether a task that raised this is to be retried without asking for it.

    ``dont_autoretry_for`` wins over ``autoretry_for``, as in Celery. ``Retry``,
    ``Ignore`` and ``Reject`` are a task's own decision, so they never count, not
    even with ``autoretry_for=(Exception,)``.
    """
    if isinstance(exc, (Retry, Ignore, Reject, *dont_autoretry_for)):
        return False
    return isinstance(exc, autoretry_for)


def rq_interval(intervals: object, retries_left: int) -> float:
    """Seconds before the next execution of a job with RQ's own retry fields.

    The rule of RQ 2.12 (``Job.get_retry_interval``): the last interval belongs to
    the last retry; with fewer intervals than retries, the first is repeated.

    :param intervals: Field ``retry_intervals``: a list of seconds; empty or
        ``None`` means at once.
    :param retries_left: Field ``retries_left``, before this retry is taken off.
    :raises ValueError: No retry is left, or the intervals are not a list of
        seconds >= 0.
    """
    if type(retries_left) is not int or retries_left < 1:
        raise ValueError(
            f"expected 'retries_left' to be an integer >= 1, got {retries_left!r}"
        )
    if intervals is None:
        return 0.0
    if not isinstance(intervals, list) or not all(map(_is_seconds, intervals)):
        raise ValueError(
            f"expected 'retry_intervals' to be a list of seconds >= 0,"
            f" got {intervals!r}"
        )
    if not intervals:
        return 0.0
    return float(intervals[max(len(intervals) - retries_left, 0)])
