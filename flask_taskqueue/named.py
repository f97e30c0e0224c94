"""A task known by its name alone, whose code is elsewhere."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from . import on_commit
from .arguments import checked_arguments
from .dispatch import dispatch
from .errors import TaskNotRegistered
from .options import TaskOptions
from .patterns import check_task_name
from .producer import prepare
from .result import AsyncResult
from .task import Owner


class NamedTask:
    """A task known by its name alone.

    :param owner: Finds the state of the current app.
    :raises TypeError: The name is no text, or an empty one.
    :raises ValueError: The name cannot be that of a task.
    """

    def __init__(self, name: str, owner: Owner) -> None:
        self.name: str = check_task_name(name)
        self.options: TaskOptions = TaskOptions()
        self._owner = owner

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        """:raises TaskNotRegistered: Always: its code is not here."""
        self.invoke(args, kwargs)

    def check_args(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> None:
        """Its signature is not known here."""

    def invoke(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> t.NoReturn:
        """:raises TaskNotRegistered: Always: its code is not here."""
        raise TaskNotRegistered(f"no task {self.name!r} is registered here")

    def apply_async(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        **options: t.Any,
    ) -> AsyncResult[t.Any]:
        """Enqueue a call."""
        state = self._owner.state
        args, kwargs = checked_arguments(args, kwargs)
        return dispatch(state, prepare(state, self, args, kwargs, options))

    def apply_async_on_commit(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        session: on_commit.AnySession | None = None,
        **options: t.Any,
    ) -> AsyncResult[t.Any]:
        """Enqueue a call after the outermost commit of a session."""
        with on_commit.holding(self._owner.state, session):
            return self.apply_async(args, kwargs, **options)

    def apply(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        **options: t.Any,
    ) -> t.NoReturn:
        """:raises TaskNotRegistered: Always: its code is not here."""
        self.invoke(args or (), kwargs or {})
