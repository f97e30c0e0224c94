"""A task: a function that can also be called later, elsewhere."""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from . import coroutines, on_commit, producer
from .appstate import AppState, current_state
from .arguments import Shape, checked_arguments, module_of
from .broker.wire import NewJob
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

OPTION_NAMES = frozenset(DecoratorOptions.__optional_keys__)


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

    :param function: What it runs; ``None`` where a class defines ``run``.
    :param name: ``module.function`` by default.
    :param bind: The function gets the task as its first argument.
    """

    name: str = ""
    """Under which it is called. Unique among an app's tasks."""

    def __init__(
        self,
        function: t.Callable[..., t.Any] | None = None,
        *,
        name: str | None = None,
        bind: bool = False,
        owner: Owner | None = None,
        **options: t.Unpack[DecoratorOptions],
    ) -> None:
        self.function = function
        self.bind = bind
        self.owner = owner
        target: t.Any = function or type(self)
        module = module_of(target)
        self.origin: tuple[str, str] = (module, target.__qualname__)
        """Module and qualified name: the same again is the same task."""
        own_name = self.name or f"{module}.{target.__name__}"
        self.name = check_task_name(own_name if name is None else name)
        _refuse_unknown(options)
        given = {**_class_options(type(self)), **options}
        self.options: TaskOptions = TaskOptions.of_task(**t.cast(t.Any, given))
        self._shape = Shape(self.name, function or self.run, bind and bool(function))
        self.__doc__ = target.__doc__
        if function is not None:
            self.__module__ = function.__module__
            self.__name__: str = target.__name__
            self.__wrapped__ = function

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
        return self.run(*args, **kwargs)

    def invoke(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> t.Any:
        """Call the function for a job; a coroutine is run to its end."""
        call: t.Callable[..., t.Any] = self
        value = call(*args, **kwargs)
        return coroutines.run(value) if inspect.iscoroutine(value) else value

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
        """Enqueue a call with options.

        :raises TypeError: The arguments do not fit or cannot be encoded, or an
            option is unknown.
        :raises ValueError: An option's value is out of range.
        :raises BrokerUnavailable: Redis did not answer within 2 s.
        """
        state = self._state
        new = self._prepare(state, args, kwargs, options)
        if state.eager:
            return self._run_here(state, new, state.eager_propagates)
        created = producer.send(state, new)
        return AsyncResult(new.id, state, created=created)

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
            ``created`` says nothing.
        :raises RuntimeError: There is no session, or it can only be rolled back.
        :raises TypeError: As :meth:`apply_async`, or ``session`` is none.
        :raises ValueError: An option's value is out of range.
        """
        state = self._state
        transaction = on_commit.transaction_of(state, session)
        if transaction is None:
            return self.apply_async(args, kwargs, **options)
        new = self._prepare(state, args, kwargs, options)
        on_commit.hold(transaction, state, new)
        return AsyncResult(new.id, state)

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
        return self._run_here(state, self._prepare(state, args, kwargs, options), throw)

    def delay_many(
        self, calls: Iterable[Sequence[t.Any]], **options: t.Unpack[CallOptions]
    ) -> list[AsyncResult[R]]:
        """Enqueue one job for each tuple of arguments, in few round trips.

        All are checked before the first is enqueued.

        :param options: Of every call.
        """
        state = self._state
        jobs = [self._prepare(state, args, None, options) for args in calls]
        if state.eager:
            return [self._run_here(state, n, state.eager_propagates) for n in jobs]
        made = producer.send_many(state, jobs)
        return [
            AsyncResult(new.id, state, created=created)
            for new, created in zip(jobs, made, strict=True)
        ]

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

    def _run_here(self, state: AppState, new: NewJob, throw: bool) -> AsyncResult[R]:
        # The worker's code is loaded by those who run it only.
        from . import eager

        error = eager.run(state, new)
        if error is not None and throw:
            raise error
        return AsyncResult(new.id, state)

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

        @property
        def max_retries(self) -> int | None:
            """Retries after the first execution; the running job's inside one."""
            return self._policy.max_retries

        @property
        def default_retry_delay(self) -> Seconds:
            """Seconds before a retry that names none; the running job's inside one."""
            return self._policy.delay

    @property
    def _policy(self) -> RetryPolicy:
        request = self.request
        if request.called_directly:
            return self._state.options_of(self)[0].policy
        return request.policy


def _refuse_unknown(options: Mapping[str, t.Any]) -> None:
    for option in options:
        if option not in OPTION_NAMES:
            known = sorted(OPTION_NAMES | {"name", "bind", "base"})
            raise TypeError(
                f"expected a known task option, got {option!r}; known are"
                f" {', '.join(known)}"
            )


def _class_options(kind: type) -> dict[str, t.Any]:
    """Options given as attributes of a subclass of Task."""
    found: dict[str, t.Any] = {}
    for parent in kind.__mro__:
        if parent is Task:
            break
        own = vars(parent)
        found = {name: own[name] for name in OPTION_NAMES if name in own} | found
    return found
