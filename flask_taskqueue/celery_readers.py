"""Each key of ours, read from Celery's settings. What goes nowhere is named."""

from __future__ import annotations

import difflib
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from . import celery_beat, celery_routing, celery_url, parsing
from .broker.url import SCHEMES, mask
from .celery_settings import KEYS, KNOWN, OPTIONS, Lost, name_of

_TRANSPORT = {
    "visibility_timeout": "a job runs again when its worker is lost, not after a time",
    "global_keyprefix": "keys are RQ's, rq:…; give the app a database of its own",
    "queue_order_strategy": "a worker serves its queues in the order listed",
    "priority_steps": "list queues in order of urgency in TASKQUEUE_QUEUES",
}
_POOLS = {"processes": "prefork", "prefork": "prefork", "solo": "solo"}
_NO_POOL = {"eventlet": "eventlet is not offered"}


@dataclass(frozen=True, slots=True)
class Found:
    """Celery's settings by today's names, and how each was spelled.

    :param lost: Where reasons go, by setting or part of one, as it was spelled.
    """

    lost: dict[str, str]
    values: dict[str, t.Any] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)

    def add(self, spelling: str, value: t.Any) -> None:
        """Take in a setting, unless Celery has none of this name."""
        name = name_of(spelling)
        if name is None:
            bare = spelling.lower().removeprefix("celery_")
            near = difflib.get_close_matches(bare, KNOWN, n=1, cutoff=0.8)
            self.lost[spelling] = "Celery knows no such setting" + (
                f"; the nearest is {near[0]}" if near else ""
            )
        elif name in self.values:
            self.lost[spelling] = f"{self.spellings[name]} says this already"
        else:
            self.values[name], self.spellings[name] = value, spelling

    def get(self, name: str) -> t.Any:
        """Its value, or ``None``."""
        return self.values.get(name)

    def lose(self, name: str, reason: str, where: str = "") -> None:
        """Say why a setting has no counterpart.

        :param where: The part of it that has none, as code: ``['a'][0]``.
        """
        self.lost[self.spellings.get(name, name) + where] = reason

    def lose_parts(self, name: str, parts: Lost) -> None:
        """Say why parts of a setting have no counterpart."""
        for part, reason in parts.items():
            where = "".join(f"[{each!r}]" for each in part)
            self.lose(name, reason, where)

    def lose_key(self, key: str, reason: str) -> None:
        """Lose what became this key of ours, or the setting that stood in for it."""
        names = [name for name in self.values if KEYS.get(name) == key]
        for name in names or ["result_backend"]:
            self.lose(name, reason)


def _url(found: Found) -> str | None:
    transport = found.get("broker_transport_options") or {}
    lost: Lost = {
        (name,): _TRANSPORT.get(name, "connections have fixed options")
        for name in transport
        if name not in ("master_name", "sentinel_kwargs")
    }
    found.lose_parts("broker_transport_options", lost)
    broker, tls = found.get("broker_url"), found.get("broker_use_ssl")
    if url := _redis(broker, transport, tls):
        _report_unused(found, url)
        return url
    backend = _redis(
        found.get("result_backend"),
        found.get("result_backend_transport_options") or {},
        found.get("redis_backend_use_ssl"),
    )
    if broker:
        instead = "; the URL is that of result_backend" if backend else ""
        found.lose(
            "broker_url", f"{mask(str(broker))!r} is not Redis or Valkey{instead}"
        )
    elif tls:
        found.lose("broker_use_ssl", "says nothing without a broker_url")
    return backend


def _report_unused(found: Found, url: str) -> None:
    """What of the broker's settings is not in the URL made of them."""
    tls = found.get("broker_use_ssl")
    names = tls if isinstance(tls, Mapping) else ()
    only = f"only {', '.join(celery_url.TLS)} are read"
    lost: Lost = {(name,): only for name in names if name not in celery_url.TLS}
    found.lose_parts("broker_use_ssl", lost)
    if not url.startswith("redis+sentinel:"):
        urls = celery_url.listed(found.get("broker_url"))
        spare = "one URL is used; Sentinel is there for failover"
        found.lose_parts("broker_url", {(n,): spare for n in range(1, len(urls))})


def _redis(value: t.Any, transport: Mapping[str, t.Any], tls: t.Any) -> str | None:
    """The URL, if it is one of a Redis."""
    url = celery_url.url(celery_url.listed(value), transport, tls) if value else ""
    return url if url.partition("://")[0] in SCHEMES else None


