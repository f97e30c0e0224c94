"""Prepares the job of an entry, as calling its task would. Enqueues nothing."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .. import context
from ..appstate import AppState
from ..broker.wire import NewJob
from ..dispatch import Call, gathered_by
from ..errors import TaskQueueError
from ..named import NamedTask
from ..signature import Target
from .entries import Entry


@dataclass(frozen=True, slots=True)
class _Owner:
    """Where a task that is known by its name alone finds its app."""

    state: AppState


def prepare(state: AppState, entry: Entry, queue: str, job_id: str) -> NewJob:
    """The job of an entry, made in an app context of its own.

    Nothing of the caller goes along: no request, no running job. The task's own
    ``apply_async`` makes it, which a class may override. It is not run here, not even
    in an app whose calls are eager.

    :param queue: Of a task whose code is not here; ``""`` leaves it to the routes.
    :raises TaskQueueError: An ``apply_async`` of the task's own did not enqueue one
        job with the id that it was given.
    :raises TypeError: The arguments do not fit the task, or cannot be encoded.
    """

    def make() -> NewJob:
        with context.alone(state.app):
            return prepare_here(state, entry, queue, job_id)

    return context.run_apart(make)


def prepare_here(state: AppState, entry: Entry, queue: str, job_id: str) -> NewJob:
    """The same as a call from here: what travels with a call goes along."""
    target = t.cast("Target | None", state.tasks.get(entry.task))
    options = {**entry.options, "task_id": job_id}
    if target is None:
        target = NamedTask(entry.task, _Owner(state))
        if queue:
            options.setdefault("queue", queue)
    calls: list[Call] = []
    with gathered_by(calls.append):
        target.apply_async(entry.args, dict(entry.kwargs), **options)
    return _only(calls, state, entry, job_id)


def _only(calls: list[Call], state: AppState, entry: Entry, job_id: str) -> NewJob:
    # The one with the right id is not picked out of several: the others would be lost,
    # or enqueued again by each beat that tries to fire the entry.
    if len(calls) == 1 and calls[0].state is state and calls[0].new.id == job_id:
        return calls[0].new
    made = ", ".join(f"{c.new.fields['tq_task']!s}[{c.new.id}]" for c in calls)
    raise TaskQueueError(
        f"the entry {entry.name!r} cannot be fired: expected apply_async of"
        f" {entry.task} to enqueue one job with the task_id it is given, {job_id};"
        f" got {made or 'no call'}"
    )
