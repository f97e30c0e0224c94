"""Entries that the app's code declares: in its configuration, or beside its tasks."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ..appstate import AppState, Runnable
from ..errors import BrokerUnavailable, ConfigError
from ..nearest import hint
from ..option_values import Seconds
from ..options import CallOptions
from ..registry import AnyTask
from ..signature import Signature, Target
from ..task import Task
from . import writing
from .entries import (
    OPTIONS,
    Entry,
    Misfire,
    Overlap,
    check_against,
    read_entry,
    told,
)
from .schedules import Schedule, read_schedule
from .zones import read_zone

logger: logging.Logger = logging.getLogger(__name__)

P = t.ParamSpec("P")
R = t.TypeVar("R")

AnySchedule = float | timedelta | datetime | str | Schedule
"""Seconds, an instant, a cron text, or ``every(…)`` and ``crontab(…)``."""


class Rules(t.TypedDict, total=False):
    """How an entry fires: parts of ``TASKQUEUE_BEAT_SCHEDULE`` beside its call."""

    tz: str | tzinfo | None
    enabled: bool
    overlap: Overlap
    misfire: Misfire
    grace: Seconds


class PeriodicOptions(CallOptions, Rules, total=False):
    """Keywords of ``add_periodic_task``: options of the call, and the rules."""


@dataclass(frozen=True, slots=True)
class Declared:
    """An entry as it was given: checked, but not yet bound to an app's time zone.

    :param target: What it calls.
    :param parts: As in ``TASKQUEUE_BEAT_SCHEDULE``, ``task`` excepted.
    """

    target: Target
    parts: Mapping[str, t.Any]


class PeriodicDecorator(t.Protocol):
    """``@tq.periodic(…)``: takes a task, or a function to make one of."""

    @t.overload
    def __call__(self, function: Task[P, R], /) -> Task[P, R]: ...

    @t.overload
    def __call__(
        self, function: Callable[P, t.Coroutine[t.Any, t.Any, R]], /
    ) -> Task[P, R]: ...

    @t.overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...

    def __call__(self, function: t.Any, /) -> t.Any:
        """Declare the entry."""


def decorator(
    tasks: Mapping[str, AnyTask],
    make: Callable[..., AnyTask],
    known: dict[str, Declared],
    *,
    schedule: AnySchedule,
    name: str | None,
    parts: Mapping[str, t.Any],
) -> PeriodicDecorator:
    """Make the decorator that ``@tq.periodic(…)`` returns.

    :param tasks: The tasks known to the TaskQueue, by name.
    :param make: ``tq.task``: makes a task of a plain function.
    :param known: The entries declared so far, by name; this one is added.
    :param name: The entry's; ``None`` is the task's name.
    :param parts: The other parts of the entry.
    """
    # A wrong schedule is refused here: the function is not yet registered as a task.
    given = {**parts, "schedule": read_schedule(schedule)}

    def declare(function: t.Any) -> AnyTask:
        task: AnyTask = function if isinstance(function, Task) else make(function)
        if tasks.get(task.name) is not task:
            raise ValueError(
                f"expected a task of this TaskQueue, or a shared one, got {task!r},"
                " which is not registered here"
            )
        _add(known, task, name, task.name, given)
        return task

    return t.cast(PeriodicDecorator, declare)


def add(
    known: dict[str, Declared],
    signature: Signature,
    *,
    schedule: AnySchedule,
    args: Sequence[t.Any],
    kwargs: Mapping[str, t.Any] | None,
    name: str | None,
    given: Mapping[str, t.Any],
) -> None:
    """Declare an entry for a signature: ``tq.add_periodic_task``.

    :param known: The entries declared so far, by name; this one is added.
    :param name: The entry's; ``None`` is the ``repr()`` of the call.
    :param given: The other keywords: :class:`Rules` and options of the call.
    """
    if not isinstance(signature, Signature):
        raise TypeError(f"expected a signature such as add.s(1, 2), got {signature!r}")
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"expected args to be a list or tuple, got {args!r}")
    rules = {part: given[part] for part in given if part in Rules.__optional_keys__}
    options = {part: given[part] for part in given if part not in rules}
    _check_options(options)
    call = signature.clone(args, kwargs, **options)
    parts = {
        "schedule": read_schedule(schedule),
        "args": call.args,
        "kwargs": call.kwargs,
        "options": call.options,
        **rules,
    }
    _add(known, call.target, name, repr(call), parts)


_KEYWORDS = OPTIONS | Rules.__optional_keys__ | {"name", "args", "kwargs"}


def _check_options(options: Mapping[str, t.Any]) -> None:
    """Refuse what is no option of a call; those no entry has are refused with it."""
    for option in options:
        if option not in CallOptions.__optional_keys__:
            raise TypeError(
                f"expected a known keyword of add_periodic_task, got {option!r}"
                f"{hint(option, _KEYWORDS)}; known are {', '.join(sorted(_KEYWORDS))}"
            )


def _add(
    known: dict[str, Declared],
    target: Target,
    name: str | None,
    default: str,
    parts: Mapping[str, t.Any],
) -> None:
    """Declare an entry, unless something is wrong with it."""
    label = default if name is None else name
    entry = read_entry(label, {**parts, "task": target.name}, UTC)
    check_against(entry, {target.name: t.cast(Runnable, target)})
    before = known.get(label)
    if before is not None:
        if before.target.name != target.name:
            raise ValueError(
                f"expected names of entries to be unique, got {label!r} for"
                f" {before.target.name} and {target.name}: give one of them"
                " another name=…"
            )
        # Not an error: a reload, or an app factory called again, declares the same
        # entry once more, perhaps for a new task object of the same name.
        if name is None and before.target is target and before.parts != parts:
            raise ValueError(
                f"there is an entry {label!r} for this task already: give one of them"
                " a name of its own, name=…"
            )
        _warn_of_another(before, entry)
    known[label] = Declared(target, parts)


def _warn_of_another(before: Declared, entry: Entry) -> None:
    """Say so where the same name is declared with another definition."""
    parts = {**before.parts, "task": before.target.name}
    earlier = read_entry(entry.name, parts, UTC)
    try:
        is_same = earlier == entry
    except Exception:  # noqa: BLE001 - an argument's own __eq__
        is_same = False
    if not is_same:
        logger.warning(
            "the entry %r is declared again, with another definition: the later one"
            " counts (%s; before: %s). Two entries need two names",
            entry.name,
            entry.schedule,
            earlier.schedule,
        )


def declared(state: AppState) -> tuple[list[Entry], list[str]]:
    """The entries that an app's code declares, and what is wrong with the others.

    Each entry of ``TASKQUEUE_BEAT_SCHEDULE``, of ``@tq.periodic`` and of
    ``tq.add_periodic_task`` is in one of the two. Needs no Redis; the tasks have to
    be loaded. Schedules that name no zone are in ``TASKQUEUE_TIMEZONE``.

    :return: The entries in this order, and one text for each problem.
    :raises ConfigError: The app cannot sign.
    """
    zone = read_zone(state.config.timezone)
    entries: list[Entry] = []
    problems: list[str] = []
    seen: set[str] = set()
    for name, parts in _given(state):
        if not isinstance(name, str):
            problems.append(
                "expected the names of entries in TASKQUEUE_BEAT_SCHEDULE to be texts,"
                f" got {name!r}"
            )
            continue
        if name in seen:
            problems.append(
                f"the entry {name!r} stands in TASKQUEUE_BEAT_SCHEDULE and is declared"
                " in the code, too: give one of them another name"
            )
            continue
        seen.add(name)
        try:
            entry = read_entry(name, parts, zone)
            check_against(entry, state.tasks)
        except (TypeError, ValueError) as error:
            problems.append(str(error))
            continue
        problem = _problem(state, entry)
        if problem:
            problems.append(problem)
        else:
            entries.append(entry)
    return entries, problems


def _given(state: AppState) -> Iterator[tuple[t.Any, t.Any]]:
    """Names and parts of all declared entries, not yet checked for this app."""
    yield from state.config.beat_schedule.items()
    for name, entry in state.provided.entries.items():
        yield name, {**entry.parts, "task": entry.target.name}


def _problem(state: AppState, entry: Entry) -> str:
    """Why an entry could not be written; ``""`` where it can."""
    try:
        writing.draft(state, entry, "code")
    except (BrokerUnavailable, ConfigError):
        raise
    except Exception as error:  # noqa: BLE001 - a task's own apply_async
        return f"entry {entry.name!r}: {told(error)}"
    return ""
