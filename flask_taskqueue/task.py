"""A task: a function that can also be called later, elsewhere."""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from . import class_options, context, coroutines, on_commit, producer
from .appstate import AppState, current_state
from .arguments import Shape, checked_arguments, module_of
from .broker.wire import NewJob
from .class_options import InForce
from .dispatch import Call, dispatch, dispatch_all, gathered_by, run_here
from .hooks import Hooks
from .inside import InsideJob
from .option_values import Seconds
from .options import CallOptions, DecoratorOptions, TaskOptions
from .patterns import check_task_name
from .result import AsyncResult
from .retry import RetryPolicy
from .signature import Signature

P = t.ParamSpec("P")
R = t.TypeVar("R")

IN_FORCE = {
    "max_retries": InForce(lambda task: task._policy.max_retries),
    "default_retry_delay": InForce(lambda task: task._policy.delay),
}
"""Options that a task answers with what holds for the running job."""


class Owner(t.Protocol):
    """Where a task is registered: finds the state of the current app."""

    @property
    def state(self) -> AppState:
        """The current app's."""


class Task(InsideJob, Hooks, t.Generic[P, R]):
    """A registered function, with its options.

    It stays callable: ``add(1, 2)`` calls the function here and now.
    A class may be a task, too: it defines :meth:`run`, options are attributes of
    the class, and ``tq.register_task(Report())`` registers it.

    All calls go through :meth:`apply_async`: a class that overrides it changes
    ``delay``, ``delay_many`` and the calls that wait for a commit, too.
    """

    name: str = ""
    """Under which it is called. Unique among an app's tasks."""
    __name__: str
    __wrapped__: t.Callable[..., t.Any]

    def __init_subclass__(cls, **kwargs: t.Any) -> None:
        super().__init_subclass__(**kwargs)
        class_options.prepare(cls, IN_FORCE)

    def __new__(cls, *args: t.Any, **kwargs: t.Any) -> t.Self:
        # Not in __init__: as in Celery, a subclass's own need not call its base's.
        task = super().__new__(cls)
        task._define(None, task.name or None, False, None, {})
        return task

    def __init__(self) -> None:
        """Does nothing: what it consists of is there before."""

    @classmethod
    def from_function(
        cls,
        function: t.Callable[..., t.Any],
        *,
        name: str | None = None,
        bind: bool = False,
        owner: Owner | None = None,
        **options: t.Unpack[DecoratorOptions],
    ) -> t.Self:
        """The task of a function, as the decorators make it.

        :param name: ``module.function`` by default.
        :param bind: The function gets the task as its first argument.
        :raises TypeError: An option is unknown, or of the wrong type.
        :raises ValueError: An option is out of range.
        """
        class_options.check_decorator(options)
        task = super().__new__(cls)
        functools.update_wrapper(task, function, updated=())
        if cls.run is not Task.run:
            # As in Celery the function takes the place of a class's own.
            vars(task)["run"] = functools.partial(Task.run, task)
        task._define(function, name, bind, owner, t.cast(t.Any, options))
        t.cast(t.Any, task).__init__()
        return task

    def _define(
        self,
        function: t.Callable[..., t.Any] | None,
        name: str | None,
        bind: bool,
        owner: Owner | None,
        options: Mapping[str, t.Any],
    ) -> None:
        """Set what it consists of; options come before those of its class."""
        self.function = function
        self.bind = bind
        self.owner = owner
        target: t.Any = function or type(self)
        module = module_of(target)
        self.origin: tuple[str, str] = (module, target.__qualname__)
        """Module and qualified name: the same again is the same task."""
        own_name = f"{module}.{target.__name__}"
        self.name = check_task_name(own_name if name is None else name)
        given = {**class_options.of_class(type(self)), **options}
        self.options: TaskOptions = TaskOptions.of_task(**t.cast(t.Any, given))
        self._shape = Shape(self.name, function or self.run, bind)

    def __setattr__(self, name: str, value: object) -> None:
        if name in class_options.NAMES:
            raise AttributeError(
                f"{name!r} is an option: set it in the class, the decorator or the"
                " call; set on a task it would change nothing"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the task does."""
        if self.function is None:
            raise NotImplementedError(f"{type(self).__qualname__} defines no run()")
        if self.bind:
            return t.cast(R, self.function(self, *args, **kwargs))
        return t.cast(R, self.function(*args, **kwargs))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here, as a plain call."""
        result: R = self._call(self.run, args, kwargs)
        return result

    def invoke(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> t.Any:
        """Call the function for a job; a coroutine is run to its end."""
        call: t.Callable[..., t.Any] = self
        return coroutines.finished(call(*args, **kwargs))

    def check_args(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> None:
        """Return if a call with these arguments fits the signature.

        :raises TypeError: It does not.
        """
        self._shape.check(args, kwargs)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Enqueue a call.

        :raises TypeError: The arguments do not fit, or cannot be encoded.
        :raises BrokerUnavailable: Redis did not answer within 2 s.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        **options: t.Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """Enqueue a call with options. All other ways to enqueue one lead here.

        :raises TypeError: The arguments do not fit or cannot be encoded, or an
            option is unknown.
        :raises ValueError: An option's value is out of range.
        :raises BrokerUnavailable: Redis did not answer within 2 s.
        """
        state = self._state
        return dispatch(state, self._prepare(state, args, kwargs, options))

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Enqueue a call when Flask-SQLAlchemy's ``db.session`` is committed.

        See :meth:`apply_async_on_commit`.
        """
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        session: on_commit.AnySession | None = None,
        **options: t.Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """Enqueue a call after the outermost commit; drop it on rollback.

        Where the session has begun no transaction it is enqueued now. Everything is
        checked now, the times of ``countdown`` and ``expires`` begin with the commit.

        :param session: Whose commit; Flask-SQLAlchemy's ``db.session`` by default.
        :return: Its handle. Before the commit there is no such job (``UNKNOWN``), and
            ``created`` is not known.
        :raises RuntimeError: There is no session, or it can only be rolled back.
        :raises TypeError: As :meth:`apply_async`, or ``session`` is none.
        :raises ValueError: An option's value is out of range.
        """
        with on_commit.holding(self._state, session):
            return self.apply_async(args, kwargs, **options)

    def apply(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        throw: bool = False,
        **options: t.Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """Run a call here, as a worker would, and return its result.

        :param throw: Raise what the task raises.
        """
        state = self._state
        new = self._prepare(state, args, kwargs, options)
        return run_here(state, new, throw)

    def delay_many(
        self, calls: Iterable[Sequence[t.Any]], **options: t.Unpack[CallOptions]
    ) -> list[AsyncResult[R]]:
        """Enqueue one job for each tuple of arguments, in few round trips.

        All are checked before the first is enqueued. Eager ones all run; then the
        first exception is raised, if it is to be.

        :param options: Of every call.
        """
        gathered: list[Call] = []
        calls = list(calls)  # Making them may make calls of its own.
        with context.captured_once(), gathered_by(gathered.append):
            handles = [self.apply_async(args, **options) for args in calls]
        errors = dispatch_all(gathered)
        if errors:
            raise errors[0]
        return handles

    def _prepare(
        self,
        state: AppState,
        args: Sequence[t.Any] | None,
        kwargs: Mapping[str, t.Any] | None,
        options: CallOptions,
    ) -> NewJob:
        args, kwargs = checked_arguments(args, kwargs)
        self.check_args(args, kwargs)
        given = t.cast("Mapping[str, t.Any]", options)
        return producer.prepare(state, self, args, kwargs, given)

    @property
    def _state(self) -> AppState:
        return current_state() if self.owner is None else self.owner.state

    def AsyncResult(self, id: str) -> AsyncResult[R]:  # Celery's name
        """The handle of one of its jobs."""
        return AsyncResult(id, self._state)

    def signature(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        immutable: bool = False,
        **options: t.Unpack[CallOptions],
    ) -> Signature:
        """A call to be made later."""
        args, kwargs = checked_arguments(args, kwargs)
        given = t.cast("Mapping[str, t.Any]", options)
        return Signature(self, args, kwargs, given, immutable=immutable)

    def s(self, *args: t.Any, **kwargs: t.Any) -> Signature:
        """A call to be made later; as a link, the parent's result comes first."""
        return self.signature(args, kwargs)

    def si(self, *args: t.Any, **kwargs: t.Any) -> Signature:
        """A call to be made later with these arguments alone."""
        return self.signature(args, kwargs, immutable=True)

    if t.TYPE_CHECKING:
        # To a type checker they are attributes, which a subclass may set.
        max_retries: int | None
        default_retry_delay: Seconds
    else:
        max_retries = IN_FORCE["max_retries"]
        """Retries after the first execution; the running job's inside one."""
        default_retry_delay = IN_FORCE["default_retry_delay"]
        """Seconds before a retry that names none; the running job's inside one."""

    @property
    def _policy(self) -> RetryPolicy:
        request = self.request
        if request.called_directly:
            return self._state.options_of(self)[0].policy
        return request.policy
