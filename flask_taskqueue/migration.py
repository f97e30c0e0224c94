"""Celery's settings to ours. Pure: reads no configuration and prints nothing."""

from __future__ import annotations

import difflib
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from . import celery_values as values
from . import parsing
from .broker.url import SCHEMES, mask
from .celery_settings import KEYS, KNOWN, NO_COUNTERPART, OPTIONS, name_of
from .config import load_config
from .errors import ConfigError

_TRANSPORT = {
    "visibility_timeout": "a job runs again when its worker is lost, not after a time",
    "global_keyprefix": "keys are RQ's, rq:…; give the app a database of its own",
    "queue_order_strategy": "a worker serves its queues in the order listed",
    "priority_steps": "list queues in order of urgency in TASKQUEUE_QUEUES",
}
_POOLS = {"processes": "prefork", "prefork": "prefork", "solo": "solo"}
_NO_POOL = {"eventlet": "eventlet is not offered"}


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of Celery's settings.

    :param config: Values by our key; :func:`.config.load_config` accepts them.
    :param options: Of ``flask worker``, such as ``-c 4``.
    :param no_counterpart: Reasons by setting, spelled as it was found, or by a part
        of it, as in ``beat_schedule['dusk']``.
    :param notes: What differs, by our key.
    """

    config: dict[str, t.Any] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    no_counterpart: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def translate(settings: Mapping[str, t.Any]) -> Translation:
    """Translate settings, in any of Celery's spellings.

    :param settings: Nothing else may be among them: what is unknown is reported.
    """
    done = Translation()
    found = _Found(done.no_counterpart)
    for spelling, value in settings.items():
        found.add(spelling, value)
    for name, spelling in found.spellings.items():
        if name in NO_COUNTERPART:
            done.no_counterpart[spelling] = NO_COUNTERPART[name]
    for key, read in _READERS.items():
        _put(done, found, key, read)
    done.options.extend(_options(found))
    _report_unused(done, found)
    for key, (says, text) in _NOTES.items():
        if says(done.config.get(key)):
            done.notes[key] = text
    return done


def _report_unused(done: Translation, found: _Found) -> None:
    """What says something that went nowhere, such as TLS without a URL."""
    for name, key in KEYS.items():
        spelling = found.spellings.get(name)
        if spelling and found.values[name] and key not in done.config:
            done.no_counterpart.setdefault(spelling, f"says nothing for {key} alone")


@dataclass(frozen=True, slots=True)
class _Found:
    """Settings by today's names, and how each was spelled.

    :param lost: Where reasons go.
    """

    lost: dict[str, str]
    values: dict[str, t.Any] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)

    def add(self, spelling: str, value: t.Any) -> None:
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
        return self.values.get(name)

    def lose(self, name: str, reason: str) -> None:
        self.lost[self.spellings.get(name, name)] = reason

    def lose_parts(self, name: str, parts: Mapping[str, str]) -> None:
        for part, reason in parts.items():
            self.lost[f"{self.spellings.get(name, name)}[{part!r}]"] = reason


def _put(done: Translation, found: _Found, key: str, read: _Reader) -> None:
    """Add a key if it has a value that goes with those before it."""
    names = [name for name in found.values if KEYS.get(name) == key]
    try:
        value = read(found)
        if value is None:
            return
        load_config({**done.config, key: value}, {})
    except (ValueError, TypeError, KeyError, ImportError) as error:
        text = str(error) if isinstance(error, ConfigError) else f"{key}: {error}"
        for name in names or ["result_backend"]:  # the one that stands in
            found.lose(name, text)
    else:
        done.config[key] = value


def _url(found: _Found) -> str | None:
    transport = found.get("broker_transport_options") or {}
    found.lose_parts(
        "broker_transport_options",
        {
            name: _TRANSPORT.get(name, "connections have fixed options")
            for name in transport
            if name not in ("master_name", "sentinel_kwargs")
        },
    )
    broker = found.get("broker_url")
    if url := _redis(broker, transport, found.get("broker_use_ssl")):
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
    return backend


def _redis(value: t.Any, transport: Mapping[str, t.Any], tls: t.Any) -> str | None:
    """The URL, if it is one of a Redis."""
    url = values.url(value, transport, tls) if value else ""
    return url if url.partition("://")[0] in SCHEMES else None


def _queues(found: _Found) -> list[t.Any] | None:
    value = found.get("task_queues")
    if not value:
        return None
    kept, lost = values.queues(value)
    found.lose_parts("task_queues", lost)
    return kept or None


def _beat_schedule(found: _Found) -> dict[str, t.Any] | None:
    value = found.get("beat_schedule")
    if not value:
        return None
    kept, lost = values.beat_schedule(value)
    found.lose_parts("beat_schedule", lost)
    return kept or None


def _routes(found: _Found) -> t.Any:
    value = found.get("task_routes")
    return values.routes(value) if value else None


def _listed(found: _Found, *names: str) -> list[t.Any]:
    """What some settings list, each value once."""
    listed: dict[t.Any, None] = {}
    for name in names:
        value = found.get(name) or ()
        listed |= dict.fromkeys([value] if isinstance(value, str) else value)
    return list(listed)


def _imports(found: _Found) -> list[str] | None:
    return _listed(found, "imports", "include") or None


def _signs(found: _Found) -> bool | None:
    # "auth" is Celery's name of signed JSON; pickle is only written signed here.
    return True if found.get("task_serializer") in ("auth", "pickle") else None


def _serializer(found: _Found) -> t.Any:
    value = found.get("task_serializer")
    return "json" if value == "auth" else value


def _accept_content(found: _Found) -> list[str] | None:
    listed = _listed(found, "accept_content", "result_accept_content")
    if not listed:
        return None
    kept = [_serializer(found) or "json"]
    for name in listed:
        try:
            kept.append(parsing.content("json" if name == "auth" else name))
        except ValueError as error:
            reason = str(error) or "only json, msgpack and pickle are read"
            found.lose_parts("accept_content", {name: reason})
    return list(dict.fromkeys(kept))


def _kept_for(name: str) -> Callable[[_Found], int | None]:
    """Reader of a time to keep something."""

    def read(found: _Found) -> int | None:
        value = found.get(name)
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if not value and name in found.values:
            raise ValueError("nothing is kept for ever; say for how many seconds")
        return None if value is None else int(value)

    return read


def _same(name: str) -> _Reader:
    return lambda found: found.get(name)


def _zone(found: _Found) -> str | None:
    value = found.get("timezone")
    return None if value is None else str(value)  # an object of zoneinfo or pytz


def _options(found: _Found) -> t.Iterator[str]:
    for name, option in OPTIONS.items():
        value = found.get(name)
        if not value:
            continue
        if name == "worker_pool" and value not in _POOLS:
            found.lose(name, _NO_POOL.get(value, f"the pool {value} is not there yet"))
        elif name == "worker_pool":
            yield f"{option} {_POOLS[value]}"
        else:
            yield f"{option} {value}"


_Reader: t.TypeAlias = Callable[[_Found], t.Any]

# In this order: each is checked together with those before it.
_READERS: dict[str, _Reader] = {
    "TASKQUEUE_URL": _url,
    "TASKQUEUE_DEFAULT_QUEUE": _same("task_default_queue"),
    "TASKQUEUE_QUEUES": _queues,
    "TASKQUEUE_ROUTES": _routes,
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
    "TASKQUEUE_BEAT_SCHEDULE": _beat_schedule,
    "TASKQUEUE_EAGER": _same("task_always_eager"),
    "TASKQUEUE_EAGER_PROPAGATES": _same("task_eager_propagates"),
}


def _calls(routes: t.Any) -> bool:
    """Whether a function is among the routes."""
    return any(map(callable, routes if isinstance(routes, list) else [routes]))


_NOTES: dict[str, tuple[Callable[[t.Any], bool], str]] = {
    "TASKQUEUE_SIGN": (bool, "needs the app's SECRET_KEY"),
    "TASKQUEUE_QUEUES": (bool, "a worker serves them in this order"),
    "TASKQUEUE_ROUTES": (_calls, "a function is called without Celery's task="),
    "TASKQUEUE_BEAT_SCHEDULE": (bool, "checked, and used as soon as there is a beat"),
    "TASKQUEUE_EAGER": (
        bool,
        "raises in the caller, unless TASKQUEUE_EAGER_PROPAGATES is false",
    ),
}
"""What to know about a value, by its key: if the test says so, the text."""
