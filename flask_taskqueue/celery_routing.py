"""Celery's queues and routes as plain values.

Neither Celery nor kombu is needed: an object is known by its attributes.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from werkzeug.utils import import_string

from .celery_settings import NO_AMQP, PRIORITY, Lost
from .option_values import SHARED
from .python_code import as_code
from .routing import parse_queues, parse_routes

_KINDS = (None, "", "direct", "topic")

_OF_QUEUE = (
    *("name", "routing_key", "binding_key", "bindings"),
    *("exchange", "exchange_type", "exchange_durable", "queue_durable", "durable"),
)
"""Parts of a queue that are read, or say what every queue here is."""

_UNUSED = {
    "max_priority": PRIORITY,
    "queue_arguments": NO_AMQP,
    "binding_arguments": NO_AMQP,
    "consumer_arguments": NO_AMQP,
    "expires": "a queue is there while it has jobs",
    "auto_delete": "a queue is there while it has jobs",
    "exclusive": "every worker may serve every queue",
    "message_ttl": "jobs expire, not queues: expires= at the task or the call",
    "max_length": "a queue has no limit",
    "max_length_bytes": "a queue has no limit",
    "no_ack": "a job is done when its outcome is stored",
}
"""Other parts, and why they are not."""


def queues(value: t.Any) -> tuple[list[t.Any], Lost]:
    """``TASKQUEUE_QUEUES`` for ``task_queues``: names, dicts or kombu's ``Queue``s.

    :return: Those of a set by name: it has no order. One of several bindings is
        there once for each of its routing keys.
    :raises ValueError: It is no collection.
    """
    if isinstance(value, Mapping):
        value = [{**entry, "name": name} for name, entry in value.items()]
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("expected a list, set or dict of queues")
    entries = [(_queue_name(entry), entry) for entry in value]
    if isinstance(value, set | frozenset):
        entries.sort(key=lambda pair: str(pair[0]))
    kept: list[t.Any] = []
    lost: Lost = {}
    for index, (name, entry) in enumerate(entries):
        part = (index if name is None else name,)
        try:
            if name is None:
                raise ValueError(f"expected a queue, got {entry!r}")
            rules = _queue(name, entry, lost)
            parse_queues(rules)
            kept += as_code(rules)
        except ValueError as error:
            lost[part] = str(error)
    return kept, lost


def _of(thing: t.Any, name: str) -> t.Any:
    """A part of a dict or an object, if it has it."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _queue_name(entry: t.Any) -> str | None:
    name = entry if isinstance(entry, str) else _of(entry, "name")
    return name if isinstance(name, str) else None


def _queue(name: str, entry: t.Any, lost: Lost) -> list[t.Any]:
    """One rule for each routing key, or the name alone."""
    for part in entry if isinstance(entry, Mapping) else _UNUSED:
        if part not in _OF_QUEUE and _of(entry, part):
            lost[name, part] = _UNUSED.get(part, NO_AMQP)
    bindings = dict(_bindings(entry))
    others = {key: kind for key, kind in bindings.items() if kind not in _KINDS}
    for key, kind in others.items():
        reason = f"it has a {kind} exchange; enqueue one call for each queue"
        if len(others) == len(bindings):
            raise ValueError(reason)
        lost[name, "bindings", key] = reason
    keys = [key for key in bindings if key and key not in others]
    return [{"name": name, "routing_key": key} for key in keys] or [name]


def _bindings(entry: t.Any) -> Iterator[tuple[str, str | None]]:
    """Routing keys, and the type of each one's exchange."""
    kind = _of(entry, "exchange_type") or _of(_of(entry, "exchange"), "type")
    bindings = [
        (_of(each, "routing_key") or "", _of(_of(each, "exchange"), "type"))
        for each in _of(entry, "bindings") or ()
    ]
    own = _of(entry, "routing_key") or _of(entry, "binding_key")
    if own or not bindings:
        yield own or "", kind
    yield from sorted(bindings, key=lambda binding: binding[0])  # kombu's is a set


def routes(value: t.Any) -> tuple[t.Any, Lost]:
    """``TASKQUEUE_ROUTES`` for ``task_routes``.

    :return: A dict, a function, a list of both, or ``None`` if nothing is left.
    """
    lost: Lost = {}
    if not isinstance(value, list | tuple):
        return _router(value, (), lost), lost
    found = (_router(entry, (index,), lost) for index, entry in enumerate(value))
    kept = [entry for entry in found if entry is not None]
    return (kept if len(kept) > 1 else next(iter(kept), None)), lost


def _router(value: t.Any, part: tuple[object, ...], lost: Lost) -> t.Any:
    """An entry of the routes, or ``None`` if nothing of it can be used."""
    try:
        if isinstance(value, str):  # where a function is
            value = import_string(value)
        if isinstance(value, Mapping | list | tuple):
            return _by_name(dict(value), part, lost) or None
        if not callable(value) or hasattr(value, "route_for_task"):
            raise ValueError(
                "expected dicts and functions: make a router object a function"
                " (name, args, kwargs, options) that returns the queue"
            )
        as_code(value)
    except (ValueError, TypeError, ImportError) as error:
        lost[part] = str(error)
        return None
    return value


def _by_name(
    entry: Mapping[t.Any, t.Any], part: tuple[object, ...], lost: Lost
) -> dict[t.Any, t.Any]:
    kept = {}
    for name, value in entry.items():
        try:
            pattern, route = task_pattern(name), _route(value, (*part, name), lost)
            parse_routes({pattern: route})
            as_code({pattern: route})
        except ValueError as error:
            lost[*part, name] = str(error)
        else:
            kept[pattern] = route
    return kept


def task_pattern(name: t.Any) -> t.Any:
    """Our pattern of task names for Celery's.

    Celery's ``*`` crosses dots. Ours does so in a glob, which ``[`` marks as one. At
    the end, after a dot, it is ``#``, which fits the name before that dot, too: a
    module's or a package's, so hardly a task's.
    """
    if not isinstance(name, str) or "*" not in name or "[" in name or "?" in name:
        return name
    if name == "*" or (name.endswith(".*") and "*" not in name[:-1]):
        return f"{name[:-1]}#"
    return re.sub(r"[^*]", r"[\g<0>]", name, count=1)


def _route(value: t.Any, part: tuple[object, ...], lost: Lost) -> t.Any:
    if not isinstance(value, Mapping):
        return _queue_name(value) or value
    if value.get("exchange_type") not in _KINDS:
        raise ValueError(f"there is no {value['exchange_type']} exchange")
    queue, key = value.get("queue"), value.get("routing_key")
    if queue is None and key is None:
        raise ValueError("it names neither a queue nor a routing key")
    for name in value:
        if name not in ("queue", "routing_key", "exchange", "exchange_type"):
            lost[*part, name] = _not_of_a_route(name)
    queue = _queue_name(queue) or queue
    if key is None:
        return queue
    return {"queue": queue, "routing_key": key} if queue else {"routing_key": key}


def _not_of_a_route(name: str) -> str:
    if name == "priority":
        return PRIORITY
    where = "a route says only where to"
    return f"{where}: write @tq.task({name}=…)" if name in SHARED else where
