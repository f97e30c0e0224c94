"""Celery's and kombu's values as plain ones: URLs, queues, routes, schedules.

Neither package is needed: an object is known by its attributes.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

from werkzeug.utils import import_string

_SCHEMES = {"redis+socket": "unix", "socket": "unix", "sentinel": "redis+sentinel"}
_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_CRON = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_KINDS = (None, "direct", "topic")

Lost: t.TypeAlias = dict[str, str]
"""Reasons by the part of a value that has no counterpart."""


def url(value: t.Any, transport: Mapping[str, t.Any], tls: t.Any = None) -> str:
    """``TASKQUEUE_URL`` for Celery's ``broker_url``.

    :param value: A URL, several separated by ``;``, or a list of them.
    :param transport: ``broker_transport_options``.
    :param tls: ``broker_use_ssl``: a flag, or a dict of redis-py's arguments.
    :raises ValueError: It is no URL, or a Sentinel's without a ``master_name``.
    """
    urls = value.split(";") if isinstance(value, str) else list(value or ())
    if not urls or not all(isinstance(each, str) for each in urls):
        raise ValueError("expected a URL or a list of URLs")
    parts = urlsplit(urls[0] if "://" in urls[0] else f"{urls[0]}://")
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    place, path, query = parts.netloc, parts.path, dict(parse_qsl(parts.query))
    if scheme == "redis+sentinel":
        place, path = _sentinels(urls), f"/{_master(transport)}{path.rstrip('/')}"
        for name, option in (transport.get("sentinel_kwargs") or {}).items():
            query[f"sentinel_{name}"] = str(option)
    elif scheme == "unix":
        query |= {"db": query.pop("virtual_host")} if "virtual_host" in query else {}
    elif scheme in ("redis", "rediss"):
        path = f"/{path.strip('/')}" if path.strip("/") else ""
        scheme = "rediss" if tls else scheme
    query |= _tls({**query, **(tls if isinstance(tls, Mapping) else {})})
    return f"{scheme}://{place}{path}" + (f"?{urlencode(query)}" if query else "")


def _master(transport: Mapping[str, t.Any]) -> str:
    if not transport.get("master_name"):
        raise ValueError("expected a 'master_name' in broker_transport_options")
    return str(transport["master_name"])


def _sentinels(urls: Iterable[str]) -> str:
    """All their hosts, after the login of the first."""
    places = [urlsplit(each).netloc.rpartition("@") for each in urls]
    login, at, _ = places[0]
    return login + at + ",".join(host for _, _, host in places)


def _tls(options: Mapping[str, t.Any]) -> dict[str, str]:
    """redis-py's arguments, as it reads them from a URL."""
    found = {name: options[name] for name in _TLS if options.get(name) is not None}
    if "ssl_cert_reqs" in found:  # ssl.CERT_NONE, or its name
        reqs = found["ssl_cert_reqs"]
        name = str(getattr(reqs, "name", reqs))
        found["ssl_cert_reqs"] = name.removeprefix("CERT_").lower()
    return {name: str(value) for name, value in found.items()}


def queues(value: t.Any) -> tuple[list[t.Any], Lost]:
    """``TASKQUEUE_QUEUES`` for ``task_queues``: names, dicts or kombu's ``Queue``s.

    :return: Those of a set by name: it has no order.
    :raises ValueError: It is no collection.
    """
    if isinstance(value, Mapping):
        value = [{**entry, "name": name} for name, entry in value.items()]
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("expected a list, set or dict of queues")
    entries = [_queue(entry) for entry in value]
    if isinstance(value, set | frozenset):
        entries.sort()
    lost = {
        name: f"it has a {kind} exchange; enqueue one call for each queue"
        for name, _, kind in entries
        if kind not in _KINDS
    }
    kept = [
        {"name": name, "routing_key": key} if key else name
        for name, key, _ in entries
        if name not in lost
    ]
    return kept, lost


def _queue(entry: t.Any) -> tuple[str, str, str | None]:
    """Name, routing key or an empty text, and type of the exchange."""
    if isinstance(entry, str):
        return entry, "", None
    if isinstance(entry, Mapping):
        key = entry.get("routing_key") or entry.get("binding_key")
        return entry["name"], key or "", entry.get("exchange_type")
    kind = getattr(getattr(entry, "exchange", None), "type", None)
    name = getattr(entry, "name", None)
    if not isinstance(name, str):
        raise ValueError(f"expected a queue, got {entry!r}")
    return name, getattr(entry, "routing_key", None) or "", kind


def routes(value: t.Any) -> t.Any:
    """``TASKQUEUE_ROUTES`` for ``task_routes``.

    :return: A dict, a function, or a list of both.
    :raises ValueError: A part of it has no counterpart.
    """
    if not isinstance(value, list | tuple):
        return _routes(value)
    entries = [_routes(entry) for entry in value]
    return entries[0] if len(entries) == 1 else entries


def _routes(entry: t.Any) -> t.Any:
    if isinstance(entry, str):  # where a function is
        entry = import_string(entry)
    if isinstance(entry, Mapping | list | tuple):
        return {
            task_pattern(name): _route(route) for name, route in dict(entry).items()
        }
    if callable(entry) and not hasattr(entry, "route_for_task"):
        return entry
    raise ValueError(
        "expected dicts and functions: make a router object a function"
        " (name, args, kwargs, options) that returns the queue"
    )


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


def _route(value: t.Any) -> t.Any:
    if not isinstance(value, Mapping):
        return getattr(value, "name", value)
    if value.get("exchange_type") not in _KINDS:
        raise ValueError(f"there is no {value['exchange_type']} exchange")
    queue, key = value.get("queue"), value.get("routing_key")
    queue = getattr(queue, "name", queue)
    if key is None:
        return queue or {}
    return {"queue": queue, "routing_key": key} if queue else {"routing_key": key}


def beat_schedule(value: t.Any) -> tuple[dict[str, t.Any], Lost]:
    """``TASKQUEUE_BEAT_SCHEDULE`` for ``beat_schedule``.

    :raises ValueError: It is no dict.
    """
    if not isinstance(value, Mapping):
        raise ValueError("expected a dict of entries by name")
    kept: dict[str, t.Any] = {}
    lost: Lost = {}
    for name, entry in value.items():
        try:
            kept[str(name)] = _entry(entry)
        except ValueError as error:
            lost[str(name)] = str(error)
    return kept, lost


def _entry(value: t.Any) -> dict[str, t.Any]:
    if not isinstance(value, Mapping) or not {"task", "schedule"} <= value.keys():
        raise ValueError("expected a dict with 'task' and 'schedule'")
    args = value.get("args") or ()
    if not isinstance(args, list | tuple):
        raise ValueError(f"expected 'args' to be a list or tuple, got {args!r}")
    entry = {"task": value["task"], "schedule": schedule(value["schedule"])}
    more = {"args": args, **{name: value.get(name) for name in ("kwargs", "options")}}
    return entry | {name: each for name, each in more.items() if each}


def schedule(value: t.Any) -> float | str:
    """Seconds, or a cron text of five fields, for one of Celery's schedules.

    :raises ValueError: It depends on the sun, or is of a class of its own.
    """
    value = getattr(value, "run_every", value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float | str):
        return value
    fields = [getattr(value, f"_orig_{name}", None) for name in _CRON]
    if None in fields:
        raise ValueError(f"expected seconds or a crontab, got {value!r}")
    return " ".join(map(_cron_field, fields))


def _cron_field(value: t.Any) -> str:
    if isinstance(value, str | int):
        return re.sub(r"\s", "", str(value))
    return ",".join(map(str, sorted(value)))
