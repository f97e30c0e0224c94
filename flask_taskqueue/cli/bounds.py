"""Options of ``flask worker`` that bound its jobs and children, checked together."""

from __future__ import annotations

import typing as t

import click

from ..appstate import AppState
from ..terms import NO_LIMITS, Limits
from ..worker import wear
from ..worker.wear import Lifetime

Command = t.TypeVar("Command", bound=t.Callable[..., t.Any])


class Bounds(t.NamedTuple):
    """What a worker was told of its jobs and children.

    :param lifetime: How long a child is used.
    :param limits: For jobs that name none.
    """

    lifetime: Lifetime
    limits: Limits


_seconds = click.FloatRange(min=0, min_open=True)

_OPTIONS = (
    click.option(
        "--time-limit",
        type=_seconds,
        metavar="S",
        help="Kill a job after S seconds that has no limit of its own.",
    ),
    click.option(
        "--soft-time-limit",
        type=_seconds,
        metavar="S",
        help="Raise SoftTimeLimitExceeded in such a job after S seconds.",
    ),
    click.option(
        "--max-tasks-per-child",
        type=click.IntRange(min=1),
        metavar="N",
        help="Replace a child process that ran N jobs.",
    ),
    click.option(
        "--max-memory-per-child",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MIB",
        help="Replace a child process that takes more MiB after a job.",
    ),
)


def bounds_options(command: Command) -> Command:
    """Give a command the options that :func:`bounds_of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def bounds_of(state: AppState, pool: str, given: t.Mapping[str, t.Any]) -> Bounds:
    """What the options say, by their names.

    :raises click.UsageError: They do not go together, or not with the pool.
    """
    jobs, mebibytes = given["max_tasks_per_child"], given["max_memory_per_child"]
    if pool == "solo":
        _refuse_for_solo(given)
    if mebibytes is not None:
        try:
            wear.resident()
        except OSError as error:
            raise click.UsageError(f"--max-memory-per-child: {error}") from error
    limits = Limits(*(given[name] for name in Limits._fields))
    hard, soft = (
        getattr(state.config, name) if value is None and limits != NO_LIMITS else value
        for name, value in zip(Limits._fields, limits, strict=True)
    )
    if hard is not None and soft is not None and soft > hard:
        raise click.UsageError(
            "expected the soft time limit to be at most the hard one"
            f" ({hard:g} s), got {soft:g} s"
        )
    return Bounds(Lifetime(jobs, mebibytes), limits)


def _refuse_for_solo(given: t.Mapping[str, t.Any]) -> None:
    for name, why in (
        ("time_limit", "cannot stop a running job"),
        ("max_tasks_per_child", "has no child to replace"),
        ("max_memory_per_child", "has no child to replace"),
    ):
        if given[name] is not None:
            option = name.replace("_", "-")
            raise click.UsageError(f"-P solo {why}, so it cannot keep --{option}")
