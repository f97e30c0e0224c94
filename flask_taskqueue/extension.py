"""TaskQueue: binds the parts to a Flask app. The only place that knows them all."""

from __future__ import annotations

import typing as t
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from importlib import import_module

from flask import Flask, Response

from . import context
from .appstate import AppState, Carrier, Permission, Provided, current_app_object
from .arguments import checked_arguments
from .config import load_config
from .discovery import import_related, packages_of
from .jobinfo import JobInfo
from .named import NamedTask
from .options import CallOptions, DecoratorOptions
from .periodic import Periodic
from .registry import (
    AnyTask,
    BindingDecorator,
    Decorator,
    Registry,
    decorate,
    shared,
)
from .result import AsyncResult
from .result import AsyncResult as Handle
from .signature import Signature
from .task import Task

P = t.ParamSpec("P")
R = t.TypeVar("R")

Seconds = float | timedelta
Authorizer = t.TypeVar("Authorizer", bound=Callable[[JobInfo], Permission])


class TaskQueue(Periodic):
    """Background tasks for one Flask app or several.

    :param app: Bound at once; or later, with :meth:`init_app`.
    :param url: Where Redis is, as ``TASKQUEUE_URL``.
    :param settings: Defaults of configuration keys: lower case, without
        ``TASKQUEUE_``. An app's own configuration comes first.
    """

    def __init__(
        self, app: Flask | None = None, *, url: str | None = None, **settings: t.Any
    ) -> None:
        self._settings = settings if url is None else {"url": url, **settings}
        self._registry = Registry(shared=shared)
        self._states: weakref.WeakKeyDictionary[Flask, AppState] = (
            weakref.WeakKeyDictionary()
        )
        self._provided = Provided()
        self._discoveries: list[tuple[tuple[str, ...] | None, str]] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Bind to an app: read its configuration, add commands and the endpoint.

        Opens no connection.

        :raises ConfigError: A configuration value cannot be used.
        :raises RuntimeError: The app has a TaskQueue already.
        """
        if "taskqueue" in app.extensions:
            raise RuntimeError(
                f"the app {app.name!r} has a TaskQueue already: call init_app once"
            )
        config = load_config(app.config, self._settings)
        state = AppState(app, config, self._registry, self._provided)
        state.warn_without_url()
        self._states[app] = state
        app.extensions["taskqueue"] = self
        from . import cli, web

        cli.add_commands(app)
        web.add_pages(app)
        if config.status_prefix is not None:
            web.add_status(app, config.status_prefix)
            if self._provided.authorize_status is not None:
                web.open_status(app, config.status_prefix)

    @property
    def state(self) -> AppState:
        """The current app's state.

        :raises RuntimeError: There is no app context, or its app is not served by
            this TaskQueue.
        """
        return self.state_of(current_app_object())

    def state_of(self, app: Flask) -> AppState:
        """An app's state, whether or not it is the current one.

        :raises RuntimeError: This TaskQueue does not serve it.
        """
        try:
            return self._states[app]
        except KeyError:
            raise RuntimeError(
                f"this TaskQueue does not serve the app {app.name!r}: call its"
                " init_app(app) when the app is made"
            ) from None

    @property
    def tasks(self) -> Mapping[str, AnyTask]:
        """The tasks known here by name, shared ones included. Read-only."""
        return self._registry

    @t.overload
    def task(
        self, function: Callable[P, t.Coroutine[t.Any, t.Any, R]], /
    ) -> Task[P, R]: ...
    @t.overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @t.overload
    def task(
        self,
        /,
        *,
        bind: t.Literal[True],
        name: str | None = None,
        base: type[AnyTask] | None = None,
        **options: t.Unpack[DecoratorOptions],
    ) -> BindingDecorator: ...
    @t.overload
    def task(
        self,
        /,
        *,
        bind: t.Literal[False] = False,
        name: str | None = None,
        base: type[AnyTask] | None = None,
        **options: t.Unpack[DecoratorOptions],
    ) -> Decorator: ...

    def task(
        self, function: t.Any = None, /, base: t.Any = None, **given: t.Any
    ) -> t.Any:
        """Make a function a task.

        :param name: ``module.function`` by default.
        :param bind: The function gets the task as its first argument.
        :param base: A subclass of :class:`Task` to make it of.
        :raises TypeError: An option is unknown, or of the wrong type.
        :raises ValueError: An option is out of range, or the name is taken.
        """
        return decorate(self._registry, self, function, base, given)

    def register_task(self, task: Task[P, R]) -> Task[P, R]:
        """Register an instance of a class-based task.

        :raises ValueError: Its name is taken, or it is registered elsewhere.
        """
        if not isinstance(task, Task):
            raise TypeError(f"expected an instance of a Task class, got {task!r}")
        if shared.get(task.name) is task:
            raise ValueError(f"{task!r} is shared by all: it is registered already")
        if task.owner is not None and task.owner is not self:
            raise ValueError(
                f"{task!r} is registered with another TaskQueue: give each an instance"
                f" of its own, register_task({type(task).__qualname__}())"
            )
        self._registry.add(task)
        task.owner = self
        return task

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | None = None,
        related_name: str | Iterable[str] = "tasks",
    ) -> None:
        """Import modules with tasks when a worker, beat or ``flask tasks`` starts.

        :param packages: The app's package and those of its blueprints by default.
        :param related_name: Name, or names, of the module in each. A missing one is
            skipped.
        """
        given = None if packages is None else tuple(packages)
        names = [related_name] if isinstance(related_name, str) else related_name
        self._discoveries += [(given, name) for name in names]

    def load_tasks(self, app: Flask) -> None:
        """Import what ``TASKQUEUE_IMPORTS`` and :meth:`autodiscover_tasks` name, in an
        app context of their own.

        :raises ImportError: One of ``TASKQUEUE_IMPORTS`` is missing, or a module
            cannot be imported.
        """
        imports = self.state_of(app).config.imports
        if not (imports or self._discoveries):
            return
        with context.alone(app):
            for name in imports:
                import_module(name)
            for packages, related_name in self._discoveries:
                for package in packages_of(app) if packages is None else packages:
                    import_related(package, related_name)

    def carrier(
        self,
        name: str,
        *,
        capture: Callable[[], t.Any],
        restore: Callable[[t.Any], AbstractContextManager[t.Any]],
    ) -> None:
        """Let a value travel with every job from its call to its run.

        :param name: Of the value. The same again replaces it.
        :param capture: Called when a job is enqueued, where it is; gives a JSON
            value, or ``None`` for nothing.
        :param restore: Called with that value when the job runs; gives a context
            manager around it, such as ``flask_babel.force_locale(value)``.
        :raises TypeError: One of them is not callable, or the name is no text.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"expected a carrier's name, got {name!r}")
        for label, function in (("capture", capture), ("restore", restore)):
            if not callable(function):
                raise TypeError(f"expected {label!r} to be callable, got {function!r}")
        self._provided.carriers[name] = Carrier(capture, restore)

    def authorize_status(self, function: Authorizer) -> Authorizer:
        """Decide who may ask for a job at the JSON endpoint. A decorator.

        :param function: Gets a :class:`JobInfo`, in the request. Falsy is refused and
            looks like a job that does not exist; ``True`` is ``{"read"}``; a set is
            exactly that out of ``{"read", "traceback", "revoke"}``.
        """
        if not callable(function):
            raise TypeError(f"expected a function, got {function!r}")
        from . import web

        first = self._provided.authorize_status is None
        for app, state in self._states.items():
            if first and state.config.status_prefix is not None:
                # Flask refuses once the app has served a request.
                web.open_status(app, state.config.status_prefix)
        self._provided.authorize_status = function
        return function

    def send_task(
        self,
        name: str,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        **options: t.Unpack[CallOptions],
    ) -> AsyncResult[t.Any]:
        """Enqueue a call of a task whose code need not be here.

        :raises BrokerUnavailable: Redis did not answer within 2 s.
        """
        known: Task[..., t.Any] | None = self._registry.get(name)
        if known is not None:
            return known.apply_async(args, kwargs, **options)
        target = NamedTask(name, self)
        return target.apply_async(args, kwargs, **t.cast(t.Any, options))

    def signature(
        self,
        name: str,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        immutable: bool = False,
        **options: t.Unpack[CallOptions],
    ) -> Signature:
        """A call to be made later, of a task whose code need not be here."""
        args, kwargs = checked_arguments(args, kwargs)
        known = self._registry.get(name)
        target = NamedTask(name, self) if known is None else known
        given = t.cast("Mapping[str, t.Any]", options)
        return Signature(target, args, kwargs, given, immutable=immutable)

    def AsyncResult(self, id: str) -> Handle[t.Any]:  # Celery's name
        """The handle of a job."""
        return AsyncResult(id, self.state)

    def accepted(self, result: Handle[t.Any] | str) -> Response:
        """A view's answer to a call that takes longer: 202, and where to ask.

        :param result: The job, or its id.
        :raises TypeError: It is neither.
        """
        from .web import status

        state = self.state
        handle = result if isinstance(result, Handle) else Handle(result, state)
        return status.accepted(state, handle)
