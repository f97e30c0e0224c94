"""Where tasks are kept by name, and the decorators that put them there."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping

from werkzeug.local import LocalProxy

from .options import DecoratorOptions
from .request import current
from .task import Owner, Task

P = t.ParamSpec("P")
R = t.TypeVar("R")

AnyTask = Task[..., t.Any]


class Registry(Mapping[str, AnyTask]):
    """Tasks by name: a TaskQueue's own, then the shared ones. Read-only."""

    def __init__(self, *, shared: Registry | None = None) -> None:
        self._own: dict[str, AnyTask] = {}
        self._shared = shared

    def add(self, task: AnyTask) -> None:
        """Register a task; the same function again replaces it.

        :raises ValueError: Another function has this name.
        """
        known = self._own.get(task.name)
        if known is not None and known.origin != task.origin:
            raise ValueError(
                f"expected task names to be unique, got {task.name!r} for"
                f" {'.'.join(known.origin)} and {'.'.join(task.origin)}: give one of"
                " them a name of its own"
            )
        self._own[task.name] = task

    def __getitem__(self, name: str) -> AnyTask:
        own = self._own.get(name)
        if own is not None:
            return own
        if self._shared is None:
            raise KeyError(name)
        return self._shared[name]

    def get(self, name: str, default: t.Any = None) -> t.Any:
        """The task of this name."""
        # Of Mapping it is slower, and a worker asks for each job.
        found = self._own.get(name)
        if found is None and self._shared is not None:
            return self._shared.get(name, default)
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        if self._shared is not None:
            yield from (name for name in self._shared if name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Registry of {len(self)} tasks>"


shared: Registry = Registry()
"""What ``@shared_task`` registers: every TaskQueue reads it."""


class Decorator(t.Protocol):
    """``@tq.task(…)``: takes a function, gives a task of its signature."""

    @t.overload
    def __call__(
        self, function: t.Callable[P, t.Coroutine[t.Any, t.Any, R]], /
    ) -> Task[P, R]: ...

    @t.overload
    def __call__(self, function: t.Callable[P, R], /) -> Task[P, R]: ...

    def __call__(self, function: t.Any, /) -> t.Any:
        """Make the task."""


class BindingDecorator(t.Protocol):
    """``@tq.task(bind=True)``: the function's first parameter is the task."""

    @t.overload
    def __call__(
        self,
        function: t.Callable[t.Concatenate[t.Any, P], t.Coroutine[t.Any, t.Any, R]],
        /,
    ) -> Task[P, R]: ...

    @t.overload
    def __call__(
        self, function: t.Callable[t.Concatenate[t.Any, P], R], /
    ) -> Task[P, R]: ...

    def __call__(self, function: t.Any, /) -> t.Any:
        """Make the task."""


def decorate(
    registry: Registry,
    owner: Owner | None,
    function: t.Callable[..., t.Any] | None,
    base: type[AnyTask] | None,
    given: t.Mapping[str, t.Any],
) -> t.Any:
    """What ``@tq.task`` and ``@shared_task`` have in common."""
    kind = Task if base is None else base
    if not isinstance(kind, type) or not issubclass(kind, Task):
        raise TypeError(f"expected 'base' to be a subclass of Task, got {base!r}")

    def make(function: t.Any) -> AnyTask:
        unnamed = not callable(function) or not hasattr(function, "__qualname__")
        if unnamed or isinstance(function, Task):
            raise TypeError(f"expected a function to make a task of, got {function!r}")
        task: AnyTask = kind.from_function(function, owner=owner, **given)
        registry.add(task)
        return task

    return make if function is None else make(function)


@t.overload
def shared_task(
    function: t.Callable[P, t.Coroutine[t.Any, t.Any, R]], /
) -> Task[P, R]: ...
@t.overload
def shared_task(function: t.Callable[P, R], /) -> Task[P, R]: ...
@t.overload
def shared_task(
    *,
    bind: t.Literal[True],
    name: str | None = None,
    base: type[AnyTask] | None = None,
    **options: t.Unpack[DecoratorOptions],
) -> BindingDecorator: ...
@t.overload
def shared_task(
    *,
    bind: t.Literal[False] = False,
    name: str | None = None,
    base: type[AnyTask] | None = None,
    **options: t.Unpack[DecoratorOptions],
) -> Decorator: ...


def shared_task(function: t.Any = None, /, base: t.Any = None, **given: t.Any) -> t.Any:
    """Make a function a task of every app that has a TaskQueue.

    For blueprints and libraries, which have no TaskQueue at hand. Options as of
    ``@tq.task``.
    """
    return decorate(shared, None, function, base, given)


def _running() -> AnyTask:
    running = current.get()
    if running is None or not isinstance(running.runner, Task):
        raise RuntimeError("no task is running here")
    return running.runner


current_task: AnyTask = t.cast("AnyTask", LocalProxy(_running))
"""The task whose job runs here; falsy outside one."""