def _in_parts(
    name: str, translated: Callable[[Found, t.Any], tuple[t.Any, Lost]]
) -> Reader:
    """Reader of a setting of which parts may have no counterpart.

    :param translated: Gives the value, empty if there is none, and the parts lost.
    """

    def read(found: Found) -> t.Any:
        value = found.get(name)
        if not value:
            return None
        kept, lost = translated(found, value)
        found.lose_parts(name, lost)
        return kept or None

    return read


def _beat_schedule(found: Found, value: t.Any) -> tuple[dict[str, t.Any], Lost]:
    return celery_beat.beat_schedule(value, _content_type(found))


def _listed(found: Found, *names: str) -> list[t.Any]:
    """What some settings list, each value once."""
    listed: dict[t.Any, None] = {}
    for name in names:
        value = found.get(name) or ()
        listed |= dict.fromkeys([value] if isinstance(value, str) else value)
    return list(listed)


def _imports(found: Found) -> list[str] | None:
    return _listed(found, "imports", "include") or None


def _signs(found: Found) -> bool | None:
    # "auth" is Celery's name of signed JSON; pickle is only written signed here.
    return True if found.get("task_serializer") in ("auth", "pickle") else None


def _serializer(found: Found) -> t.Any:
    value = found.get("task_serializer")
    return "json" if value == "auth" else value


def _content_type(found: Found) -> str:
    """What the arguments of calls go into: JSON if the setting cannot be used."""
    try:
        return parsing.content(_serializer(found))
    except ValueError:
        return "json"


def _accept_content(found: Found) -> list[str] | None:
    listed = _listed(found, "accept_content", "result_accept_content")
    if not listed:
        return None
    kept = [_content_type(found)]
    for name in listed:
        try:
            kept.append(parsing.content("json" if name == "auth" else name))
        except ValueError as error:
            reason = str(error) or "only json, msgpack and pickle are read"
            found.lose_parts("accept_content", {(name,): reason})
    return list(dict.fromkeys(kept))


def _kept_for(name: str) -> Callable[[Found], int | None]:
    """Reader of a time to keep something."""

    def read(found: Found) -> int | None:
        value = found.get(name)
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if not value and name in found.values:
            raise ValueError("nothing is kept for ever; say for how many seconds")
        return None if value is None else int(value)

    return read


def _same(name: str) -> Reader:
    return lambda found: found.get(name)


def _zone(found: Found) -> str | None:
    value = found.get("timezone")
    return None if value is None else str(value)  # an object of zoneinfo or pytz


def options(found: Found) -> t.Iterator[str]:
    """Words of a ``flask worker`` command."""
    for name, option in OPTIONS.items():
        if not found.get(name):
            continue
        value = str(found.get(name))
        if name == "worker_max_memory_per_child" and value.isdecimal():
            value = f"{int(value) / 1024:g}"  # Celery's are KiB, ours MiB
        if name == "worker_pool" and value not in _POOLS:
            found.lose(name, _NO_POOL.get(value, f"the pool {value} is not there yet"))
        else:
            yield option
            yield _POOLS[value] if name == "worker_pool" else value


Reader: t.TypeAlias = Callable[[Found], t.Any]
"""Gives a key's value, or ``None`` if there is none.

It raises ``ValueError`` or ``TypeError`` if the setting cannot be used.
"""

READERS: dict[str, Reader] = {
    "TASKQUEUE_URL": _url,
    "TASKQUEUE_DEFAULT_QUEUE": _same("task_default_queue"),
    "TASKQUEUE_QUEUES": _in_parts(
        "task_queues", lambda _, value: celery_routing.queues(value)
    ),
    "TASKQUEUE_ROUTES": _in_parts(
        "task_routes", lambda _, value: celery_routing.routes(value)
    ),
    "TASKQUEUE_IMPORTS": _imports,
    "TASKQUEUE_SIGN": _signs,
    "TASKQUEUE_SERIALIZER": _serializer,
    "TASKQUEUE_ACCEPT_CONTENT": _accept_content,
    "TASKQUEUE_TIME_LIMIT": _same("task_time_limit"),
    "TASKQUEUE_SOFT_TIME_LIMIT": _same("task_soft_time_limit"),
    "TASKQUEUE_RESULT_TTL": _kept_for("result_expires"),
    "TASKQUEUE_FAILURE_TTL": _kept_for("result_failure_expires"),
    "TASKQUEUE_IGNORE_RESULT": _same("task_ignore_result"),
    "TASKQUEUE_TIMEZONE": _zone,
    "TASKQUEUE_BEAT_SCHEDULE": _in_parts("beat_schedule", _beat_schedule),
    "TASKQUEUE_EAGER": _same("task_always_eager"),
    "TASKQUEUE_EAGER_PROPAGATES": _same("task_eager_propagates"),
}
"""By key. Each is read by itself; what does not go together is seen later."""
