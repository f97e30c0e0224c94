"""Task name and routing key to queue. Pure: decides, writes nothing."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .patterns import (
    check_name_pattern,
    check_pattern,
    check_queue_name,
    check_routing_key,
    is_pattern,
    matches,
)

_EXCHANGE_TYPES = (None, "direct", "topic")


def _only(entry: Mapping[t.Any, t.Any], known: tuple[str, ...]) -> None:
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise ValueError(
            f"expected no keys other than {', '.join(map(repr, known))},"
            f" got {', '.join(map(repr, unknown))}"
        )


@dataclass(frozen=True, slots=True)
class QueueRule:
    """One entry of ``TASKQUEUE_QUEUES``.

    :param name: The queue.
    :param routing_key: Pattern of the routing keys it takes; ``None`` takes none.
    """

    name: str
    routing_key: str | None = None

    @classmethod
    def parse(cls, entry: object) -> QueueRule:
        """The rule of a name, or of ``{"name": …, "routing_key": …}``.

        :raises ValueError: It is neither, or has other keys.
        """
        if isinstance(entry, QueueRule):
            return entry
        if isinstance(entry, str):
            return cls(check_queue_name(entry))
        if not isinstance(entry, Mapping) or "name" not in entry:
            raise ValueError(
                "expected a queue to be a name or a dict with 'name' and"
                f" 'routing_key', got {entry!r}"
            )
        _only(entry, ("name", "routing_key"))
        pattern = entry.get("routing_key")
        return cls(
            check_queue_name(entry["name"]),
            None if pattern is None else check_pattern(pattern),
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Where a route sends a task: a queue, or a key that finds one.

    :param queue: Wins over ``routing_key``.
    :param routing_key: Is held against ``TASKQUEUE_QUEUES``.
    """

    queue: str | None
    routing_key: str | None

    @classmethod
    def parse(cls, value: object) -> Route:
        """The route of a queue name, or of ``{"queue": …, "routing_key": …}``.

        Celery's ``exchange`` and ``exchange_type`` may stand beside them and change
        nothing: there is no exchange, and keys are matched as a topic exchange does.

        :raises ValueError: It is neither, a dict that says nothing, or its exchange
            is of a type that is not direct or topic.
        """
        if isinstance(value, str):
            return cls(check_queue_name(value), None)
        if not isinstance(value, Mapping):
            raise ValueError(
                "expected a route to be a queue name or a dict with 'queue' or"
                f" 'routing_key', got {value!r}"
            )
        _only(value, ("queue", "routing_key", "exchange", "exchange_type"))
        kind = value.get("exchange_type")
        if kind not in _EXCHANGE_TYPES:
            raise ValueError(
                f"expected 'exchange_type' to be 'direct' or 'topic', got {kind!r}"
            )
        queue, key = value.get("queue"), value.get("routing_key")
        if queue is None and key is None:
            raise ValueError(
                f"expected a route to have 'queue' or 'routing_key', got {value!r}"
            )
        return cls(
            None if queue is None else check_queue_name(queue),
            None if key is None else check_routing_key(key),
        )


RouteLookup: t.TypeAlias = Callable[
    [str, Sequence[t.Any], Mapping[str, t.Any], Mapping[str, t.Any]], Route | None
]
"""Finds the route of a call (name, args, kwargs, options), or ``None``."""


def parse_routes(routes: object) -> tuple[RouteLookup, ...]:
    """The lookups of ``TASKQUEUE_ROUTES``, to be asked in order.

    :param routes: A dict, a function, or a list of pairs, dicts and functions.
    :raises ValueError: It is something else, or an entry is.
    """
    if isinstance(routes, Mapping):
        return (_by_name(routes),) if routes else ()
    if callable(routes):
        return (_Function(routes),)
    if isinstance(routes, list | tuple):
        return tuple(_lookup(entry) for entry in routes)
    raise ValueError(
        f"expected routes to be a dict, a list of pairs or a function, got {routes!r}"
    )


def _lookup(entry: object) -> RouteLookup:
    if isinstance(entry, Mapping):
        return _by_name(entry)
    if callable(entry):
        return _Function(entry)
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return _by_name({check_name_pattern(entry[0]): entry[1]})
    raise ValueError(
        "expected an entry of the routes to be a pair of pattern and queue, a dict"
        f" or a function, got {entry!r}"
    )


def _by_name(routes: Mapping[t.Any, t.Any]) -> RouteLookup:
    parsed = {check_name_pattern(k): Route.parse(v) for k, v in routes.items()}
    patterns = [(p, route) for p, route in parsed.items() if is_pattern(p)]

    def lookup(name: str, *_: object) -> Route | None:
        exact = parsed.get(name)
        if exact is not None:
            return exact
        return next((route for p, route in patterns if matches(p, name)), None)

    return lookup


