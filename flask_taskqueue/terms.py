"""What stored options say of how a job runs: decoded once for all jobs of a task."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping
from functools import lru_cache

from .errors import DecodeError
from .retry import RetryPolicy

LIMIT_MOST = 100 * 365 * 86_400
"""Seconds that no time limit exceeds: timers take no more than some 100 years."""

KEPT_MOST = 4096
"""Bytes of options that are kept decoded: those of a task's jobs are all the same."""

Options = Mapping[str, t.Any]


class Limits(t.NamedTuple):
    """How long a job may run, in seconds; ``None`` is for ever."""

    time_limit: float | None = None
    soft_time_limit: float | None = None


NO_LIMITS = Limits()
"""Of a worker that was given none."""


def options_of(raw: bytes) -> Options:
    """The field ``tq_options``, decoded. Not to be changed: jobs of one task share it.

    :raises DecodeError: It is not a JSON object.
    """
    return _options(raw) if len(raw) < KEPT_MOST else _options.__wrapped__(raw)


def policy_of(raw: bytes) -> RetryPolicy:
    """The retry policy in it.

    :raises ValueError: It is none; a :class:`.errors.DecodeError` as above.
    """
    return _policy(raw) if len(raw) < KEPT_MOST else _policy.__wrapped__(raw)


def limits_of(raw: bytes, of_worker: Limits) -> Limits:
    """The limits in it, else the worker's, else the app's.

    :raises DecodeError: One is not a number of seconds.
    """
    read = _limits if len(raw) < KEPT_MOST else _limits.__wrapped__
    return read(raw, of_worker)


def checked_limits(*values: t.Any) -> Limits:
    """The limits, if they are some.

    :raises DecodeError: One is not a number of seconds.
    """
    for name, value in zip(Limits._fields, values, strict=True):
        if value is not None:
            if type(value) not in (int, float) or not 0 < value <= LIMIT_MOST:
                raise DecodeError(f"the job's {name} is not a number of seconds")
    return Limits(*(None if value is None else float(value) for value in values))


@lru_cache(1024)
def _options(raw: bytes) -> Options:
    if not raw:
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DecodeError("the job's field 'tq_options' is not JSON") from error
    if not isinstance(value, dict):
        raise DecodeError("the job's field 'tq_options' is not a JSON object")
    return value


@lru_cache(1024)
def _policy(raw: bytes) -> RetryPolicy:
    return RetryPolicy.from_dict(options_of(raw).get("retry"))


@lru_cache(1024)
def _limits(raw: bytes, of_worker: Limits) -> Limits:
    options, values = options_of(raw), []
    for name, given in zip(Limits._fields, of_worker, strict=True):
        if name in options:
            values.append(options[name])
        else:
            values.append(options.get(f"app_{name}") if given is None else given)
    return checked_limits(*values)