@dataclass(frozen=True, slots=True)
class _Function:
    """A function's routes. It may answer each call otherwise."""

    function: Callable[..., t.Any]

    def __call__(self, name: str, *call: object) -> Route | None:
        answer = self.function(name, *call)
        if answer is None:
            return None
        try:
            return Route.parse(answer)
        except ValueError as error:
            called = getattr(self.function, "__qualname__", repr(self.function))
            raise ValueError(
                f"expected route function {called!r} to return a queue name, a dict"
                f" with 'queue' or 'routing_key', or None for task {name!r}, got"
                f" {answer!r}: {error}"
            ) from None


@dataclass(frozen=True, slots=True)
class Router:
    """Decides the queue of every call of an app.

    :param queues: ``TASKQUEUE_QUEUES``, in order of priority.
    :param routes: ``TASKQUEUE_ROUTES``, as :func:`parse_routes` gives it.
    :param default_queue: Queue of a call that nothing else decides.
    """

    queues: tuple[QueueRule, ...]
    routes: tuple[RouteLookup, ...]
    default_queue: str
    _patterns: tuple[tuple[str, str], ...] = field(init=False, repr=False)
    _plain: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        patterns = tuple((q.routing_key, q.name) for q in self.queues if q.routing_key)
        object.__setattr__(self, "_patterns", patterns)
        object.__setattr__(self, "_plain", not patterns and not self.routes)

    @classmethod
    def parse(cls, queues: object, routes: object, default_queue: object) -> Router:
        """The router of three values as users write them.

        :param queues: A list of what :meth:`QueueRule.parse` takes.
        :param routes: What :func:`parse_routes` takes.
        :param default_queue: A queue name.
        :raises ValueError: One of them, or a part of it, cannot be used.
        """
        return cls(
            parse_queues(queues), parse_routes(routes), check_queue_name(default_queue)
        )

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues a worker serves, each once, in order of priority."""
        return tuple(dict.fromkeys(rule.name for rule in self.queues))

    def queue_for(
        self,
        name: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        options: Mapping[str, t.Any],
        *,
        call_queue: str | None = None,
        call_routing_key: str | None = None,
        task_queue: str | None = None,
        task_routing_key: str | None = None,
    ) -> tuple[str, str | None]:
        """The queue of a call, and the routing key that counts for it.

        The first that gives a queue decides: the call's queue; the call's routing
        key; the task's queue; the task's routing key; the route (its queue, else
        its routing key); the task name, if no routing key was given anywhere; the
        default. Keys and name are held against the patterns of the queues in
        order; one that fits none leaves it to the next step. A queue named by a
        call, task or route need not be among the queues: it is made on first use.
        Route functions are asked only if call and task leave it open. Call and
        task values are taken as checked.

        :param name: Of the task.
        :param args: Positional arguments of the call, for route functions.
        :param kwargs: Keyword arguments of the call, for route functions.
        :param options: Options of the call, for route functions.
        :return: The queue, and the first routing key of call, task and route.
        :raises ValueError: A route function gave an answer that is no route.
        """
        key = call_routing_key or task_routing_key
        if self._plain:  # most apps: no route and no pattern to look at
            return call_queue or task_queue or self.default_queue, key
        queue = (
            call_queue
            or self._matching(call_routing_key)
            or task_queue
            or self._matching(task_routing_key)
        )
        if queue:
            return queue, key
        route = self._route(name, args, kwargs, options)
        if route is not None:
            key = key or route.routing_key
            queue = route.queue or self._matching(route.routing_key)
        if not queue and not key:
            queue = self._matching(name)
        return queue or self.default_queue, key

    def fixed_queue(
        self, name: str, task_queue: str | None, task_routing_key: str | None
    ) -> str | None:
        """The queue of every call of a task that asks for none.

        :return: ``None`` where each call has to be asked for: a route is a function,
            and the task does not decide.
        """
        if any(isinstance(lookup, _Function) for lookup in self.routes):
            return task_queue or self._matching(task_routing_key)
        return self.queue_for(
            name, (), {}, {}, task_queue=task_queue, task_routing_key=task_routing_key
        )[0]

    def _matching(self, key: str | None) -> str | None:
        if not key:
            return None
        return next((q for p, q in self._patterns if matches(p, key)), None)

    def _route(
        self,
        name: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        options: Mapping[str, t.Any],
    ) -> Route | None:
        for lookup in self.routes:
            route = lookup(name, args, kwargs, options)
            if route is not None:
                return route
        return None


def parse_queues(queues: object) -> tuple[QueueRule, ...]:
    """The rules of ``TASKQUEUE_QUEUES``.

    :param queues: A list: its order is the priority, so a set will not do.
    :raises ValueError: It is no list, is empty, or an entry cannot be used.
    """
    if not isinstance(queues, list | tuple) or not queues:
        raise ValueError(f"expected a list of at least one queue, got {queues!r}")
    return tuple(QueueRule.parse(entry) for entry in queues)
